"""Between this project's patient frame (DICOM LPS) and the one that Slicer and its peers speak (RAS).

Both are right-handed and share origin, z (superior) and mm; x and y point the other way: LPS x to the patient's
left and y to posterior, RAS x to the right and y to anterior. So the change is a half turn about z, and its own
inverse. A transform *to* the patient changes on its left side only: the frame that it comes from (a needle's, the
rig's) has axes of its own and stays as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from planning.frame import Floats, RigidTransform

_TURN = np.diag([-1.0, -1.0, 1.0])


def ras_point(lps_mm: ArrayLike) -> tuple[float, float, float]:
    """A point of the patient, or its way back."""
    x, y, z = (float(v) for v in np.asarray(lps_mm, dtype=float))
    return -x, -y, z


def ras_from_own(patient_from_own: RigidTransform) -> Floats:
    """``(4, 4)``: from a frame of its own to the patient in RAS, as TRANSFORM messages carry it."""
    matrix = np.eye(4)
    matrix[:3, :3] = _TURN @ patient_from_own.rotation
    matrix[:3, 3] = _TURN @ patient_from_own.translation_mm
    return matrix


def patient_from_own(ras: Floats) -> RigidTransform:
    """The inverse of ``ras_from_own``.

    Raises:
        ValueError: the matrix is not rigid (sheared, scaled or mirrored by more than the wire's rounding).
    """
    turned = _TURN @ ras[:3, :3]
    u, _, v = np.linalg.svd(turned)
    nearest = u @ v  # 32-bit floats round: the nearest rotation is what was meant
    if np.linalg.det(turned) < 0 or not np.allclose(nearest, turned, atol=1e-3):
        raise ValueError("it is not a rotation and a translation")
    return RigidTransform(nearest, _TURN @ ras[:3, 3])
