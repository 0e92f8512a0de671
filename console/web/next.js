// The one next action: what is asked, as one large button; what was proposed from outside; other decisions.

import { byId, element } from './element.js';
import { post } from './request.js';
import { drawRuling, rulingValues, rulingWords } from './ruling.js';
import { say, sayOr, language } from './words.js';

const OVER = ['HELD', 'STOPPED', 'ABORTED', 'COMPLETED'];
const LONGEST_ON_BUTTON = 230; // signs; more can't be read at a glance
let board = null; // {state, me, picture, login()}: the page's
let answering = null;

// --- what is asked ----------------------------------------------------------------------------------------

async function send(path, words) {
  answering = words.number;
  drawNext(board);
  const told = await post(path, words);
  answering = null;
  byId('told').textContent = told.ok ? told.told ?? '' : `${say('refused')}: ${told.why ?? told.status}`;
  byId('why').hidden = true;
  if (told.status === 401) await board.login();
  drawNext(board);
}

function answer(word, reason = '') {
  const ask = board.state?.ask;
  if (!ask || answering === ask.number) return undefined;
  return send('/api/answer', { number: ask.number, answer: word, reason, values: word === 'confirm' ? values(ask) : {} });
}

function values(ask) {
  if (ask.item !== 'seeds') return rulingValues() ?? {};
  const [batch, measured] = [byId('batch').value.trim(), byId('measured').value];
  return { ...(batch ? { batch } : {}), ...(measured ? { measured_mci: Number(measured) } : {}) };
}

export function drawNext(shown) {
  board = shown;
  const { snapshot, ask, advice } = board.state;
  drawDecisions(snapshot);
  drawProposal();
  byId('state').textContent = sayOr(`state ${snapshot.state}`, snapshot.state_words ?? snapshot.state);
  byId('next').className = OVER.includes(snapshot.state) ? `is-${snapshot.state}` : '';
  const isOver = OVER.includes(snapshot.state);
  byId('message').textContent = ask || isOver ? snapshot.message : '';
  byId('advice').hidden = !advice;
  byId('advice').textContent = advice ? sayOr(`advice ${advice.rule}`, advice.text) : '';
  byId('working').hidden = Boolean(ask) || isOver || snapshot.state === 'PAUSED';
  byId('working').replaceChildren(element('b', {}, `▶ ${doing(snapshot)}`), element('span', {}, say('no_ask')));
  byId('report').hidden = !board.state.has_report;
  byId('ask').hidden = !ask;
  byId('values').hidden = ask?.item !== 'seeds';
  byId('second').hidden = !ask?.first_by;
  drawRuling(ask, snapshot.needles, () => drawNext(board));
  byId('ask-text').hidden = true;
  if (!ask) return;
  const button = byId('confirm');
  const [long, short] = namedOnButton(ask);
  byId('ask-text').hidden = !long;
  byId('ask-text').textContent = long;
  const text = `${short}  [${say('confirm_key')}]`;
  if (button.textContent !== text) button.textContent = text;
  const why = mayNot(ask);
  byId('may-not').hidden = !why;
  byId('may-not').textContent = why;
  button.disabled = byId('decline').disabled = Boolean(why) || answering === ask.number;
  byId('second').textContent = ask.first_by ? `${say('second_needed')} (${ask.first_by})` : '';
}

/** What does not fit on a button (stands above it then), and what the button says. */
function namedOnButton(ask) {
  const text = askText(ask);
  if (ask.task === 'judge_needles') return ['', `${say('confirm')}: ${rulingWords()}`];
  return text.length > LONGEST_ON_BUTTON ? [text, say(ask.task === 'confirm_resume' ? 'confirm_go_on' : 'confirm')] : ['', text];
}

/** Why this person can't answer; empty when they can. */
function mayNot(ask) {
  if (!board.me?.may_confirm) return say('view_only');
  return ask.needs_decider && !ask.needs_two && !board.me.may_decide ? say('needs_role') : '';
}

/** What the machine is doing, in the language of the screen. */
function doing(snapshot) {
  const command = snapshot.under_way;
  if (!command) return snapshot.waiting_for || snapshot.message;
  const of = (name) => (command[name] === undefined ? '' : (command[name] / 1000).toFixed(1));
  const kind = command.command === 'MoveDepth' && !command.in_tissue ? 'MoveCarriage' : command.command;
  return sayOr(`do ${kind}`, snapshot.waiting_for, {
    ...command, z_mm: command.z_mm?.toFixed(1), back_mm: of('z_um'), axis: say(`axis_${command.axis}`), scanned: say(`scan_${command.kind}`),
  });
}

/** The question in the language of the screen; the controller's own sentence where this language has none. */
function askText(ask) {
  const planned = board.picture.needles?.find((needle) => needle.name === ask.needle)?.planned;
  const plan = board.picture.summary?.plan.hash.slice(0, 8).toUpperCase();
  const [x, y, depth] = (ask.place_mm ?? []).map((mm) => mm.toFixed(1));
  const byHand = { x_mm: x, y_mm: y, depth_mm: depth, z_mm: ask.z_mm?.toFixed(1) };
  const filled = { ...ask, hole: planned?.hole ?? '', plan, ...byHand };
  const which = ask.item ?? (ask.task === 'couple_applicator' && ask.z_mm != null ? 'by_hand' : '');
  return sayOr(`ask ${ask.task}${which ? ` ${which}` : ''}`, ask.text, filled);
}

// --- what was proposed from outside -----------------------------------------------------------------------

function drawProposal() {
  const { proposal } = board.state;
  byId('proposal').hidden = !proposal;
  if (!proposal) return;
  const what = proposal.kind === 'answer' ? say('proposal_answer') : say(`decide_${proposal.kind}`);
  const place = proposal.place_mm ? ` (${proposal.place_mm.map((v) => v.toFixed(1)).join(', ')}) mm` : '';
  const parts = [what, proposal.needle, place, proposal.count, proposal.where && say(`where_${proposal.where}`), proposal.because && `(${proposal.because})`];
  byId('proposal-text').textContent = `${say('proposal', { by: proposal.by })}: ${parts.filter(Boolean).join(' ')}`;
  const may = proposal.kind === 'answer' ? board.me?.may_confirm : board.me?.may_decide;
  for (const id of ['proposal-confirm', 'proposal-decline']) byId(id).disabled = !may || answering === proposal.number;
}

function settle(word) {
  const proposal = board.state?.proposal;
  if (!proposal) return undefined;
  return send('/api/proposal', { number: proposal.number, answer: word, reason: word === 'decline' ? say('proposal_declined') : '' });
}

// --- other decisions --------------------------------------------------------------------------------------

const NEEDS = { needle: ['grant_attempts', 'abandon_needle'], where: ['seed_is'], count: ['grant_attempts', 'accept_seed_count'] };

function drawDecisions(snapshot) {
  const isHeld = snapshot.state === 'HELD';
  const kinds = [...(isHeld ? ['go_on', 'leave'] : []), ...(snapshot.may_decide ?? [])];
  const details = byId('decide');
  details.hidden = !kinds.length || !board.me?.may_decide;
  if (isHeld !== (details.dataset.state === 'HELD')) details.open = isHeld; // then it is the next action
  details.dataset.state = snapshot.state;
  const select = byId('decide-kind');
  const wanted = kinds.join() + language();
  if (select.dataset.kinds !== wanted) {
    const before = select.value;
    select.dataset.kinds = wanted;
    select.replaceChildren(...kinds.map((kind) => new Option(say(`decide_${kind}`), kind)));
    if (kinds.includes(before)) select.value = before;
    byId('decide-needle').replaceChildren(...snapshot.needles.map((n) => new Option(n.name, n.name)));
  }
  for (const [part, of] of Object.entries(NEEDS)) byId(`decide-${part}-row`).hidden = !of.includes(select.value);
}

async function decide(event) {
  event.preventDefault();
  const kind = byId('decide-kind').value;
  const needs = (part) => NEEDS[part].includes(kind);
  const told = await post('/api/decide', {
    kind,
    because: byId('decide-because').value,
    needle: needs('needle') ? byId('decide-needle').value : null,
    where: needs('where') ? byId('decide-where').value : '',
    count: needs('count') ? Number(byId('decide-count').value) : 0,
  });
  byId('told').textContent = told.ok ? '' : `${say('refused')}: ${told.why ?? told.status}`;
  if (!told.ok) return;
  byId('decide-because').value = '';
  byId('decide').open = board.state?.snapshot.state === 'HELD';
}

export function wireNext() {
  byId('confirm').addEventListener('click', () => answer('confirm'));
  byId('decline').addEventListener('click', () => {
    byId('why').hidden = false;
    byId('reason').focus();
  });
  byId('why-back').addEventListener('click', () => (byId('why').hidden = true));
  byId('why').addEventListener('submit', (event) => {
    event.preventDefault();
    answer('decline', byId('reason').value);
    byId('reason').value = '';
  });
  byId('proposal-confirm').addEventListener('click', () => settle('confirm'));
  byId('proposal-decline').addEventListener('click', () => settle('decline'));
  byId('decide-kind').addEventListener('change', () => drawDecisions(board.state.snapshot));
  byId('decide').querySelector('form').addEventListener('submit', decide);
  window.addEventListener('keydown', (event) => {
    const isPlain = event.target === document.body || event.target.matches?.('canvas');
    if (event.key === 'Enter' && isPlain && !event.repeat && !byId('login').open) byId('confirm').click();
  });
}
