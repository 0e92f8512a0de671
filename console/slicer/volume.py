"""Voxels as NRRD and registrations as ITK's text transforms: bytes, in the planning CT's patient frame (LPS, mm).

NRRD: teem.sourceforge.net/nrrd/format.html. Transforms: ITK's "Insight Transform File"; Slicer reads such a file as
the transform *from* the parent (developer guide, Transforms), so that for voxels of a rescan the parent is the plan.
"""

from __future__ import annotations

import gzip

import numpy as np
from numpy.typing import NDArray

from planning.frame import RigidTransform
from planning.volume import Grid

_TYPES = {"int16": "int16", "uint8": "uint8", "float32": "float"}


def nrrd_bytes(voxels: NDArray[np.generic], grid: Grid, plan_from_grid: RigidTransform, title: str) -> bytes:
    """A volume ``(nz, ny, nx)`` on ``grid``, which ``plan_from_grid`` takes into the plan's frame.

    The registration goes into the volume's own axes and origin: nobody has to apply a transform.
    """
    directions = plan_from_grid.rotation @ np.diag(grid.spacing_mm)  # columns: one step along x, y, z
    origin = plan_from_grid.apply(grid.origin_mm)
    sizes = " ".join(str(n) for n in reversed(grid.shape))
    lines = [
        "NRRD0004",
        f"# {title}",
        f"type: {_TYPES[str(voxels.dtype)]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        "space directions: " + " ".join(_vector(directions[:, axis]) for axis in range(3)),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(origin)}",
    ]
    raw = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<")).tobytes()
    return ("\n".join(lines) + "\n\n").encode() + gzip.compress(raw, compresslevel=4, mtime=0)


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(f"{float(v) + 0.0:.9g}" for v in values) + ")"


def tfm_bytes(from_parent: RigidTransform) -> bytes:
    """A linear transform; ``from_parent`` takes points of the parent to the frame of what is put under it."""
    numbers = [*from_parent.rotation.ravel(), *from_parent.translation_mm]
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        "Parameters: " + " ".join(f"{float(v) + 0.0:.12g}" for v in numbers),
        "FixedParameters: 0 0 0",
    ]
    return ("\n".join(lines) + "\n").encode()
