// The page: news in, drawing; a person's word out. Nothing here decides anything: the controller does.

import { Feed } from './feed.js';
import { addRecords, drawDelivery, drawDose, drawNeedles, drawSteps, searchRecords, wireTabs } from './panels.js';
import { Picture } from './picture.js';
import { get, post } from './request.js';
import { Space } from './space.js';
import { LANGUAGES, language, say, sayOr, speak } from './words.js';

const byId = (id) => document.getElementById(id);
const ACKNOWLEDGE_MS = 1500; // a device stops within 10 ms of the byte; later than this a person must act
let state = null;
let me = null;
let doses = {};
let scans = [];
const picture = new Picture();
const space = new Space(byId('space'), picture);

// --- stop -----------------------------------------------------------------------------------------------

let stopPressedMs = null;

async function stop() {
  stopPressedMs ??= performance.now();
  drawStop();
  const answer = await post('/api/stop');
  if (!answer.ok) {
    byId('stop-told').className = '';
    byId('stop-told').textContent = say('stop_failed');
  }
}

function drawStop() {
  const told = byId('stop-told');
  const acknowledged = state?.stop?.acknowledged;
  if (stopPressedMs === null && !state?.stop?.pressed) return;
  stopPressedMs ??= performance.now();
  told.className = acknowledged ? 'is-acknowledged' : '';
  const isLate = performance.now() - stopPressedMs > ACKNOWLEDGE_MS;
  told.textContent = say(acknowledged ? 'stop_acknowledged' : isLate ? 'stop_failed' : 'stop_sent');
  if (!acknowledged && !isLate) setTimeout(drawStop, 200);
}

byId('stop').addEventListener('click', stop);
byId('login-stop').addEventListener('click', stop);
// Caught before anything else sees it. A text field needs its spaces; Esc stops from there too.
window.addEventListener('keydown', (event) => {
  const isTyping = event.target.matches?.('input');
  if (event.key === 'Escape' || (event.key === ' ' && !isTyping)) {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat) stop();
  }
}, true);
window.addEventListener('keyup', (event) => {
  if (event.key === ' ' && !event.target.matches?.('input')) event.preventDefault(); // no click of the focused button
}, true);
byId('login').addEventListener('cancel', (event) => event.preventDefault());

// --- the next action ------------------------------------------------------------------------------------

let answering = null;

async function answer(word, reason = '') {
  const ask = state?.ask;
  if (!ask || answering === ask.number) return;
  answering = ask.number;
  drawNext();
  const told = await post('/api/answer', { number: ask.number, answer: word, reason });
  answering = null;
  byId('told').textContent = told.ok ? told.told ?? '' : `${say('refused')}: ${told.why ?? told.status}`;
  byId('why').hidden = true;
  if (told.status === 401) await login();
  drawNext();
}

function drawNext() {
  const { snapshot, ask } = state;
  drawDecisions(snapshot);
  byId('state').textContent = sayOr(`state ${snapshot.state}`, snapshot.state_words ?? snapshot.state);
  const isOver = ['HELD', 'STOPPED', 'ABORTED', 'COMPLETED'].includes(snapshot.state);
  byId('message').textContent = ask || isOver ? snapshot.message : snapshot.waiting_for || snapshot.message;
  byId('ask').hidden = !ask;
  if (!ask) return;
  const mayAnswer = me?.may_confirm;
  const button = byId('confirm');
  const text = `${askText(ask)}  [${say('confirm_key')}]`;
  if (button.textContent !== text) button.textContent = text;
  button.disabled = byId('decline').disabled = !mayAnswer || answering === ask.number;
  byId('second').hidden = !ask.first_by;
  byId('second').textContent = ask.first_by ? `${say('second_needed')} (${ask.first_by})` : '';
}

/** The question in the language of the screen; the controller's own sentence where this language has none. */
function askText(ask) {
  const planned = picture.needles?.find((needle) => needle.name === ask.needle)?.planned;
  const plan = picture.summary?.plan.hash.slice(0, 8).toUpperCase();
  const [x, y, depth] = (ask.place_mm ?? []).map((mm) => mm.toFixed(1));
  const byHand = { x_mm: x, y_mm: y, depth_mm: depth, z_mm: ask.z_mm?.toFixed(1) };
  const values = { ...ask, hole: planned?.hole ?? '', plan, ...byHand };
  const which = ask.item ?? (ask.task === 'couple_applicator' && ask.z_mm != null ? 'by_hand' : '');
  return sayOr(`ask ${ask.task}${which ? ` ${which}` : ''}`, ask.text, values);
}

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
window.addEventListener('keydown', (event) => {
  const isPlain = event.target === document.body || event.target.matches?.('canvas');
  if (event.key === 'Enter' && isPlain && !event.repeat && !byId('login').open) byId('confirm').click();
});

// --- other decisions ------------------------------------------------------------------------------------

const NEEDS = { needle: ['grant_attempts', 'abandon_needle'], where: ['seed_is'], count: ['grant_attempts', 'accept_seed_count'] };

function drawDecisions(snapshot) {
  const kinds = [...(snapshot.state === 'HELD' ? ['go_on', 'leave'] : []), ...(snapshot.may_decide ?? [])];
  byId('decide').hidden = !kinds.length || !me?.may_decide;
  const select = byId('decide-kind');
  const wanted = kinds.join();
  if (select.dataset.kinds !== wanted + language()) {
    const before = select.value;
    select.dataset.kinds = wanted + language();
    select.replaceChildren(...kinds.map((kind) => new Option(say(`decide_${kind}`), kind)));
    if (kinds.includes(before)) select.value = before;
    byId('decide-needle').replaceChildren(...snapshot.needles.map((n) => new Option(n.name, n.name)));
  }
  for (const [part, of] of Object.entries(NEEDS)) byId(`decide-${part}-row`).hidden = !of.includes(select.value);
}

byId('decide-kind').addEventListener('change', () => drawDecisions(state.snapshot));
byId('decide').querySelector('form').addEventListener('submit', async (event) => {
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
  if (told.ok) byId('decide-because').value = '';
  if (told.ok) byId('decide').open = false;
});

// --- who ------------------------------------------------------------------------------------------------

async function whoAmI() {
  me = (await get('/api/me')).me;
  byId('leave').hidden = !me || me.is_open;
  byId('leave').textContent = me ? `${say('leave')} ${me.name}` : '';
}

async function login() {
  await whoAmI();
  if (me) return;
  const dialog = byId('login');
  if (dialog.open) return;
  dialog.showModal();
  await new Promise((done) => {
    const form = dialog.querySelector('form');
    form.onsubmit = async (event) => {
      event.preventDefault();
      const told = await post('/api/login', { name: byId('login-name').value, pin: byId('login-pin').value });
      byId('login-pin').value = '';
      if (!told.ok) {
        byId('login-told').textContent = told.why ?? say('refused');
        return;
      }
      byId('login-told').textContent = '';
      dialog.close();
      done();
    };
  });
  await whoAmI();
}

byId('leave').addEventListener('click', async () => {
  await post('/api/logout');
  location.reload();
});

// --- news -----------------------------------------------------------------------------------------------

function choose(name) {
  byId('jump').value = name;
  picture.jump(name);
  drawNeedles(state.snapshot, picture.chosen, choose);
  space.draw();
}

function drawState() {
  const { snapshot } = state;
  drawSteps(snapshot);
  drawNext();
  drawNeedles(snapshot, picture.chosen, choose);
  drawDelivery(snapshot, state.devices);
  drawStop();
}

async function showLatest() {
  const latest = scans[scans.length - 1];
  if (!latest) return;
  picture.found(state.found.needles, state.found.seeds);
  await picture.showScan(latest);
  space.draw();
}

async function fetchDoses() {
  doses = { planned: doses.planned ?? (await get('/api/dose-figures/planned')), now: null };
  if (state?.snapshot.seeds_delivered) doses.now = await get('/api/dose-figures/now');
  if (!byId('dose').hidden) drawDose(doses);
}

function drawScans() {
  const select = byId('scan');
  const before = select.value;
  const options = [{ number: 0, words: say('planning_ct') }, ...scans].map((scan) => new Option(scan.words, scan.number));
  select.replaceChildren(...options);
  select.value = [...select.options].some((o) => o.value === before) ? before : '0';
}

let delivered = -1;

async function heard(message) {
  if (message.kind === 'journal') addRecords(message.records);
  if (message.kind !== 'state') return;
  state = message.state;
  document.body.classList.remove('is-waiting');
  drawState();
  if (!picture.scene) return;
  if (state.scans.length !== scans.length) {
    scans = state.scans;
    drawScans();
    byId('scan').value = String(scans[scans.length - 1]?.number ?? 0);
    await showLatest();
  } else picture.found(state.found.needles, state.found.seeds);
  if (state.snapshot.seeds_delivered !== delivered) {
    delivered = state.snapshot.seeds_delivered;
    fetchDoses();
  }
}

function changed(link, ageMs) {
  const sign = byId('link');
  sign.className = `is-${link}`;
  const text = say(link, { age: Math.floor(ageMs / 1000) });
  if (sign.textContent !== text) sign.textContent = text;
  document.body.classList.toggle('is-stale', link === 'lost');
}

byId('scan').addEventListener('change', () => {
  const number = Number(byId('scan').value);
  const scan = scans.find((s) => s.number === number);
  const unmoved = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
  picture.showScan(scan ?? { number: 0, scan_from_plan: unmoved });
});
byId('window').addEventListener('change', () => {
  const [level, width] = byId('window').value.split(',').map(Number);
  if (width) picture.window(level, width);
});
byId('jump').addEventListener('change', () => choose(byId('jump').value));
byId('search').addEventListener('input', searchRecords);

byId('language').addEventListener('click', async () => {
  const names = Object.keys(LANGUAGES);
  const next = names[(names.indexOf(language()) + 1) % names.length];
  await speak(next);
  localStorage.setItem('language', next);
  nameLanguage();
  if (state) drawState();
  drawScans();
  if (!byId('dose').hidden && doses.planned) drawDose(doses);
});

function nameLanguage() {
  const names = Object.keys(LANGUAGES);
  byId('language').textContent = LANGUAGES[names[(names.indexOf(language()) + 1) % names.length]];
}

async function open() {
  const kept = localStorage.getItem('language');
  await speak(kept in LANGUAGES ? kept : navigator.language.startsWith('zh') ? 'zh' : 'en');
  nameLanguage();
  wireTabs(document.querySelector('#corner .tabs'), () => {
    space.draw();
    picture.point(picture.scene?.cursor);
  });
  wireTabs(byId('cards'), (name) => name === 'dose' && doses.planned && drawDose(doses));
  await login();
  new Feed(heard, changed);
  await picture.open();
  const { patient, plan, needles } = picture.summary;
  byId('patient').textContent = `${patient.name} (${patient.id})`;
  byId('plan').textContent = `${plan.hash.slice(0, 8).toUpperCase()}  ${plan.target}  ${plan.prescription_gy} Gy  ${plan.seeds} x ${plan.activity_mci} mCi ${plan.source}`;
  byId('jump').replaceChildren(...needles.map((n) => new Option(`${n.name} ${n.hole}`, n.name)));
  choose_first(needles);
  drawScans();
  if (state) {
    scans = [];
    await heard({ kind: 'state', state });
  }
  await fetchDoses();
  document.body.dataset.ready = 'yes';
}

function choose_first(needles) {
  byId('jump').value = needles[0].name;
  picture.jump(needles[0].name);
}

// For measuring and for tests in a browser.
window.seedguide = { picture, get state() { return state; } };

open().catch((problem) => {
  byId('told').textContent = String(problem);
});
