// One plane of the picture: a canvas that shows a slice of the CT with what is planned, found and given on it.
//
// The view holds no procedure: it is handed a scene and draws it. Every drawing goes through requestAnimationFrame, so
// that ten events between two frames cost one drawing.

import { isoline } from './isoline.js';
import { say } from './words.js';
import { inverted, moved, turned } from './volume.js';

/** Where screen right and down point in the patient, and which axis the slices are stacked along. */
export const PLANES = {
  axial: { right: 0, down: 1, along: 2, flip: false, edges: ['R', 'L', 'A', 'P'] },
  coronal: { right: 0, down: 2, along: 1, flip: true, edges: ['R', 'L', 'S', 'I'] },
  sagittal: { right: 1, down: 2, along: 0, flip: true, edges: ['A', 'P', 'S', 'I'] },
};

/** HU -> opaque grey, as one table over all int16 values: a window change costs 65,536 steps, not one per voxel. */
export function greyTable(level, width) {
  const table = new Uint32Array(65536);
  const low = level - width / 2;
  for (let i = 0; i < 65536; i++) {
    const hu = i < 32768 ? i : i - 65536;
    const grey = Math.max(0, Math.min(255, Math.round(((hu - low) / width) * 255)));
    table[i] = (255 << 24) | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

/** Paint slice `index` of `volume` into `pixels` (one Uint32 a voxel, row-major as seen on the screen). */
export function paintSlice(volume, plane, index, table, pixels) {
  const { right, down, along, flip } = PLANES[plane];
  const [nx, ny] = volume.count;
  const step = [1, nx, nx * ny];
  const width = volume.count[right];
  const height = volume.count[down];
  const data = volume.data;
  for (let v = 0, to = 0; v < height; v++) {
    let from = index * step[along] + (flip ? height - 1 - v : v) * step[down];
    for (let u = 0; u < width; u++, to++, from += step[right]) {
      pixels[to] = table[data[from] & 0xffff];
    }
  }
}

const OVERLAY_STEPS = 192;

export class PlaneView {
  /**
   * canvas: element; plane: 'axial' | 'coronal' | 'sagittal';
   * on: {picked(point), scrolled(axis, mm), windowed(dLevel, dWidth), zoomed()}.
   */
  constructor(canvas, plane, on) {
    this.canvas = canvas;
    this.plane = plane;
    this.on = on;
    this.geometry = PLANES[plane];
    this.zoom = 1;
    this.pan = [0, 0];
    this.scene = null;
    this.frames = 0;
    this._asked = false;
    this._slice = document.createElement('canvas');
    this._overlays = new Map();
    canvas.addEventListener('wheel', (event) => this._wheel(event), { passive: false });
    canvas.addEventListener('pointerdown', (event) => this._down(event));
    canvas.addEventListener('pointermove', (event) => this._drag(event));
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, (event) => this._up(event));
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    canvas.addEventListener('keydown', (event) => this._key(event));
    this._pointers = new Map();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /**
   * scene: {volume, scanFromPlan, cursor: [x, y, z] of the scan, table, needles, seeds, structures, isodoses, shows}
   * A new volume or transform empties what was cut for overlays.
   */
  show(scene) {
    if (!this.scene || scene.volume !== this.scene.volume || scene.scanFromPlan !== this.scene.scanFromPlan) {
      this._overlays.clear();
      this._pixels = null;
    }
    this.scene = scene;
    this.draw();
  }

  draw() {
    if (this._asked) return;
    this._asked = true;
    requestAnimationFrame(() => {
      this._asked = false;
      this._drawNow();
      this.frames += 1;
    });
  }

  // --- coordinates ------------------------------------------------------------------------------------

  /** Screen pixels per mm so that the whole slice fits at zoom 1. */
  _scale() {
    const { right, down } = this.geometry;
    const { volume } = this.scene;
    const wide = volume.count[right] * volume.spacing[right];
    const high = volume.count[down] * volume.spacing[down];
    return Math.min(this.canvas.width / wide, this.canvas.height / high) * this.zoom;
  }

  /** Screen position of a point of the scan. */
  toScreen(point) {
    const { right, down, flip } = this.geometry;
    const centre = this.scene.volume.centre();
    const scale = this._scale();
    return [
      this.canvas.width / 2 + this.pan[0] + (point[right] - centre[right]) * scale,
      this.canvas.height / 2 + this.pan[1] + (point[down] - centre[down]) * scale * (flip ? -1 : 1),
    ];
  }

  toPoint([x, y]) {
    const { right, down, flip } = this.geometry;
    const centre = this.scene.volume.centre();
    const scale = this._scale();
    const point = [...this.scene.cursor];
    point[right] = centre[right] + (x - this.canvas.width / 2 - this.pan[0]) / scale;
    point[down] = centre[down] + ((y - this.canvas.height / 2 - this.pan[1]) / scale) * (flip ? -1 : 1);
    return point;
  }

  // --- drawing ----------------------------------------------------------------------------------------

  _drawNow() {
    const ratio = window.devicePixelRatio || 1;
    const wide = Math.round(this.canvas.clientWidth * ratio);
    const high = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
    }
    const pen = this.canvas.getContext('2d', { alpha: false });
    pen.fillStyle = '#000';
    pen.fillRect(0, 0, wide, high);
    if (!this.scene || !wide || !high) return;
    this._drawSlice(pen);
    const { shows } = this.scene;
    if (shows.structures) for (const s of this.scene.structures) this._drawOutline(pen, s, 0.5, s.colour, []);
    if (shows.dose) {
      for (const d of this.scene.isodoses) this._drawOutline(pen, d, d.level_gy, d.colour, d.dash);
    }
    if (shows.planned) for (const n of this.scene.needles) this._drawPlanned(pen, n);
    if (shows.found) for (const n of this.scene.needles) this._drawFound(pen, n);
    if (shows.seeds) for (const s of this.scene.seeds) this._drawSeed(pen, s);
    if (shows.cursor) this._drawCursor(pen);
    this._drawEdges(pen);
    this._drawLegend(pen);
  }

  _drawSlice(pen) {
    const { volume, cursor, table } = this.scene;
    const { right, down, along } = this.geometry;
    const width = volume.count[right];
    const height = volume.count[down];
    if (!this._pixels) {
      this._slice.width = width;
      this._slice.height = height;
      this._image = new ImageData(width, height);
      this._pixels = new Uint32Array(this._image.data.buffer);
    }
    const index = volume.sliceAt(along, cursor[along]);
    paintSlice(volume, this.plane, index, table, this._pixels);
    const onto = this._slice.getContext('2d');
    onto.putImageData(this._image, 0, 0);
    const scale = this._scale();
    const [x, y] = this.toScreen(volume.centre());
    const wide = width * volume.spacing[right] * scale;
    const high = height * volume.spacing[down] * scale;
    pen.imageSmoothingEnabled = this.zoom < 6;
    pen.drawImage(this._slice, x - wide / 2, y - high / 2, wide, high);
  }

  /** Outline of a volume in the plan's frame, cut by this slice; kept until slice or volume change. */
  _drawOutline(pen, item, level, colour, dash) {
    const { volume, cursor, scanFromPlan } = this.scene;
    const { right, down, along } = this.geometry;
    const slice = volume.sliceAt(along, cursor[along]);
    const key = `${item.key}/${level}`;
    let kept = this._overlays.get(key);
    if (!kept || kept.slice !== slice || kept.of !== item.volume) {
      kept = { slice, of: item.volume, ...this._cutOutline(item.volume, level, slice, scanFromPlan) };
      this._overlays.set(key, kept);
    }
    if (!kept.lines.length) return;
    const { lines, origin, step } = kept;
    const scale = this._scale();
    const first = this.toScreen(origin);
    const sign = this.geometry.flip ? -1 : 1;
    pen.strokeStyle = colour;
    pen.lineWidth = 2 * (window.devicePixelRatio || 1);
    pen.setLineDash(dash);
    pen.beginPath();
    for (let i = 0; i < lines.length; i += 4) {
      pen.moveTo(first[0] + lines[i] * step[right] * scale, first[1] + sign * lines[i + 1] * step[down] * scale);
      pen.lineTo(first[0] + lines[i + 2] * step[right] * scale, first[1] + sign * lines[i + 3] * step[down] * scale);
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  _cutOutline(of, level, slice, scanFromPlan) {
    const { right, down, along } = this.geometry;
    const { volume } = this.scene;
    const planFromScan = inverted(scanFromPlan);
    // Only the box of the overlay, seen from the scan, is cut.
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    for (let corner = 0; corner < 8; corner++) {
      const at = [0, 1, 2].map((a) => of.centreOf(a, corner & (1 << a) ? of.count[a] : -1));
      moved(scanFromPlan, at).forEach((value, a) => {
        low[a] = Math.min(low[a], value);
        high[a] = Math.max(high[a], value);
      });
    }
    const mm = volume.centreOf(along, slice);
    if (mm < low[along] || mm > high[along]) return { lines: [], origin: low, step: [1, 1, 1] };
    const origin = [...low];
    origin[along] = mm;
    const step = [0, 1, 2].map((a) => Math.max(of.spacing[a] / 2, (high[a] - low[a]) / OVERLAY_STEPS));
    const width = Math.ceil((high[right] - low[right]) / step[right]) + 1;
    const height = Math.ceil((high[down] - low[down]) / step[down]) + 1;
    const unit = (axis) => turned(planFromScan, [0, 1, 2].map((a) => (a === axis ? step[axis] : 0)));
    const values = of.cut(moved(planFromScan, origin), unit(right), unit(down), width, height);
    return { lines: isoline(values, width, height, level), origin, step };
  }

  /** How far a point lies from the shown slice, mm. */
  _away(point) {
    const { along } = this.geometry;
    const { volume, cursor } = this.scene;
    return Math.abs(point[along] - volume.centreOf(along, volume.sliceAt(along, cursor[along])));
  }

  _line(pen, from, to, colour, dash, width) {
    const ratio = window.devicePixelRatio || 1;
    pen.strokeStyle = colour;
    pen.lineWidth = width * ratio;
    pen.setLineDash(dash.map((d) => d * ratio));
    pen.beginPath();
    pen.moveTo(...this.toScreen(from));
    pen.lineTo(...this.toScreen(to));
    pen.stroke();
    pen.setLineDash([]);
  }

  _drawPlanned(pen, needle) {
    const { scanFromPlan, chosen } = this.scene;
    const entry = moved(scanFromPlan, needle.planned.entry_mm);
    const tip = moved(scanFromPlan, needle.planned.tip_mm);
    const isChosen = needle.name === chosen;
    this._line(pen, entry, tip, isChosen ? '#ffd54a' : '#f5b301', [6, 4], isChosen ? 3 : 1.5);
    this._mark(pen, tip, '#f5b301', 'ring', isChosen ? needle.name : '');
  }

  _drawFound(pen, needle) {
    if (!needle.found) return;
    const { chosen, scanFromPlan } = this.scene;
    const tip = moved(scanFromPlan, needle.found.tip_mm);
    const direction = turned(scanFromPlan, needle.found.direction);
    const back = tip.map((value, a) => value - direction[a] * needle.found.length_mm);
    const isChosen = needle.name === chosen;
    this._line(pen, back, tip, '#35d0ff', [], isChosen ? 3 : 1.5);
    this._mark(pen, tip, '#35d0ff', 'cross', this._away(tip) < 3 || isChosen ? needle.name : '');
  }

  _drawSeed(pen, seed) {
    const { scanFromPlan } = this.scene;
    const centre = moved(scanFromPlan, seed.centre_mm);
    if (this._away(centre) > 3) return;
    const half = turned(scanFromPlan, seed.direction).map((d) => (d * 4.5) / 2);
    const from = centre.map((value, a) => value - half[a]);
    const to = centre.map((value, a) => value + half[a]);
    this._line(pen, from, to, seed.is_found ? '#7dff8a' : '#ff9bd2', seed.is_found ? [] : [2, 2], 4);
  }

  _mark(pen, point, colour, shape, text) {
    const ratio = window.devicePixelRatio || 1;
    const [x, y] = this.toScreen(point);
    const size = 5 * ratio;
    pen.globalAlpha = this._away(point) <= 3 ? 1 : 0.35;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2 * ratio;
    pen.beginPath();
    if (shape === 'ring') pen.arc(x, y, size, 0, 2 * Math.PI);
    else {
      pen.moveTo(x - size, y - size);
      pen.lineTo(x + size, y + size);
      pen.moveTo(x - size, y + size);
      pen.lineTo(x + size, y - size);
    }
    pen.stroke();
    if (text) {
      pen.font = `${15 * ratio}px sans-serif`;
      pen.fillText(text, x + size * 1.6, y - size);
    }
    pen.globalAlpha = 1;
  }

  _drawCursor(pen) {
    const [x, y] = this.toScreen(this.scene.cursor);
    pen.strokeStyle = 'rgba(255,255,255,0.45)';
    pen.lineWidth = window.devicePixelRatio || 1;
    pen.beginPath();
    pen.moveTo(x, 0);
    pen.lineTo(x, this.canvas.height);
    pen.moveTo(0, y);
    pen.lineTo(this.canvas.width, y);
    pen.stroke();
  }

  _drawEdges(pen) {
    const ratio = window.devicePixelRatio || 1;
    const { volume, cursor } = this.scene;
    const { along, edges } = this.geometry;
    const { width, height } = this.canvas;
    pen.font = `bold ${16 * ratio}px sans-serif`;
    pen.fillStyle = '#fff';
    pen.textBaseline = 'middle';
    pen.textAlign = 'left';
    pen.fillText(edges[0], 6 * ratio, height / 2);
    pen.textAlign = 'right';
    pen.fillText(edges[1], width - 6 * ratio, height / 2);
    pen.textAlign = 'center';
    pen.fillText(edges[2], width / 2, 14 * ratio);
    pen.fillText(edges[3], width / 2, height - 14 * ratio);
    pen.textAlign = 'left';
    pen.font = `${22 * ratio}px sans-serif`;
    for (const [by, [x, y, side]] of this._steppers()) {
      pen.fillStyle = 'rgba(42,52,66,0.85)';
      pen.fillRect(x, y, side, side);
      pen.fillStyle = '#fff';
      pen.textAlign = 'center';
      pen.fillText(by < 0 ? '▲' : '▼', x + side / 2, y + side / 2);
    }
    pen.font = `bold ${16 * ratio}px sans-serif`;
    pen.textAlign = 'left';
    const slice = volume.sliceAt(along, cursor[along]);
    const told = `${'xyz'[along]} ${volume.centreOf(along, slice).toFixed(1)} mm  ${slice + 1}/${volume.count[along]}`;
    pen.fillText(told, 8 * ratio, 16 * ratio);
    pen.textBaseline = 'alphabetic';
  }

  /** Names of what is outlined, each in its colour; once is enough. */
  _drawLegend(pen) {
    const ratio = window.devicePixelRatio || 1;
    const { structures, isodoses, shows } = this.scene;
    if (this.plane !== 'axial') return;
    const rows = [
      ...(shows.structures ? structures.map((s) => [s.name, s.colour]) : []),
      ...(shows.dose ? isodoses.map((d) => [`${d.percent} % ${say(d.which)}`, d.colour]) : []),
    ];
    const size = this.canvas.clientWidth < 450 ? 11 : 15;
    pen.font = `${size * ratio}px sans-serif`;
    pen.textAlign = 'right';
    const wide = Math.max(0, ...rows.map(([name]) => pen.measureText(name).width));
    pen.fillStyle = 'rgba(0,0,0,0.6)';
    if (rows.length) pen.fillRect(this.canvas.width - wide - 14 * ratio, 0, wide + 14 * ratio, (rows.length * (size + 4) + 8) * ratio);
    rows.forEach(([name, colour], at) => {
      pen.fillStyle = colour;
      pen.fillText(name, this.canvas.width - 8 * ratio, (size + 5 + at * (size + 4)) * ratio);
    });
    pen.textAlign = 'left';
  }

  /** Where a finger goes to the slice before and after: [by, [left, top, side]]. */
  _steppers() {
    const ratio = window.devicePixelRatio || 1;
    const side = 46 * ratio;
    const left = this.canvas.width - side - 4 * ratio;
    return [[-1, [left, this.canvas.height - 2 * side - 8 * ratio, side]], [1, [left, this.canvas.height - side - 4 * ratio, side]]];
  }

  /** -1, 1: the point lies on one of them. */
  _stepperAt([x, y]) {
    const hit = this._steppers().find(([, [left, top, side]]) => x >= left && x < left + side && y >= top && y < top + side);
    return hit?.[0];
  }

  // --- hands ------------------------------------------------------------------------------------------

  _at(event) {
    const ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  _wheel(event) {
    event.preventDefault();
    if (!this.scene) return;
    if (event.ctrlKey) this._zoomAt(this._at(event), event.deltaY < 0 ? 1.2 : 1 / 1.2);
    else this.step(event.deltaY > 0 ? 1 : -1);
  }

  /** Go `by` slices further. */
  step(by) {
    const { along } = this.geometry;
    const { volume, cursor } = this.scene;
    const slice = volume.sliceAt(along, cursor[along]) + by;
    if (slice >= 0 && slice < volume.count[along]) this.on.scrolled(along, volume.centreOf(along, slice));
  }

  _zoomAt([x, y], by) {
    const zoom = Math.max(1, Math.min(20, this.zoom * by));
    const grown = zoom / this.zoom;
    const [cx, cy] = [this.canvas.width / 2, this.canvas.height / 2];
    this.pan = zoom === 1 ? [0, 0] : [x - cx - (x - cx - this.pan[0]) * grown, y - cy - (y - cy - this.pan[1]) * grown];
    this.zoom = zoom;
    this.draw();
  }

  _down(event) {
    if (!this.scene) return;
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    const by = event.button === 0 ? this._stepperAt(this._at(event)) : undefined;
    if (by !== undefined) {
      this.step(by);
      clearInterval(this._stepping);
      let held = 0;
      this._stepping = setInterval(() => ++held > 4 && this.step(by), 100); // held: on and on
      return;
    }
    this._pointers.set(event.pointerId, { at: this._at(event), button: event.button, shift: event.shiftKey });
    if (event.button === 0 && !event.shiftKey && this._pointers.size === 1) this.on.picked(this.toPoint(this._at(event)));
  }

  _drag(event) {
    const pointer = this._pointers.get(event.pointerId);
    if (!pointer || !this.scene) return;
    const at = this._at(event);
    const [dx, dy] = [at[0] - pointer.at[0], at[1] - pointer.at[1]];
    if (this._pointers.size === 2) {
      const [other] = [...this._pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      const before = Math.hypot(pointer.at[0] - other.at[0], pointer.at[1] - other.at[1]);
      const now = Math.hypot(at[0] - other.at[0], at[1] - other.at[1]);
      if (before > 0) this._zoomAt([(at[0] + other.at[0]) / 2, (at[1] + other.at[1]) / 2], now / before);
    } else if (pointer.button === 2) this.on.windowed(-dy * 2, dx * 2);
    else if (pointer.button === 1 || pointer.shift) {
      this.pan = [this.pan[0] + dx, this.pan[1] + dy];
      this.draw();
    } else this.on.picked(this.toPoint(at));
    pointer.at = at;
  }

  _up(event) {
    clearInterval(this._stepping);
    this._pointers.delete(event.pointerId);
  }

  _key(event) {
    if (!this.scene) return;
    const centre = [this.canvas.width / 2, this.canvas.height / 2];
    const acts = {
      ArrowUp: () => this.step(-1),
      ArrowDown: () => this.step(1),
      PageUp: () => this.step(-10),
      PageDown: () => this.step(10),
      '+': () => this._zoomAt(centre, 1.2),
      '-': () => this._zoomAt(centre, 1 / 1.2),
      0: () => this._zoomAt(centre, 0.01),
    };
    if (acts[event.key]) {
      event.preventDefault();
      acts[event.key]();
    }
  }
}
