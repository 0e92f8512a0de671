"""Coordinate frames and the rigid transforms between them.

Conventions, used everywhere in this project:

* lengths in mm, angles in degrees; points are row vectors: arrays of shape ``(3,)`` or ``(n, 3)``;
* frames are right-handed; the *patient* frame is DICOM's LPS (x to the patient's left, y to posterior,
  z to superior) of the planning CT;
* a transform is named ``to_from``: ``rig_from_patient.apply(tip_patient_mm)`` is the tip in the rig's frame,
  and ``a_from_b @ b_from_c`` is ``a_from_c``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_UNIT = np.eye(3)
_ORTHONORMAL_WITHIN = 1e-6 + 1e-5 * _UNIT


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """A rotation followed by a translation: ``y = R x + t``.

    Attributes:
        rotation: ``(3, 3)`` orthonormal, determinant +1.
        translation_mm: ``(3,)``.
    """

    rotation: Floats
    translation_mm: Floats

    def __post_init__(self) -> None:
        rotation = np.asarray(self.rotation, dtype=float)
        translation = np.asarray(self.translation_mm, dtype=float)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise ValueError("a rigid transform needs a (3, 3) rotation and a (3,) translation")
        (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
        determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
        is_orthonormal = (np.abs(rotation @ rotation.T - _UNIT) <= _ORTHONORMAL_WITHIN).all()
        if not (is_orthonormal and determinant > 0.0):  # so that NaN is refused too
            raise ValueError("the rotation of a rigid transform must be orthonormal with determinant +1")
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation_mm", translation)

    @staticmethod
    def identity() -> RigidTransform:
        return RigidTransform(np.eye(3), np.zeros(3))

    @staticmethod
    def from_rotation_vector(
        rotation_deg: ArrayLike, translation_mm: ArrayLike, about_mm: ArrayLike = (0.0, 0.0, 0.0)
    ) -> RigidTransform:
        """Turn by ``|rotation_deg|`` about the axis ``rotation_deg`` through ``about_mm``, then shift."""
        from scipy.spatial.transform import Rotation

        rotation = Rotation.from_rotvec(np.asarray(rotation_deg, dtype=float), degrees=True).as_matrix()
        about = np.asarray(about_mm, dtype=float)
        return RigidTransform(rotation, about - rotation @ about + np.asarray(translation_mm, dtype=float))

    @staticmethod
    def from_matrix(matrix: ArrayLike) -> RigidTransform:
        """From a homogeneous ``(4, 4)`` matrix."""
        array = np.asarray(matrix, dtype=float)
        if array.shape != (4, 4) or not np.allclose(array[3], (0, 0, 0, 1)):
            raise ValueError("a homogeneous matrix is (4, 4) with the last row 0 0 0 1")
        return RigidTransform(array[:3, :3], array[:3, 3])

    def matrix(self) -> Floats:
        """Homogeneous ``(4, 4)`` matrix."""
        homogeneous = np.eye(4)
        homogeneous[:3, :3] = self.rotation
        homogeneous[:3, 3] = self.translation_mm
        return homogeneous

    def apply(self, points_mm: ArrayLike) -> Floats:
        """Transform one point ``(3,)`` or many ``(n, 3)``."""
        return np.asarray(points_mm, dtype=float) @ self.rotation.T + self.translation_mm

    def turn(self, directions: ArrayLike) -> Floats:
        """Transform directions: rotation only."""
        return np.asarray(directions, dtype=float) @ self.rotation.T

    def inverse(self) -> RigidTransform:
        return RigidTransform(self.rotation.T, -self.rotation.T @ self.translation_mm)

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        return RigidTransform(
            self.rotation @ other.rotation, self.rotation @ other.translation_mm + self.translation_mm
        )

    def rotation_angle_deg(self) -> float:
        """Angle of the rotation, 0..180 degrees."""
        sine = 0.5 * np.linalg.norm(
            [
                self.rotation[2, 1] - self.rotation[1, 2],
                self.rotation[0, 2] - self.rotation[2, 0],
                self.rotation[1, 0] - self.rotation[0, 1],
            ]
        )
        return float(np.degrees(np.arctan2(sine, 0.5 * (np.trace(self.rotation) - 1.0))))


def unit(vector: ArrayLike) -> Floats:
    """The vector(s) scaled to length one along the last axis; a zero vector is refused."""
    array = np.asarray(vector, dtype=float)
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    if np.any(length == 0.0):
        raise ValueError("a direction of length zero")
    return np.asarray(array / length)


def angle_between_deg(first: ArrayLike, second: ArrayLike) -> float:
    """Angle between two directions, 0..180 degrees, accurate also near 0."""
    u, v = unit(first), unit(second)
    return float(np.degrees(2.0 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))))
