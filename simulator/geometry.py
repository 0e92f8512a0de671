"""The simulator's own rigid transforms: homogeneous ``(4, 4)`` matrices named ``to_from``, lengths in mm.

Deliberately not the planner's: a flipped axis that both sides shared could never be seen in a rehearsal.
Points are row vectors ``(3,)`` or ``(n, 3)``; the patient frame is DICOM's LPS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def rigid(
    rotation_deg: ArrayLike, translation_mm: ArrayLike, about_mm: ArrayLike = (0.0, 0.0, 0.0)
) -> Floats:
    """Turn by the rotation vector (length = angle) about a point, then shift: a ``(4, 4)`` matrix."""
    vector = np.radians(np.asarray(rotation_deg, dtype=float))
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / angle if angle > 0.0 else (0.0, 0.0, 0.0)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    about = np.asarray(about_mm, dtype=float)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = about - rotation @ about + np.asarray(translation_mm, dtype=float)
    return matrix


def checked(matrix: ArrayLike) -> Floats:
    """The matrix as an array, if it is a right-handed rigid transform.

    Raises:
        ValueError: it isn't.
    """
    array = np.array(matrix, dtype=float)
    if array.shape != (4, 4) or not np.allclose(array[3], (0.0, 0.0, 0.0, 1.0)):
        raise ValueError("a homogeneous matrix is (4, 4) with the last row 0 0 0 1")
    turn_part = array[:3, :3]
    if not np.allclose(turn_part @ turn_part.T, np.eye(3), atol=1e-5) or np.linalg.det(turn_part) < 0.0:
        raise ValueError("the rotation of a rigid transform must be orthonormal with determinant +1")
    return array


def inverse(matrix: Floats) -> Floats:
    """The inverse of any invertible affine ``(4, 4)`` matrix."""
    return np.asarray(np.linalg.inv(matrix))


def apply(matrix: Floats, points_mm: ArrayLike) -> Floats:
    """Transform one point ``(3,)`` or many ``(n, 3)``."""
    return np.asarray(np.asarray(points_mm, dtype=float) @ matrix[:3, :3].T + matrix[:3, 3])


def turn(matrix: Floats, directions: ArrayLike) -> Floats:
    """Transform directions: the linear part only."""
    return np.asarray(np.asarray(directions, dtype=float) @ matrix[:3, :3].T)


def unit(vector: ArrayLike) -> Floats:
    """The vector(s) scaled to length one along the last axis."""
    array = np.asarray(vector, dtype=float)
    return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True))
