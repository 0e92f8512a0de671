"""The simulated CT scanner: writes what it would see of a patient now as a DICOM series.

Knows the patient's truth and nothing of the plan. The patient lies a little differently in every scan; the
images are in the scanner's frame, so only registration brings them back onto the planning CT. There is
a fast mode and a faithful one, told by the image type; what they model and what not stands in SCANNER.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from simulator.dental import DentalMetal, dental_metal_in, rods_of_dental
from simulator.dicom_writer import MODES, SeriesWriter
from simulator.faithful import VIEWS, FaithfulImager
from simulator.fast import FastImager
from simulator.geometry import Floats, apply, inverse, turn
from simulator.metal import ALUMINA, Rods, rods_of
from simulator.patient import Patient
from simulator.projection import Singles
from simulator.reconstruction import kernel_sigma_mm
from simulator.resampling import anatomy_slice
from simulator.template_body import TemplateBody

BREATH_S, COUCH_MM_S = 4.0, 20.0  # period; speed of the couch (both assumed)
TURN_S = 0.5  # of the gantry (assumed); half of it makes a slice
_VIEW_AFTER_S = TURN_S / 2.0 * (np.arange(VIEWS) / VIEWS - 0.5)
ScannerMode = Literal["fast", "faithful"]
_BODY_EVERY_MM = 5.0  # the way of the rays through the body is computed once for so much height


@dataclass(frozen=True)
class ScanRequest:
    """What the scanner is asked for.

    Attributes:
        number: of the scan in the session, from 1; the patient's position follows from it.
        slice_thickness_mm: thickness and distance of the slices, 0.6 - 5 mm.
        z_low_mm, z_high_mm: range in patient z to cover; None: as far as the planning CT reaches.
        when_iso: start of the scan, e.g. ``2020-01-02T09:30:00``.
        seed: of the noise and the UIDs.
        extended_hu: keep HU beyond 3071.
        template: the printed template on the rig, if it is left on for the scan.
        breathing_mm: how far the patient swings along the couch while it moves through the gantry, amplitude.
        field_mm: x low, x high, y low, y high in patient coordinates: what is reconstructed; None: as planned.
        mode: ``fast`` (approximate) or ``faithful`` (polychromatic projection, counted photons).
        dental: metal in the teeth that the planning CT does not show; that which it shows is found in it.
        noise_times: the noise, in multiples of the mode's own.
    """

    number: int
    slice_thickness_mm: float = 1.25
    z_low_mm: float | None = None
    z_high_mm: float | None = None
    when_iso: str = "2020-01-02T09:00:00"
    seed: int = 0
    extended_hu: bool = False
    template: TemplateBody | None = None
    breathing_mm: float = 0.0
    field_mm: tuple[float, float, float, float] | None = None
    mode: ScannerMode = "fast"
    dental: tuple[DentalMetal, ...] = ()
    noise_times: float = 1.0


@dataclass(frozen=True, eq=False)
class _Gantry:
    """Where a scan's slices lie; lengths along the image axes from the planning CT's first pixel."""

    patient_from_gantry: Floats
    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    w_mm: Floats


def scan(patient: Patient, folder: Path, request: ScanRequest) -> None:
    """Scan the patient as he lies now; ``folder`` appears complete or not at all.

    Raises:
        ValueError: the range holds no slice, the field no pixel, the thickness is outside 0.6 - 5 mm, or
            there is no such mode.
        OSError: ``folder`` can't be written or isn't empty.
    """
    if not 0.1 <= request.noise_times <= 20.0:
        raise ValueError(f"{request.noise_times:g} times the usual noise is not within 0.1 - 20")
    if request.mode not in MODES:
        raise ValueError(f"the scanner has no mode {request.mode}; it has {' and '.join(MODES)}")
    gantry = _gantry(patient, request)
    gantry_from_patient = inverse(gantry.patient_from_gantry) @ patient.scanner_from_patient(request.number)
    # the couch shift moves the anatomy: planning index <- patient <- scanner <- pixel of the new slice
    pixel_to_gantry = np.diag([*gantry.pixel_mm, 1.0, 1.0])
    index_from_pixel = inverse(gantry_from_patient @ patient.ct.patient_from_index) @ pixel_to_gantry
    thickness_mm = request.slice_thickness_mm
    cuts = max(1, round(thickness_mm / float(patient.ct.spacing_mm[2])))
    across_mm = thickness_mm * ((np.arange(cuts) + 0.5) / cuts - 0.5)

    rig_from_gantry = inverse(gantry_from_patient @ patient.patient_from_rig_true)
    kernel_mm = kernel_sigma_mm(thickness_mm)
    drawn = request.template
    if drawn is not None and request.mode == "faithful":
        drawn = replace(drawn, balls_rig_mm=())  # they are projected like all metal

    def anatomy(w_mm: float) -> Singles:
        hu = anatomy_slice(patient.ct.hu, index_from_pixel, *gantry.shape, w_mm + across_mm)
        if drawn is None:
            return hu
        return drawn.drawn_on(hu, rig_from_gantry, gantry.pixel_mm, w_mm, thickness_mm, kernel_mm)

    rows, columns = _field(gantry, request.field_mm)
    lungs = np.random.default_rng([request.seed, request.number])
    phase = float(lungs.uniform(0.0, 2.0 * np.pi))

    def swing_mm(after_s: Floats) -> Floats:
        return np.asarray(request.breathing_mm * np.sin(2.0 * np.pi * after_s / BREATH_S + phase))

    imager = _imager(patient, request, gantry, gantry_from_patient)
    with _appearing_at_once(folder) as growing, ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        writer = _writer(patient, growing, request, gantry)

        def make(block: range) -> None:
            body_mm: tuple[Singles, ...] = ()
            for index in block:
                w_mm = float(gantry.w_mm[index])
                swings_mm = swing_mm(w_mm / COUCH_MM_S + _VIEW_AFTER_S)
                seen_w_mm = w_mm + float(swings_mm[VIEWS // 2])
                random = np.random.default_rng([request.seed, request.number, index])
                hu = anatomy(seen_w_mm)
                if not body_mm and imager.needs_body(seen_w_mm):
                    body_mm = imager.body_mm(hu)
                hu += imager.added_hu(seen_w_mm, body_mm, swings_mm - swings_mm[VIEWS // 2], random)
                corner_mm = (columns.start * gantry.pixel_mm[0], rows.start * gantry.pixel_mm[1], w_mm)
                writer.write(index, hu[rows, columns], apply(gantry.patient_from_gantry, corner_mm))

        per_block = max(1, round(_BODY_EVERY_MM / thickness_mm))
        blocks = (range(len(gantry.w_mm))[i : i + per_block] for i in range(0, len(gantry.w_mm), per_block))
        list(threads.map(make, blocks))


def _imager(
    patient: Patient, request: ScanRequest, gantry: _Gantry, gantry_from_patient: Floats
) -> FastImager | FaithfulImager:
    """What adds metal and noise to the anatomy, as the request's mode has it."""
    rods = _rods(patient, gantry_from_patient) + rods_of_dental(request.dental, gantry_from_patient)
    if request.mode == "fast":
        return FastImager(
            rods, gantry.shape, gantry.pixel_mm, request.slice_thickness_mm, request.noise_times
        )
    if request.template is not None:
        gantry_from_rig = gantry_from_patient @ patient.patient_from_rig_true
        balls_mm = np.array(request.template.balls_rig_mm).reshape(-1, 3)
        rods += Rods.balls(apply(gantry_from_rig, balls_mm), request.template.ball_mm, ALUMINA)
    own = rods_of_dental(dental_metal_in(patient.ct), gantry_from_patient)
    return FaithfulImager(
        rods, own, gantry.shape, gantry.pixel_mm, request.slice_thickness_mm, request.noise_times
    )


def _gantry(patient: Patient, request: ScanRequest) -> _Gantry:
    if not 0.6 <= request.slice_thickness_mm <= 5.0:
        raise ValueError(f"a slice thickness of {request.slice_thickness_mm:g} mm is not within 0.6 - 5 mm")
    ct = patient.ct
    slices, rows, columns = ct.hu.shape
    du_mm, dv_mm, dw_mm = (float(v) for v in ct.spacing_mm)
    patient_from_gantry = ct.patient_from_index.copy()
    patient_from_gantry[:3, :3] /= ct.spacing_mm
    edges_w_mm = np.array([-dw_mm / 2.0, (slices - 0.5) * dw_mm])
    start_z_mm, per_w = patient_from_gantry[2, 3], patient_from_gantry[2, 2]  # per_w is +1 or -1
    asked = [(z - start_z_mm) / per_w for z in (request.z_low_mm, request.z_high_mm) if z is not None]
    if request.z_low_mm is not None and request.z_high_mm is not None:
        low, high = max(edges_w_mm[0], min(asked)), min(edges_w_mm[1], max(asked))
    elif asked:
        keeps_above = (request.z_low_mm is not None) == (per_w > 0.0)
        low, high = (asked[0], edges_w_mm[1]) if keeps_above else (edges_w_mm[0], asked[0])
        low, high = max(low, edges_w_mm[0]), min(high, edges_w_mm[1])
    else:
        low, high = edges_w_mm
    count = int((high - low) / request.slice_thickness_mm + 1e-6)
    if count < 1:
        raise ValueError("the range to scan holds no slice of the patient's images")
    w_mm = low + request.slice_thickness_mm * (np.arange(count) + 0.5)
    return _Gantry(patient_from_gantry, (rows, columns), (du_mm, dv_mm), w_mm)


def _field(gantry: _Gantry, field_mm: tuple[float, float, float, float] | None) -> tuple[slice, slice]:
    """Rows and columns to keep."""
    if field_mm is None:
        return slice(0, gantry.shape[0]), slice(0, gantry.shape[1])
    x_low, x_high, y_low, y_high = field_mm
    back = inverse(gantry.patient_from_gantry)
    corners = apply(
        back, [(x, y, gantry.patient_from_gantry[2, 3]) for x in (x_low, x_high) for y in (y_low, y_high)]
    )
    index = corners[:, :2] / gantry.pixel_mm
    first, last = np.ceil(index.min(axis=0) - 1e-6), np.floor(index.max(axis=0) + 1e-6)
    columns = slice(max(0, int(first[0])), max(0, min(gantry.shape[1], int(last[0]) + 1)))
    rows = slice(max(0, int(first[1])), max(0, min(gantry.shape[0], int(last[1]) + 1)))
    if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
        raise ValueError("the field to reconstruct holds nothing of the patient's images")
    return rows, columns


def _rods(patient: Patient, gantry_from_patient: Floats) -> Rods:
    shafts_mm = [apply(gantry_from_patient, patient.true_shaft_patient_mm(name)) for name in patient.needles]
    seeds = patient.true_seeds
    centres_mm = np.array([seed.centre_mm for seed in seeds]).reshape(-1, 3)
    directions = np.array([seed.direction for seed in seeds]).reshape(-1, 3)
    return rods_of(shafts_mm, apply(gantry_from_patient, centres_mm), turn(gantry_from_patient, directions))


def _writer(patient: Patient, folder: Path, request: ScanRequest, gantry: _Gantry) -> SeriesWriter:
    header = patient.ct.header
    return SeriesWriter(
        folder=folder,
        patient=header,
        identity=f"{header.SeriesInstanceUID} seed {request.seed} scan {request.number} {request.when_iso}",
        number=request.number,
        when=datetime.fromisoformat(request.when_iso),
        row_direction=gantry.patient_from_gantry[:3, 0],
        column_direction=gantry.patient_from_gantry[:3, 1],
        pixel_mm=gantry.pixel_mm,
        slice_thickness_mm=request.slice_thickness_mm,
        extended=request.extended_hu,
        mode=request.mode,
    )


@contextmanager
def _appearing_at_once(folder: Path) -> Iterator[Path]:
    """A hidden folder beside ``folder`` that takes its name when all is written, and vanishes otherwise."""
    growing = folder.with_name(f".{folder.name}.growing")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    try:
        yield growing
        os.replace(growing, folder)
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise
