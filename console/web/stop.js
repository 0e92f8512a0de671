// The stop: one click or key from anywhere, no question; shows at once what is known of it.

import { byId } from './element.js';
import { post } from './request.js';
import { say } from './words.js';

const ACKNOWLEDGE_MS = 1500; // a device stops within 10 ms of the byte; later than this a person must act
let pressedMs = null;
let isRefused = false;
let known = null; // the latest state's

async function stop() {
  pressedMs = performance.now();
  isRefused = false;
  drawStop(known);
  const answer = await post('/api/stop');
  isRefused = !answer.ok;
  drawStop(known);
}

/** told: {pressed, acknowledged} of the latest state. */
export function drawStop(told) {
  known = told;
  const isAcknowledged = Boolean(told?.acknowledged);
  const bar = byId('stop-told');
  if (pressedMs === null && !told?.pressed) {
    bar.textContent = '';
    return;
  }
  pressedMs ??= performance.now();
  const isLate = isRefused || performance.now() - pressedMs > ACKNOWLEDGE_MS;
  const text = say(isAcknowledged ? 'stop_acknowledged' : isLate ? 'stop_failed' : 'stop_sent');
  bar.className = isAcknowledged ? 'is-acknowledged' : isLate ? 'is-failed' : '';
  if (bar.textContent !== text) bar.textContent = text;
  if (!isAcknowledged && !isLate) setTimeout(() => drawStop(known), 200);
}

/** Goes on after a stop that was taken back: what was told is over. */
export function forgetStop() {
  pressedMs = null;
}

export function wireStop() {
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
}
