// A box of voxels in the patient frame (DICOM LPS, mm), and how it is cut. No drawing here.
//
// data is ordered z, y, x (x fastest); a point is [x, y, z] in mm; an index is [i, j, k] along x, y, z.

export class Volume {
  /** grid: {shape: [nz, ny, nx], origin_mm: [x, y, z], spacing_mm: [dx, dy, dz]}; data: typed array. */
  constructor(grid, data) {
    const [nz, ny, nx] = grid.shape;
    if (data.length !== nz * ny * nx) {
      throw new Error(`a volume of ${nz} x ${ny} x ${nx} voxels came with ${data.length} values`);
    }
    this.count = [nx, ny, nz];
    this.origin = grid.origin_mm;
    this.spacing = grid.spacing_mm;
    this.data = data;
  }

  /** Fetch the voxels; told(part) is called with 0..1 while they come. */
  static async load(url, grid, Values, told = () => {}) {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
    const [nz, ny, nx] = grid.shape;
    const bytes = new Uint8Array(nz * ny * nx * Values.BYTES_PER_ELEMENT);
    const reader = answer.body.getReader();
    let got = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (got + value.length > bytes.length) throw new Error(`${url}: more voxels than announced`);
      bytes.set(value, got);
      got += value.length;
      told(got / bytes.length);
    }
    if (got !== bytes.length) throw new Error(`${url}: ${got} of ${bytes.length} bytes came`);
    return new Volume(grid, new Values(bytes.buffer));
  }

  /** Fractional voxel index along axis (0 x, 1 y, 2 z) of a coordinate in mm. */
  indexOf(axis, mm) {
    return (mm - this.origin[axis]) / this.spacing[axis];
  }

  /** The nearest slice along axis, inside the volume. */
  sliceAt(axis, mm) {
    return Math.min(this.count[axis] - 1, Math.max(0, Math.round(this.indexOf(axis, mm))));
  }

  centreOf(axis, slice) {
    return this.origin[axis] + slice * this.spacing[axis];
  }

  centre() {
    return [0, 1, 2].map((axis) => this.centreOf(axis, (this.count[axis] - 1) / 2));
  }

  /** Value of the nearest voxel, or undefined outside. */
  valueAt(point) {
    const [i, j, k] = [0, 1, 2].map((axis) => Math.round(this.indexOf(axis, point[axis])));
    const [nx, ny, nz] = this.count;
    if (i < 0 || j < 0 || k < 0 || i >= nx || j >= ny || k >= nz) return undefined;
    return this.data[(k * ny + j) * nx + i];
  }

  /**
   * Nearest-voxel values on a plane: origin + u * right + v * down for u < width, v < height (vectors in mm
   * per step). Outside the volume: `outside`.
   */
  cut(origin, right, down, width, height, outside = 0) {
    const values = new Float32Array(width * height);
    const [nx, ny, nz] = this.count;
    const start = [0, 1, 2].map((axis) => this.indexOf(axis, origin[axis]) + 0.5);
    const du = [0, 1, 2].map((axis) => right[axis] / this.spacing[axis]);
    const dv = [0, 1, 2].map((axis) => down[axis] / this.spacing[axis]);
    for (let v = 0, at = 0; v < height; v++) {
      let x = start[0] + v * dv[0];
      let y = start[1] + v * dv[1];
      let z = start[2] + v * dv[2];
      for (let u = 0; u < width; u++, at++) {
        values[at] =
          x >= 0 && y >= 0 && z >= 0 && x < nx && y < ny && z < nz
            ? this.data[((z | 0) * ny + (y | 0)) * nx + (x | 0)]
            : outside;
        x += du[0];
        y += du[1];
        z += du[2];
      }
    }
    return values;
  }
}

/** Row-major 4 x 4 rigid transform applied to a point. */
export function moved(matrix, point) {
  return [0, 1, 2].map(
    (r) => matrix[r][0] * point[0] + matrix[r][1] * point[1] + matrix[r][2] * point[2] + matrix[r][3],
  );
}

/** The turn alone, for directions. */
export function turned(matrix, direction) {
  return [0, 1, 2].map(
    (r) => matrix[r][0] * direction[0] + matrix[r][1] * direction[1] + matrix[r][2] * direction[2],
  );
}

/** Inverse of a rigid transform. */
export function inverted(matrix) {
  const turn = [0, 1, 2].map((r) => [0, 1, 2].map((c) => matrix[c][r]));
  const shift = [matrix[0][3], matrix[1][3], matrix[2][3]];
  return [
    ...turn.map((row) => [...row, -(row[0] * shift[0] + row[1] * shift[1] + row[2] * shift[2])]),
    [0, 0, 0, 1],
  ];
}

export const IDENTITY = [
  [1, 0, 0, 0],
  [0, 1, 0, 0],
  [0, 0, 1, 0],
  [0, 0, 0, 1],
];
