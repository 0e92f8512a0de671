// News of the procedure over one WebSocket. A silent or broken connection is told within STALE_MS and tried again for ever.

export const STALE_MS = 2500;
const RETRY_MS = 1000;

export class Feed {
  /** heard(message): each piece of news; changed(state, ageMs): 'connecting' | 'live' | 'lost'. */
  constructor(heard, changed) {
    this.heard = heard;
    this.changed = changed;
    this.lastMs = null;
    this.since = 0;
    this._connect();
    setInterval(() => this._look(), 250);
  }

  get isLive() {
    return this.lastMs !== null && performance.now() - this.lastMs < STALE_MS;
  }

  _connect() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/api/live?since=${this.since}`);
    this._socket = socket;
    socket.onmessage = (event) => {
      if (socket !== this._socket) return;
      this.lastMs = performance.now();
      const message = JSON.parse(event.data);
      if (message.kind === 'journal') for (const r of message.records) this.since = Math.max(this.since, r.number);
      this.heard(message);
      this._look();
    };
    socket.onclose = () => {
      if (socket === this._socket) setTimeout(() => this._connect(), RETRY_MS);
    };
  }

  _look() {
    if (this.lastMs === null) return this.changed('connecting', 0);
    const age = performance.now() - this.lastMs;
    this.changed(age < STALE_MS ? 'live' : 'lost', age);
  }
}
