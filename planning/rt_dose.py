"""RT Dose: a dose grid in Gy to infinity, written as scaled 32-bit integers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydicom.uid import RTDoseStorage, RTPlanStorage

from planning.refusal import AskedWrongly
from planning.rt_header import Origin, decimal, decimals, new_object, reference, save
from planning.volume import CtVolume, Grid

LARGEST = 2**32 - 1


def write_rt_dose(
    path: Path,
    dose_gy: ArrayLike,
    grid: Grid,
    ct: CtVolume,
    *,
    origin: Origin,
    plan_uid: str,
    comment: str = "dose to infinity of the whole implant, TG-43 in water",
) -> str:
    """Write a dose grid (``(nz, ny, nx)`` Gy on ``grid``, patient frame of ``ct``) as RT Dose.

    Args:
        plan_uid: SOP Instance UID of the RT Plan that the dose belongs to.

    Returns:
        The SOP Instance UID.

    Raises:
        AskedWrongly: the dose is negative or not a number somewhere; the file can't be written.
    """
    dose = np.asarray(dose_gy, dtype=float)
    if dose.shape != grid.shape:
        raise ValueError(f"dose of shape {dose.shape} on a grid of shape {grid.shape}")
    if not np.all(np.isfinite(dose)) or dose.min() < 0.0:
        raise AskedWrongly(f"{path}: the dose is negative or not a number somewhere; it was not written.")
    # A power of ten is exact as a decimal string; for 4000 Gy the step is 1e-6 Gy.
    scaling = 10.0 ** max(-9, math.ceil(math.log10(max(float(dose.max()), 1e-9) / LARGEST)))
    new = new_object(ct, RTDoseStorage, "RTDOSE", "seed implant dose", origin)
    nz, ny, nx = grid.shape
    new.SamplesPerPixel = 1
    new.PhotometricInterpretation = "MONOCHROME2"
    new.NumberOfFrames = nz
    # The offsets of the frames are relative to the first one (C.8.8.3.2).
    new.FrameIncrementPointer = 0x3004000C
    new.GridFrameOffsetVector = decimals(grid.spacing_mm[2] * k for k in range(nz))
    new.Rows, new.Columns = ny, nx
    new.PixelSpacing = decimals((grid.spacing_mm[1], grid.spacing_mm[0]))
    new.SliceThickness = decimal(grid.spacing_mm[2])
    new.ImagePositionPatient = decimals(grid.origin_mm)
    new.ImageOrientationPatient = decimals((1, 0, 0, 0, 1, 0))
    new.BitsAllocated, new.BitsStored, new.HighBit = 32, 32, 31
    new.PixelRepresentation = 0
    new.DoseUnits = "GY"
    new.DoseType = "PHYSICAL"
    new.DoseSummationType = "PLAN"
    new.DoseComment = comment[:64]
    new.TissueHeterogeneityCorrection = "WATER"
    new.DoseGridScaling = decimal(scaling)
    new.ReferencedRTPlanSequence = [reference(RTPlanStorage, plan_uid)]
    new.PixelData = np.round(dose / scaling).clip(0, LARGEST).astype("<u4").tobytes()
    new["PixelData"].VR = "OW"
    return save(new, path, origin)
