// The room in three dimensions, drawn by plotly (served from its Python package, so that no network is needed).

import { get } from './request.js';

const LIGHTING = { ambient: 0.65, diffuse: 0.7, specular: 0.1 };
const LAYOUT = {
  paper_bgcolor: '#1c2430', font: { color: '#fff' }, margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false,
  scene: { aspectmode: 'data', xaxis: { visible: false }, yaxis: { visible: false }, zaxis: { visible: false },
    camera: { eye: { x: -1.2, y: -1.6, z: 0.7 } } },
  uirevision: 'kept',
};

let loading = null;
/** plotly is 4 MB: it comes when the first picture needs it. */
export function plotly() {
  loading ??= new Promise((done, failed) => {
    const script = document.createElement('script');
    script.src = '/static/plotly.js';
    script.onload = () => done(window.Plotly);
    script.onerror = failed;
    document.head.append(script);
  });
  return loading;
}

export class Space {
  constructor(element, picture) {
    this.element = element;
    this.picture = picture;
    this.meshes = null;
  }

  async draw() {
    if (this.element.hidden) return;
    const Plotly = await plotly();
    this.meshes ??= await Promise.all(
      [['Body', '#f0d6c2', 0.28], ['CTV', '#ff9b3d', 0.3], ['GTV', '#ff4d4d', 0.5]].map(async ([name, color, opacity]) =>
        mesh(await get(`/api/meshes/${name}`), color, opacity)),
    );
    const corners = this.picture.summary.template_mm;
    const lines = [plate(corners), line([...corners, corners[0]], '#dbe9ff', 5, 'solid', 'template')];
    for (const needle of this.picture.needles) {
      const isChosen = needle.name === this.picture.chosen;
      lines.push(line([needle.planned.entry_mm, needle.planned.tip_mm], '#f5b301', isChosen ? 8 : 3, 'dash', needle.name));
      if (needle.found) {
        const { tip_mm: tip, direction, length_mm: length } = needle.found;
        const back = tip.map((value, a) => value - direction[a] * length);
        lines.push(line([back, tip], '#35d0ff', isChosen ? 9 : 5, 'solid', needle.name));
      }
    }
    const seeds = this.picture.seeds;
    lines.push({ type: 'scatter3d', mode: 'markers', marker: { size: 3, color: '#7dff8a' }, hoverinfo: 'skip',
      x: seeds.map((s) => s.centre_mm[0]), y: seeds.map((s) => s.centre_mm[1]), z: seeds.map((s) => s.centre_mm[2]) });
    await Plotly.react(this.element, [...this.meshes, ...lines], LAYOUT, { displayModeBar: false, responsive: true });
  }
}

function mesh(found, color, opacity) {
  const part = (list, a) => list.map((p) => p[a]);
  return { type: 'mesh3d', color, opacity, name: found.name, hoverinfo: 'name', lighting: LIGHTING,
    x: part(found.points_mm, 0), y: part(found.points_mm, 1), z: part(found.points_mm, 2),
    i: part(found.triangles, 0), j: part(found.triangles, 1), k: part(found.triangles, 2) };
}

/** The template, through which the needles go. */
function plate(corners) {
  const part = (a) => corners.map((p) => p[a]);
  return { type: 'mesh3d', color: '#9fc7ff', opacity: 0.5, name: 'template', hoverinfo: 'name', lighting: LIGHTING,
    x: part(0), y: part(1), z: part(2), i: [0, 0], j: [1, 2], k: [2, 3] };
}

function line(points, color, width, dash, name) {
  return { type: 'scatter3d', mode: 'lines', line: { color, width, dash }, name, hoverinfo: 'name',
    x: points.map((p) => p[0]), y: points.map((p) => p[1]), z: points.map((p) => p[2]) };
}
