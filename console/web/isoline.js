// Lines of equal value on a lattice of samples (marching squares); masks are cut at 0.5, dose at its levels.

/**
 * Segments [x0, y0, x1, y1, ...] in lattice steps where `values` (row-major, width x height) crosses `level`.
 * A saddle is cut by the mean of its four corners, so that lines never cross.
 */
export function isoline(values, width, height, level) {
  const out = [];
  const part = (a, b) => (level - a) / (b - a);
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0; x + 1 < width; x++) {
      const at = y * width + x;
      const a = values[at];
      const b = values[at + 1];
      const c = values[at + width + 1];
      const d = values[at + width];
      const kind = (a >= level ? 1 : 0) | (b >= level ? 2 : 0) | (c >= level ? 4 : 0) | (d >= level ? 8 : 0);
      if (kind === 0 || kind === 15) continue;
      const top = () => [x + part(a, b), y];
      const right = () => [x + 1, y + part(b, c)];
      const bottom = () => [x + part(d, c), y + 1];
      const left = () => [x, y + part(a, d)];
      const line = (from, to) => out.push(...from(), ...to());
      switch (kind) {
        case 1: case 14: line(left, top); break;
        case 2: case 13: line(top, right); break;
        case 4: case 11: line(right, bottom); break;
        case 8: case 7: line(bottom, left); break;
        case 3: case 12: line(left, right); break;
        case 6: case 9: line(top, bottom); break;
        default: {
          const isFilled = (a + b + c + d) / 4 >= level;
          if ((kind === 5) === isFilled) { line(top, right); line(bottom, left); }
          else { line(left, top); line(right, bottom); }
        }
      }
    }
  }
  return out;
}
