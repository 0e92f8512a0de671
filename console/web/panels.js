// What stands beside the picture: steps, the next action, needles, seeds, dose, log. Drawn from the latest state only.

import { plotly } from './space.js';
import { say, sayOr } from './words.js';

const VERDICTS = { within: 'good', beyond: 'bad', 'cannot tell': 'unsure' };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

const byId = (id) => document.getElementById(id);
const mm = (value) => (value === null || value === undefined ? '' : value.toFixed(1));

/** Seconds as 0:01:02. */
export function clock(seconds) {
  const s = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, '0');
  return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

export function drawSteps(snapshot) {
  // Held or paused: the step it rests in.
  const rests = snapshot.step_names.indexOf(snapshot.rests_in);
  const present = snapshot.step_index >= 0 ? snapshot.step_index : rests;
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

export function drawNeedles(snapshot, chosen, pick) {
  const [head, body] = byId('needles').querySelectorAll('thead, tbody');
  const columns = ['needle', 'state', 'deviation', 'lateral', 'depth', 'angle', 'verdict', 'attempt', 'seeds'];
  head.replaceChildren(element('tr', {}, ...columns.map((c) => element('th', { scope: 'col' }, say(`col_${c}`)))));
  const focused = document.activeElement?.dataset?.needle;
  body.replaceChildren(
    ...snapshot.needles.map((needle) => {
      const d = needle.deviation;
      const act = () => pick(needle.name);
      const row = element(
        'tr',
        { tabindex: 0, 'data-needle': needle.name, class: needle.name === chosen ? 'is-chosen' : '',
          on: { click: act, keydown: (event) => event.key === 'Enter' && (event.stopPropagation(), act()) } },
        element('th', { scope: 'row' }, `${needle.name} ${needle.hole}${needle.is_reference ? ' ◆' : ''}`),
        element('td', { class: 'wide' }, sayOr(`needle ${needle.state}`, needle.state)),
        element('td', { class: d ? VERDICTS[d.verdict] : 'dim' }, d ? `${mm(d.total_mm)} ± ${mm(d.sigma_mm)}` : '-'),
        element('td', {}, d ? mm(d.lateral_mm) : ''),
        element('td', {}, d ? `${d.depth_mm > 0 ? '+' : ''}${mm(d.depth_mm)}` : ''),
        element('td', {}, d ? `${mm(d.angle_deg)}°` : ''),
        element('td', { class: d ? VERDICTS[d.verdict] : '' }, d ? say(d.verdict) : ''),
        element('td', {}, needle.attempt || ''),
        element('td', {}, `${needle.seeds_delivered}/${needle.seeds_planned}`),
      );
      return row;
    }),
  );
  if (focused) body.querySelector(`[data-needle="${CSS.escape(focused)}"]`)?.focus();
}

export function drawDelivery(snapshot, devices) {
  const of = (a, b) => `${a} ${say('of')} ${b}`;
  const list = element('dl', {});
  const tell = (name, text, kind = '') => list.append(element('dt', {}, name), element('dd', { class: kind }, text));
  tell(say('delivered'), of(snapshot.seeds_delivered, snapshot.seeds_planned));
  tell(say('left_in_cartridge'), snapshot.cartridge_left ?? '-');
  tell(say('clock'), clock(snapshot.virtual_time_s));
  for (const name of ['rig', 'applicator']) {
    const facts = Object.entries(devices?.[name] ?? {}).map(([key, value]) => `${key} ${value}`);
    tell(say(name), [snapshot[name], ...facts].join(', '));
  }
  const rows = snapshot.needles.map((needle) =>
    element('tr', {}, element('th', { scope: 'row' }, needle.name),
      element('td', { class: 'beads', 'aria-label': of(needle.seeds_delivered, needle.seeds_planned) },
        '●'.repeat(needle.seeds_delivered) + '○'.repeat(Math.max(0, needle.seeds_planned - needle.seeds_delivered))),
      element('td', {}, of(needle.seeds_delivered, needle.seeds_planned))));
  byId('delivery').replaceChildren(list, element('table', {}, element('tbody', {}, ...rows)));
}

/** doses: {planned: words, now: words | null} as /api/dose-figures gives them. */
export async function drawDose(doses) {
  const Plotly = await plotly();
  const traces = [];
  for (const [which, dash] of [['planned', 'dot'], ['now', 'solid']]) {
    const figures = doses[which];
    if (!figures) continue;
    for (const curve of figures.curves) {
      traces.push({ type: 'scatter', mode: 'lines', x: figures.levels_gy, y: curve.percent, name: `${curve.name} ${say(which)}`,
        line: { color: curve.colour, dash, width: ['CTV', 'GTV'].includes(curve.name) ? 3 : 1.5 } });
    }
  }
  const axis = { gridcolor: '#3a4656', color: '#f2f5f8' };
  await Plotly.react(byId('dvh'), traces, {
    paper_bgcolor: '#1a2029', plot_bgcolor: '#1a2029', font: { color: '#f2f5f8', size: 13 }, margin: { l: 50, r: 10, t: 8, b: 40 },
    xaxis: { ...axis, title: { text: 'Gy' } }, yaxis: { ...axis, title: { text: '%' }, range: [0, 101] }, showlegend: true,
    legend: { font: { size: 10 } },
  }, { displayModeBar: false, responsive: true });
  const statistics = (name, key) => {
    const of = (which) => doses[which]?.statistics?.[name]?.[key];
    return element('td', {}, `${of('planned')?.toFixed(1) ?? '-'} / ${of('now')?.toFixed(1) ?? '-'}`);
  };
  const keys = [['D90 Gy', 'd90_gy'], ['V100 %', 'v100_pct'], ['V150 %', 'v150_pct'], ['V200 %', 'v200_pct']];
  const target = element('table', {},
    element('thead', {}, element('tr', {}, element('th', {}, `${say('planned')} / ${say('now')}`), ...keys.map(([k]) => element('th', { scope: 'col' }, k)))),
    element('tbody', {}, ...['GTV', 'CTV'].map((name) => element('tr', {}, element('th', { scope: 'row' }, name), ...keys.map(([, key]) => statistics(name, key))))));
  const judged = doses.now ?? doses.planned;
  const goals = element('table', {},
    element('thead', {}, element('tr', {}, ...['goal', 'value'].map((k) => element('th', { scope: 'col' }, say(k))))),
    element('tbody', {}, ...judged.goals.map((goal) => element('tr', {}, element('td', { class: 'wide' }, goal.wanted),
      element('td', { class: goal.is_met ? 'good' : 'bad' }, `${say(goal.is_met ? 'met' : 'missed')} ${goal.value.toFixed(1)} ${goal.unit}`)))));
  byId('figures').replaceChildren(target, goals);
}

const KEPT_RECORDS = 3000;

/** Newest first. */
export function addRecords(records) {
  const list = byId('records');
  for (const record of records) {
    const item = element('li', { value: record.number }, element('time', {}, clock(record.t_s)), record.text);
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
