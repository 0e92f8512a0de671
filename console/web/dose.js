// The dose planned and as the seeds lie now: curves, target figures, organ limits and goals.

import { byId, element } from './element.js';
import { plotly } from './space.js';
import { say } from './words.js';

const KEYS = [['D90', 'd90_gy', 'Gy'], ['V100', 'v100_pct', '%'], ['V150', 'v150_pct', '%'], ['V200', 'v200_pct', '%']];

/** doses: {planned: words, now: words | null} as /api/dose-figures gives them. The figures stand before the curves do. */
export async function drawDose(doses) {
  drawFigures(doses);
  const Plotly = await plotly();
  await Plotly.react(byId('dvh'), traces(doses), layout(), { displayModeBar: false, responsive: true });
}

function drawFigures(doses) {
  const figure = (name, key) => {
    const of = (which) => doses[which]?.statistics?.[name]?.[key]?.toFixed(1) ?? '-';
    return element('td', {}, `${of('planned')} / ${of('now')}`);
  };
  const heads = KEYS.map(([words, , unit]) => element('th', { scope: 'col' }, `${words} ${unit}`));
  const target = element('table', {},
    element('thead', {}, element('tr', {}, element('th', {}, `${say('planned')} / ${say('now')}`), ...heads)),
    element('tbody', {}, ...['GTV', 'CTV'].map((name) =>
      element('tr', {}, element('th', { scope: 'row' }, name), ...KEYS.map(([, key]) => figure(name, key))))));
  const which = doses.now ? 'now' : 'planned';
  const rows = doses[which].goals.map((goal) =>
    element('tr', {},
      element('th', { scope: 'row', class: 'wide' }, goal.wanted),
      element('td', { class: goal.is_met ? 'good' : 'bad' }, `${say(goal.is_met ? 'met' : 'missed')} ${goal.value.toFixed(1)} ${goal.unit}`)));
  const goals = element('table', {},
    element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, say('goal')), element('th', { scope: 'col' }, say(which)))),
    element('tbody', {}, ...rows));
  byId('figures').replaceChildren(target);
  byId('goals').replaceChildren(goals);
}

function traces(doses) {
  const made = [];
  for (const [which, dash] of [['planned', 'dot'], ['now', 'solid']]) {
    for (const curve of doses[which]?.curves ?? []) {
      const isTarget = ['CTV', 'GTV'].includes(curve.name);
      made.push({ type: 'scatter', mode: 'lines', x: doses[which].levels_gy, y: curve.percent, name: `${curve.name} ${say(which)}`,
        legendgroup: curve.name, line: { color: curve.colour, dash, width: isTarget ? 4 : 2 } });
    }
  }
  return made;
}

function layout() {
  const axis = { gridcolor: '#3a4656', color: '#f2f5f8' };
  return {
    paper_bgcolor: '#1a2029', plot_bgcolor: '#1a2029', font: { color: '#f2f5f8', size: 16 }, margin: { l: 56, r: 10, t: 8, b: 48 },
    xaxis: { ...axis, title: { text: 'Gy' } }, yaxis: { ...axis, title: { text: '%' }, range: [0, 101] },
    showlegend: true, legend: { font: { size: 13 } },
  };
}
