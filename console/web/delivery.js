// Seeds needle by needle, and what both devices say of themselves.

import { byId, clock, element } from './element.js';
import { say, sayOr } from './words.js';

const GOOD = { link: 'answers', position: 'known', e_stop: 'clear', latch: 'NONE' };
const FACTS = {
  rig: ['link', 'state', 'position', 'x_mm', 'y_mm', 'z_mm', 'grip'],
  applicator: ['link', 'e_stop', 'state', 'latch', 'retraction_mm', 'stylet_mm', 'force_mn', 'peak_force_mn', 'cartridge'],
};
const UNITS = { _mm: 'mm', _mn: 'mN' };

/** One fact of a device: its name, its value with unit, and whether it is as it should be. */
function fact(name, value) {
  const end = name.slice(-3);
  const unit = UNITS[end];
  if (unit) return [value === null || value === undefined ? '-' : `${Number(value).toFixed(unit === 'mm' ? 1 : 0)} ${unit}`, ''];
  const text = sayOr(`device ${value}`, String(value));
  if (!(name in GOOD)) return [text, ''];
  const isGood = value === GOOD[name];
  return [`${isGood ? '✓' : '✗'} ${text}`, isGood ? 'good' : 'bad'];
}

function deviceTable(name, facts, words) {
  const rows = FACTS[name].filter((key) => facts && key in facts).map((key) => {
    const [text, kind] = fact(key, facts[key]);
    return element('tr', {}, element('th', { scope: 'row' }, say(`fact_${key}`)), element('td', { class: kind }, text));
  });
  const heading = facts?.simulated ? `${say(name)} (${say('simulated')})` : say(name);
  return element('table', { class: 'device' },
    element('caption', {}, heading),
    element('tbody', {}, ...(rows.length ? rows : [element('tr', {}, element('td', {}, sayOr(`device ${words}`, words)))])));
}

export function drawDelivery(snapshot, devices) {
  const of = (a, b) => `${a} ${say('of')} ${b}`;
  const left = snapshot.cartridge_left;
  const big = (name, text) => element('div', {}, element('dt', {}, say(name)), element('dd', {}, text));
  const sums = element('dl', { class: 'sums' },
    big('delivered', of(snapshot.seeds_delivered, snapshot.seeds_planned)),
    big('left_in_cartridge', left ?? '-'),
    big('clock', clock(snapshot.virtual_time_s)));
  const rows = snapshot.needles.map((needle) => {
    const open = Math.max(0, needle.seeds_planned - needle.seeds_delivered);
    const text = of(needle.seeds_delivered, needle.seeds_planned);
    return element('tr', {}, element('th', { scope: 'row' }, needle.name),
      element('td', { class: 'beads', 'aria-label': text, role: 'img' }, '●'.repeat(needle.seeds_delivered) + '○'.repeat(open)),
      element('td', {}, text));
  });
  byId('delivery').replaceChildren(
    sums,
    element('div', { class: 'devices' }, deviceTable('rig', devices?.rig, snapshot.rig), deviceTable('applicator', devices?.applicator, snapshot.applicator)),
    element('table', {}, element('tbody', {}, ...rows)));
}
