// The page: news in, drawing; a person's word out. Nothing here decides anything: the controller does.

import { drawDelivery } from './delivery.js';
import { drawDose } from './dose.js';
import { byId } from './element.js';
import { Feed } from './feed.js';
import { drawNext, wireNext } from './next.js';
import { addRecords, drawChosen, drawNeedles, drawSteps, searchRecords, wireTabs } from './panels.js';
import { Picture } from './picture.js';
import { get, post } from './request.js';
import { Space } from './space.js';
import { drawStop, forgetStop, wireStop } from './stop.js';
import { LANGUAGES, language, say, speak } from './words.js';

const ENDED = ['STOPPED', 'ABORTED', 'COMPLETED'];
const board = { state: null, me: null, picture: new Picture(), login };
const { picture } = board;
const space = new Space(byId('space'), picture);
let doses = {};
let scans = [];

// --- who ------------------------------------------------------------------------------------------------

async function whoAmI() {
  board.me = (await get('/api/me')).me;
  const { me } = board;
  byId('leave').hidden = !me || me.is_open;
  byId('leave').textContent = me ? `${say('leave')} ${me.name}` : '';
}

async function login() {
  await whoAmI();
  if (board.me) return;
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

// --- news -----------------------------------------------------------------------------------------------

function choose(name) {
  byId('jump').value = name;
  picture.jump(name);
  drawTable();
  space.draw();
}

function drawTable() {
  if (!board.state) return;
  drawNeedles(board.state.snapshot, picture.chosen, choose);
  drawChosen(board.state.snapshot, picture.chosen, board.state.found.needles[picture.chosen]);
}

let askedAbout = null;

function drawState() {
  const { snapshot, ask, stop, devices } = board.state;
  drawSteps(snapshot);
  drawNext(board);
  if (ask?.number !== askedAbout && picture.scene) {
    askedAbout = ask?.number;
    if (ask?.needle && ask.needle !== picture.chosen) choose(ask.needle); // what is to be done is what is shown
  }
  drawTable();
  drawDelivery(snapshot, devices);
  if (!stop.pressed && !ENDED.includes(snapshot.state) && snapshot.state !== 'HELD') forgetStop();
  drawStop(stop);
}

async function showLatest() {
  const latest = scans[scans.length - 1];
  if (!latest) return;
  picture.found(board.state.found.needles, board.state.found.seeds);
  await picture.showScan(latest);
  space.draw();
}

async function fetchDoses() {
  doses = { planned: doses.planned ?? (await get('/api/dose-figures/planned')), now: null };
  if (board.state?.snapshot.seeds_delivered) {
    doses.now = await get('/api/dose-figures/now');
    if (picture.shows.dose) await picture.loadDose('now');
  }
  if (!byId('dose').hidden) await drawDose(doses);
}

/** Lines of the dose as the seeds lie now, as soon as there are seeds; before that of the plan. */
picture.wantsDose = () => picture.loadDose(board.state?.snapshot.seeds_delivered ? 'now' : 'planned');

const scanWords = (scan) => `${scan.number}  ${say(`scan_${scan.kind}`)}`;

function drawScans() {
  const select = byId('scan');
  const before = select.value;
  const options = [new Option(say('planning_ct'), 0), ...scans.map((scan) => new Option(scanWords(scan), scan.number))];
  select.replaceChildren(...options);
  select.value = [...select.options].some((o) => o.value === before) ? before : '0';
}

let seedsKnown = -1;

async function heard(message) {
  if (message.kind === 'journal') addRecords(message.records);
  if (message.kind === 'beat' && board.state && message.has_report !== board.state.has_report) {
    board.state.has_report = message.has_report;
    drawNext(board);
  }
  if (message.kind !== 'state') return;
  board.state = message.state;
  document.body.classList.remove('is-waiting');
  drawState();
  if (!picture.scene) return;
  if (board.state.scans.length !== scans.length) {
    scans = board.state.scans;
    drawScans();
    byId('scan').value = String(scans[scans.length - 1]?.number ?? 0);
    await showLatest();
  } else picture.found(board.state.found.needles, board.state.found.seeds);
  if (board.state.seeds_changed !== seedsKnown) {
    seedsKnown = board.state.seeds_changed;
    await fetchDoses();
  }
}

function changed(link, ageMs) {
  const sign = byId('link');
  const isOver = link === 'lost' && ENDED.includes(board.state?.snapshot.state);
  const isReplay = link === 'live' && Boolean(board.state?.is_replay);
  sign.className = isOver || isReplay ? 'is-over' : `is-${link}`;
  const minutes = Math.floor((board.state?.snapshot.virtual_time_s ?? 0) / 60);
  const text = say(isOver ? 'over' : isReplay ? 'replay' : link, { age: Math.floor(ageMs / 1000), minutes });
  if (sign.textContent !== text) sign.textContent = text;
  document.body.classList.toggle('is-stale', link === 'lost' && !isOver);
}

// --- hands ----------------------------------------------------------------------------------------------

function wirePicture() {
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
}

async function changeLanguage() {
  const names = Object.keys(LANGUAGES);
  const next = names[(names.indexOf(language()) + 1) % names.length];
  await speak(next);
  localStorage.setItem('language', next);
  nameLanguage();
  if (board.state) drawState();
  drawScans();
  picture.redraw();
  await whoAmI();
  if (!byId('dose').hidden && doses.planned) await drawDose(doses);
}

function nameLanguage() {
  const names = Object.keys(LANGUAGES);
  byId('language').textContent = LANGUAGES[names[(names.indexOf(language()) + 1) % names.length]];
}

async function open() {
  const kept = localStorage.getItem('language');
  await speak(kept in LANGUAGES ? kept : navigator.language.startsWith('zh') ? 'zh' : 'en');
  nameLanguage();
  wireStop();
  wireNext();
  wirePicture();
  byId('language').addEventListener('click', changeLanguage);
  byId('leave').addEventListener('click', async () => {
    await post('/api/logout');
    location.reload();
  });
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
  choose(needles[0].name);
  drawScans();
  if (board.state) {
    scans = [];
    await heard({ kind: 'state', state: board.state });
  }
  if (!doses.planned) await fetchDoses();
  document.body.dataset.ready = 'yes';
}

// For measuring and for tests in a browser.
window.seedguide = { picture, get state() { return board.state; } };

open().catch((problem) => {
  byId('told').textContent = String(problem);
});
