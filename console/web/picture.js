// The CT with plan, findings and dose: three linked planes, the needle's eye, and the room in three dimensions.

import { get } from './request.js';
import { PlaneView, greyTable } from './plane.js';
import { IDENTITY, Volume, moved, turned } from './volume.js';
import { say } from './words.js';

const SHOWS = ['structures', 'planned', 'found', 'seeds', 'dose', 'cursor'];
const NEEDLES_EYE_MM = 60;
const FOUND_LENGTH_MM = 80; // how much of a found shaft is drawn back from its tip

export class Picture {
  constructor() {
    this.views = ['axial', 'coronal', 'sagittal'].map(
      (plane) =>
        new PlaneView(document.getElementById(plane), plane, {
          picked: (point) => this.point(point),
          scrolled: (axis, mm) => this.point(this.scene.cursor.map((value, a) => (a === axis ? mm : value))),
          windowed: (dLevel, dWidth) => this.window(this.level + dLevel, Math.max(1, this.width + dWidth), true),
        }),
    );
    this.eye = document.getElementById('eye');
    this.level = 40;
    this.width = 400;
    this.volumes = new Map();
    this.shows = Object.fromEntries(SHOWS.map((name) => [name, name !== 'dose']));
    this.scene = null;
    this.depth = 0;
    this.eye.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.depth = Math.max(-20, Math.min(150, this.depth + (event.deltaY > 0 ? -1 : 1)));
      this._drawEye();
    }, { passive: false });
    new ResizeObserver(() => this._drawEye()).observe(this.eye);
  }

  /** Read what is planned, then the planning CT. */
  async open() {
    this.summary = await get('/api/scene');
    this.structures = [];
    this.isodoses = [];
    this.needles = this.summary.needles.map((n) => ({ name: n.name, planned: n, found: null }));
    this.seeds = [];
    this._makeButtons();
    await this.showScan({ number: 0, plan_from_scan: IDENTITY, scan_from_plan: IDENTITY });
    this._loadOverlays();
  }

  async _loadOverlays() {
    for (const s of this.summary.structures) {
      const volume = await Volume.load(`/api/structures/${encodeURIComponent(s.name)}`, s, Uint8Array);
      this.structures.push({ key: s.name, name: s.name, colour: s.colour, volume });
      this._refresh();
    }
  }

  /** Show the dose `which` ('planned', 'now') as lines. */
  async loadDose(which) {
    if (which === 'planned' && this.doseShown === 'planned') return;
    const volume = await Volume.load(`/api/dose/${which}`, this.summary.dose, Float32Array);
    this.doseShown = which;
    this.isodoses = this.summary.isodoses.map((d) => ({ ...d, key: `dose ${d.percent}`, volume, which }));
    this._refresh();
  }

  /** Anew, in another language. */
  redraw() {
    this._refresh();
  }

  /** scan: {number, scan_from_plan}; fetches its voxels once. */
  async showScan(scan) {
    this.wanted = scan.number;
    if (!this.volumes.has(scan.number)) {
      const told = document.getElementById('loading');
      told.textContent = `${say('loading')} …`;
      const grid = await get(`/api/scans/${scan.number}`);
      const volume = await Volume.load(`/api/scans/${scan.number}/hu`, grid, Int16Array, (part) => {
        told.textContent = `${say('loading')} ${Math.round(part * 100)} %`;
      });
      told.textContent = '';
      if (this.volumes.size > 2) this.volumes.delete([...this.volumes.keys()].find((n) => n !== 0));
      this.volumes.set(scan.number, volume);
    }
    if (this.wanted !== scan.number) return;
    const volume = this.volumes.get(scan.number);
    const target = this.needles.length ? this.needles[0].planned.tip_mm : volume.centre();
    const cursor =
      this.scene && this.scene.number === scan.number ? this.scene.cursor : moved(scan.scan_from_plan, target);
    this.scene = { number: scan.number, volume, scanFromPlan: scan.scan_from_plan, cursor, chosen: this.chosen };
    this.window(this.level, this.width);
  }

  /** found: {name: {tip_mm, direction}}; seeds: [{centre_mm, direction, is_found}]; both in the plan's frame. */
  found(found, seeds) {
    for (const needle of this.needles) {
      const at = found[needle.name];
      needle.found = at ? { ...at, length_mm: FOUND_LENGTH_MM } : null;
    }
    this.seeds = seeds;
    this._refresh();
  }

  window(level, width, isOwn = false) {
    this.level = level;
    this.width = width;
    this.table = greyTable(level, width);
    const select = document.getElementById('window');
    const preset = [...select.options].find((o) => o.value === `${level},${width}`);
    if (isOwn || !preset) {
      const own = select.options[select.options.length - 1];
      own.hidden = false;
      own.textContent = `${Math.round(level)} / ${Math.round(width)}`;
      own.value = '';
      select.value = '';
    } else select.value = preset.value;
    this._refresh();
  }

  point(cursor) {
    if (!this.scene) return;
    this.scene.cursor = cursor;
    this._refresh();
  }

  /** Choose a needle and put the cross on its tip (found, else planned). */
  jump(name) {
    this.chosen = name;
    const needle = this.needles.find((n) => n.name === name);
    if (!needle || !this.scene) return;
    this.scene.chosen = name;
    this.depth = 0;
    this.point(moved(this.scene.scanFromPlan, (needle.found ?? needle.planned).tip_mm));
  }

  _refresh() {
    if (!this.scene) return;
    Object.assign(this.scene, {
      table: this.table,
      needles: this.needles,
      seeds: this.seeds,
      structures: this.structures,
      isodoses: this.isodoses,
      shows: this.shows,
    });
    for (const view of this.views) view.show(this.scene);
    this._drawEye();
  }

  _makeButtons() {
    const group = document.getElementById('shows');
    group.replaceChildren(
      ...SHOWS.map((name) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.dataset.i18n = `show_${name}`;
        button.textContent = say(`show_${name}`);
        button.setAttribute('aria-pressed', String(this.shows[name]));
        button.addEventListener('click', () => {
          this.shows[name] = !this.shows[name];
          button.setAttribute('aria-pressed', String(this.shows[name]));
          if (name === 'dose' && this.shows.dose) this.wantsDose();
          this._refresh();
        });
        return button;
      }),
    );
  }

  /** Across the chosen needle's planned path, `depth` mm behind its tip, as seen from the hub. */
  _drawEye() {
    if (this._eyeAsked) return;
    this._eyeAsked = true;
    requestAnimationFrame(() => {
      this._eyeAsked = false;
      if (!this.eye.hidden) this._drawEyeNow();
    });
  }

  _drawEyeNow() {
    const needle = this.needles?.find((n) => n.name === this.chosen);
    const canvas = this.eye;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const pen = canvas.getContext('2d', { alpha: false });
    if (!needle || !this.scene || !canvas.width || !canvas.height) return;
    const { scanFromPlan, volume } = this.scene;
    const axis = turned(scanFromPlan, needle.planned.direction);
    const tip = moved(scanFromPlan, needle.planned.tip_mm);
    const at = tip.map((value, a) => value - axis[a] * this.depth);
    // Up on the screen is as near to the head as the needle allows.
    const up = Math.abs(axis[2]) < 0.9 ? [0, 0, 1] : [0, -1, 0];
    const along = up[0] * axis[0] + up[1] * axis[1] + up[2] * axis[2];
    let down = up.map((value, a) => -(value - along * axis[a]));
    const length = Math.hypot(...down);
    down = down.map((value) => value / length);
    const right = [
      down[1] * axis[2] - down[2] * axis[1],
      down[2] * axis[0] - down[0] * axis[2],
      down[0] * axis[1] - down[1] * axis[0],
    ];
    const steps = Math.min(canvas.width, canvas.height, 400);
    const step = NEEDLES_EYE_MM / steps;
    const scaled = (v) => v.map((value) => value * step);
    const corner = at.map((value, a) => value - ((right[a] + down[a]) * NEEDLES_EYE_MM) / 2);
    const values = volume.cut(corner, scaled(right), scaled(down), steps, steps, -1000);
    const image = new ImageData(steps, steps);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = this.table[values[i] & 0xffff];
    const off = new OffscreenCanvas(steps, steps);
    off.getContext('2d').putImageData(image, 0, 0);
    const size = Math.min(canvas.width, canvas.height);
    const [left, top] = [(canvas.width - size) / 2, (canvas.height - size) / 2];
    pen.drawImage(off, left, top, size, size);
    const centre = [left + size / 2, top + size / 2];
    const scale = size / NEEDLES_EYE_MM;
    pen.lineWidth = 3 * ratio;
    pen.strokeStyle = '#f5b301';
    pen.beginPath();
    pen.arc(...centre, 2 * scale, 0, 2 * Math.PI); // the tolerance
    pen.stroke();
    if (needle.found) {
      const found = moved(scanFromPlan, needle.found.tip_mm).map((value, a) => value - tip[a]);
      const direction = turned(scanFromPlan, needle.found.direction);
      const behind = found.map((value, a) => value - direction[a] * this.depth);
      const x = centre[0] + behind.reduce((sum, value, a) => sum + value * right[a], 0) * scale;
      const y = centre[1] + behind.reduce((sum, value, a) => sum + value * down[a], 0) * scale;
      pen.strokeStyle = '#35d0ff';
      pen.beginPath();
      pen.moveTo(x - 8 * ratio, y);
      pen.lineTo(x + 8 * ratio, y);
      pen.moveTo(x, y - 8 * ratio);
      pen.lineTo(x, y + 8 * ratio);
      pen.stroke();
    }
    pen.font = `${18 * ratio}px sans-serif`;
    pen.fillStyle = 'rgba(0,0,0,0.6)';
    pen.fillRect(0, 0, 210 * ratio, (needle.found ? 80 : 56) * ratio);
    pen.fillStyle = '#fff';
    const where = this.depth ? say('behind_tip', { mm: this.depth.toFixed(0) }) : say('at_tip');
    pen.fillText(`${needle.name}  ${where}`, 8 * ratio, 22 * ratio);
    pen.fillStyle = '#f5b301';
    pen.fillText(`○ ${say('planned')}, 2 mm`, 8 * ratio, 46 * ratio);
    pen.fillStyle = '#35d0ff';
    if (needle.found) pen.fillText(`+ ${say('found')}`, 8 * ratio, 70 * ratio);
  }
}
