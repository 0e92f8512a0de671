// A person's word about every needle after a CT (the question judge_needles): accepted, corrected, abandoned.

import { byId, element } from './element.js';
import { correctionText } from './panels.js';
import { say } from './words.js';

let asked = null; // number of the question that the form is of

function proposed(way) {
  const [x, y, z] = way;
  return correctionText({ is_new_path: x !== 0 || y !== 0, across_mm: [x, y], deeper_mm: z });
}

/** The form of a question; drawn once for each, so that what was chosen stays. */
export function drawRuling(ask, needles, changed) {
  const form = byId('ruling');
  const isAsked = ask?.task === 'judge_needles';
  form.hidden = !isAsked;
  if (!isAsked) {
    asked = null;
    return;
  }
  if (asked === ask.number && form.dataset.language === document.documentElement.lang) return;
  asked = ask.number;
  form.dataset.language = document.documentElement.lang;
  const rows = Object.entries(ask.choices).filter(([name]) => name !== 'CT').map(([name, words]) => {
    const select = element('select', { 'data-needle': name, 'aria-label': `${name}` });
    for (const word of words) {
      const text = word === 'correct' ? `${say('rule_correct')}: ${proposed(ask.proposals_mm[name])}` : say(`rule_${word}`);
      select.append(new Option(text, word));
    }
    // As the protocol itself would: what is not surely within is corrected.
    const isWithin = needles.find((needle) => needle.name === name)?.deviation?.verdict === 'within';
    if (!isWithin && words.includes('correct')) select.value = 'correct';
    const own = element('input', { 'aria-label': `${name} ${say('rule_own_mm')}`, placeholder: say('rule_own_mm'), hidden: true, maxlength: 100 });
    select.addEventListener('change', () => {
      own.hidden = !['own', 'abandon'].includes(select.value);
      own.placeholder = say(select.value === 'abandon' ? 'reason' : 'rule_own_mm');
      const way = ask.proposals_mm[name];
      if (select.value === 'own' && !own.value && way) own.value = way.map((v) => v.toFixed(1)).join(' ');
      changed();
    });
    return element('label', {}, element('b', {}, name), select, own);
  });
  form.replaceChildren(...hints(ask), ...rows, ...otherCt(ask.choices.CT ?? [], changed));
}

/** What the controller points out: the lines after the question's first. */
function hints(ask) {
  const lines = ask.text.split('\n').slice(1);
  const [first] = ask.choices.CT ?? [];
  if (first && first !== 'again') lines[0] = say('rule_thinner', { mm: first.split(' ')[1] });
  return lines.map((line) => element('p', { class: 'hint' }, line));
}

/** Another CT instead, with the slices that are to be had. */
function otherCt(words, changed) {
  if (!words.length) return [];
  const select = element('select', { id: 'ruling-ct', 'aria-label': say('rule_ct') }, new Option(say('rule_no_ct'), ''));
  for (const word of words) {
    const mm = word.split(' ')[1];
    select.append(new Option(mm ? say('rule_again_slices', { mm }) : say('rule_again'), word));
  }
  select.addEventListener('change', changed);
  return [element('label', {}, element('b', {}, 'CT'), select)];
}

function ctWanted() {
  return byId('ruling-ct')?.value ?? '';
}

function chosen() {
  return [...byId('ruling').querySelectorAll('select[data-needle]')].map((select) => [select.dataset.needle, select.value, select.nextElementSibling.value.trim()]);
}

/** How many are accepted, corrected and abandoned. */
export function rulingWords() {
  if (ctWanted()) return byId('ruling-ct').selectedOptions[0].text;
  const of = (kinds) => chosen().filter(([, word]) => kinds.includes(word)).length;
  return say('rule_count', { accept: of(['accept']), correct: of(['correct', 'own']), abandon: of(['abandon']) });
}

/** What the form says, as the answer's values; undefined when another question is asked. */
export function rulingValues() {
  if (asked === null) return undefined;
  if (ctWanted()) return { CT: ctWanted() };
  const word = { accept: () => 'accept', correct: () => 'correct', own: (text) => `correct ${text}`, abandon: (text) => `abandon because ${text}` };
  return Object.fromEntries(chosen().map(([name, kind, text]) => [name, word[kind](text)]));
}
