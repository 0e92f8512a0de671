// What stands beside the picture: steps, needles, log, tabs. Drawn from the latest state only.

import { byId, clock, element, mm } from './element.js';
import { say, sayOr } from './words.js';

const VERDICTS = { within: 'good', beyond: 'bad', 'cannot tell': 'unsure' };
const SHOWING_CORRECTIONS = /^(CORRECTING|AWAITING)_/;

let lastStep = -1;

export function drawSteps(snapshot) {
  // Held or paused: the step it rests in; stopped: the last one that was seen.
  const rests = snapshot.step_names.indexOf(snapshot.rests_in);
  const present = snapshot.step_index >= 0 ? snapshot.step_index : rests >= 0 ? rests : lastStep;
  lastStep = present;
  byId('steps').replaceChildren(
    ...snapshot.steps.map((step, at) => {
      const isNow = at === present;
      const isDone = at < present || snapshot.state === 'COMPLETED';
      const mark = isDone ? '✓' : !isNow ? '○' : snapshot.step_index >= 0 ? '▶' : '‖';
      const text = sayOr(`state ${snapshot.step_names[at]}`, step);
      return element('li', { class: isDone ? 'is-done' : isNow ? 'is-now' : '', 'aria-current': isNow ? 'step' : null }, `${mark} ${text}`);
    }),
  );
}

/** What a correction does: in short (arrows) for the table, in words for a line. */
export function correctionText(correction, isShort = false) {
  const depth = Math.abs(correction.deeper_mm).toFixed(1);
  const isDeeper = correction.deeper_mm >= 0;
  const across = Math.hypot(...correction.across_mm).toFixed(1);
  if (isShort) return `${correction.is_new_path ? `⟲ ${across}  ` : ''}${isDeeper ? '↓' : '↑'} ${depth}`;
  const words = say(isDeeper ? 'deeper' : 'less_deep', { mm: depth });
  return correction.is_new_path ? `${say('new_path', { mm: across })}, ${words}` : words;
}

function cells(needle, isCorrecting) {
  const d = needle.deviation;
  const correction = isCorrecting ? needle.correction : null;
  const state = correction ? correctionText(correction, true) : sayOr(`needle ${needle.state}`, needle.state);
  return [
    element('th', { scope: 'row' }, `${needle.name} ${needle.hole}${needle.is_reference ? ' ◆' : ''}`),
    element('td', { class: correction ? 'unsure' : 'wide', title: correction ? correctionText(correction) : null }, state),
    element('td', { class: d ? VERDICTS[d.verdict] : 'dim' }, d ? `${mm(d.total_mm)} ± ${mm(d.sigma_mm)}` : '-'),
    element('td', {}, d ? mm(d.lateral_mm) : ''),
    element('td', {}, d ? `${d.depth_mm > 0 ? '+' : ''}${mm(d.depth_mm)}` : ''),
    element('td', {}, d ? `${mm(d.angle_deg)}°` : ''),
    element('td', { class: d ? VERDICTS[d.verdict] : '' }, d ? say(d.verdict) : ''),
    element('td', {}, needle.attempt || ''),
    element('td', {}, `${needle.seeds_delivered}/${needle.seeds_planned}`),
  ];
}

const COLUMNS = ['needle', 'state', 'deviation', 'lateral', 'depth', 'angle', 'verdict', 'attempt', 'seeds'];

export function drawNeedles(snapshot, chosen, pick) {
  const [head, body] = byId('needles').querySelectorAll('thead, tbody');
  head.replaceChildren(element('tr', {}, ...COLUMNS.map((c) => element('th', { scope: 'col' }, say(`col_${c}`)))));
  const isCorrecting = SHOWING_CORRECTIONS.test(snapshot.rests_in || snapshot.state);
  const focused = document.activeElement?.dataset?.needle;
  const rows = snapshot.needles.map((needle) => {
    const act = () => pick(needle.name);
    const on = { click: act, keydown: (event) => event.key === 'Enter' && (event.stopPropagation(), act()) };
    const kind = needle.name === chosen ? 'is-chosen' : '';
    return element('tr', { tabindex: 0, 'data-needle': needle.name, class: kind, on }, ...cells(needle, isCorrecting));
  });
  body.replaceChildren(...rows);
  if (focused) body.querySelector(`[data-needle="${CSS.escape(focused)}"]`)?.focus();
}

const point = (mms) => mms.map((v) => v.toFixed(1)).join(', ');

/** One needle in words: where it is planned and found (patient frame), how far apart, and what is done about it. */
export function drawChosen(snapshot, chosen, found) {
  const needle = snapshot.needles.find((n) => n.name === chosen);
  const strip = byId('chosen');
  if (!needle) return strip.replaceChildren();
  const lines = [`${needle.name} ${needle.hole}: ${say('planned')} (${point(needle.tip_mm)}) mm`];
  if (found) lines.push(`${say('found')} (${point(found.tip_mm)}) mm`);
  const first = needle.first_deviation;
  if (first) lines.push(`${say('first')} ${mm(first.total_mm)} ± ${mm(first.sigma_mm)} mm`);
  if (needle.correction) lines.push(`${say('correction')}: ${correctionText(needle.correction)}`);
  strip.replaceChildren(...lines.map((line) => element('span', {}, line)));
}

const KEPT_RECORDS = 3000;

/** Newest first. */
export function addRecords(records) {
  const list = byId('records');
  for (const record of records) {
    const item = element('li', { value: record.number, class: `is-${record.kind}` }, element('time', {}, clock(record.t_s)), record.text);
    list.prepend(item);
  }
  while (list.children.length > KEPT_RECORDS) list.lastChild.remove();
  searchRecords();
}

export function searchRecords() {
  const wanted = byId('search').value.trim().toLowerCase();
  for (const item of byId('records').children) item.hidden = wanted !== '' && !item.textContent.toLowerCase().includes(wanted);
}

/** Tabs in `bar` show the elements whose id is their data-tab; shown(name) after each change. */
export function wireTabs(bar, shown) {
  const tabs = [...bar.querySelectorAll('[role="tab"]')];
  const show = (tab) => {
    for (const other of tabs) {
      const isIt = other === tab;
      other.setAttribute('aria-selected', String(isIt));
      other.tabIndex = isIt ? 0 : -1;
      byId(other.dataset.tab).hidden = !isIt;
    }
    shown(tab.dataset.tab);
  };
  for (const [at, tab] of tabs.entries()) {
    tab.setAttribute('aria-controls', tab.dataset.tab);
    tab.addEventListener('click', () => show(tab));
    tab.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(at + step + tabs.length) % tabs.length];
      next.focus();
      show(next);
    });
  }
  show(tabs[0]);
}
