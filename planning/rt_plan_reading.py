"""The seeds of an RT Plan, in the layouts that planning systems write.

All of these are read (PS3.3 C.8.8.15): all seeds in one application setup or one setup for each seed, the last one
maybe empty; one channel for each seed, or several seeds in a channel; a position stated by two control points or by
more; sources of several strengths, spacers (a source without strength) among them. A seed lies where the cumulative
time weight grows, or, where no weights are stated, at the channel's only position.

Its direction is, in this order: Control Point Orientation; the way from the seed to a further control point that no
time is spent at (so written by one clinical system, 1 mm on); the line through the channel's seeds; ``direction`` as
the caller gives it. Nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from planning.dicom_files import reading
from planning.frame import Floats, unit
from planning.refusal import AskedWrongly

SAME_PLACE_MM = 0.01
OVERLAP_MM = 0.5  # two seeds nearer than this are one seed stated twice
PERMANENT = ("PERMANENT", "INTERSTITIAL")
TYPES = ("LDR", "MANUAL", "")


@dataclass(frozen=True, eq=False)
class RtPlanSeeds:
    """Seeds as an RT Plan states them.

    Attributes:
        centres_mm, directions: ``(n, 3)``, patient frame; directions of length one, in the sense of insertion
            where the plan states one.
        strength_u: ``(n,)`` air-kerma strength at ``strength_at``.
        strength_at: reference date and time of the strength.
        half_life_d: of the nuclide.
        source_model: as stated.
        needles: the source applicator of each seed.
        frame_of_reference_uid: of the coordinates; empty when the plan states none.
    """

    centres_mm: Floats
    directions: Floats
    strength_u: Floats
    strength_at: datetime
    half_life_d: float
    source_model: str
    needles: tuple[str, ...]
    frame_of_reference_uid: str


@dataclass(frozen=True, eq=False)
class _Seed:
    where: str
    centre_mm: Floats
    direction: Floats | None
    source: Dataset
    needle: str


def read_rt_plan_seeds(path: Path, direction: Floats | None = None) -> RtPlanSeeds:
    """The seeds of an RT Plan of a permanent implant.

    Args:
        direction: ``(3,)`` of seeds whose direction the plan does not tell.

    Raises:
        AskedWrongly: not such a plan; a channel without position; a moving source; seeds at one place; a seed whose
            direction is told by nobody; sources of several nuclides or reference times.
    """
    with reading(path):
        body = pydicom.dcmread(path)
        technique = str(body.get("BrachyTreatmentTechnique") or "")
        kind = str(body.get("BrachyTreatmentType") or "")
        if (
            body.get("SOPClassUID") != RTPlanStorage
            or technique not in PERMANENT
            or (technique != "PERMANENT" and kind not in TYPES)
        ):
            raise AskedWrongly(f"{path}: not an RT Plan of a permanent implant.")
        try:
            sources = {int(item.SourceNumber): item for item in body.SourceSequence}
            seeds = [
                seed
                for setup in body.ApplicationSetupSequence
                for channel in setup.get("ChannelSequence") or ()
                for seed in _of_channel(channel, setup, sources)
            ]
            return _put_together(path, seeds, body, direction)
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            words = " ".join(str(problem).split())
            raise AskedWrongly(f"{path}: the seeds of this RT Plan can't be read ({words}).") from problem


def _put_together(path: Path, seeds: list[_Seed], body: Dataset, direction: Floats | None) -> RtPlanSeeds:
    if not seeds:
        raise ValueError("no channel holds a seed")
    for n, seed in enumerate(seeds):
        for other in seeds[:n]:
            if float(np.linalg.norm(seed.centre_mm - other.centre_mm)) < OVERLAP_MM:
                raise ValueError(f"{other.where} and {seed.where} state a seed at the same place")
    untold = [seed.where for seed in seeds if seed.direction is None]
    if untold and direction is None:
        more = f" and {len(untold) - 1} more" if len(untold) > 1 else ""
        raise AskedWrongly(
            f"{path}: {untold[0]}{more} state(s) no seed orientation (300A,0412) and nothing that tells it; give the "
            "direction with --seed-direction X Y Z (patient frame)."
        )
    first = seeds[0].source
    stamp = _strength_at(first)
    for seed in seeds:
        if float(seed.source.SourceIsotopeHalfLife) != float(first.SourceIsotopeHalfLife):
            raise ValueError(f"{seed.where}: its source has another half-life than the others")
        if _strength_at(seed.source) != stamp:
            raise ValueError(
                f"{seed.where}: its source's strength is stated for another time than the others'"
            )
    axes = [direction if seed.direction is None else seed.direction for seed in seeds]
    return RtPlanSeeds(
        centres_mm=np.array([seed.centre_mm for seed in seeds]),
        directions=unit(np.array(axes, dtype=float)),
        strength_u=np.array([float(seed.source.ReferenceAirKermaRate) for seed in seeds]),
        strength_at=stamp,
        half_life_d=float(first.SourceIsotopeHalfLife),
        source_model=str(first.get("SourceModelID", "")),
        needles=tuple(seed.needle for seed in seeds),
        frame_of_reference_uid=str(body.get("FrameOfReferenceUID") or ""),
    )


def _strength_at(source: Dataset) -> datetime:
    time = (str(source.SourceStrengthReferenceTime) + "000000")[:6]
    return datetime.strptime(f"{source.SourceStrengthReferenceDate}{time}", "%Y%m%d%H%M%S")


def _of_channel(channel: Dataset, setup: Dataset, sources: dict[int, Dataset]) -> list[_Seed]:
    """The seeds of one channel; none where its source is a spacer."""
    where = f"channel {channel.get('ChannelNumber')} of setup {setup.get('ApplicationSetupNumber')}"
    number = int(channel.ReferencedSourceNumber)
    if number not in sources:
        raise ValueError(f"{where} refers to source {number}, which the plan does not have")
    source = sources[number]
    if float(source.get("ReferenceAirKermaRate") or 0.0) <= 0.0:
        return []
    if str(channel.get("SourceMovementType") or "FIXED") != "FIXED":
        raise ValueError(
            f"{where} moves its source ({channel.SourceMovementType}); a seed stays where it is put"
        )
    places = _places(channel, where)
    loaded = [place for place in places if place.gain > 0.0] or (places if len(places) == 1 else [])
    if not loaded:
        raise ValueError(
            f"{where} has {len(places)} positions and no time weight that tells which holds a seed"
        )
    needle = str(channel.get("SourceApplicatorName") or channel.get("SourceApplicatorID") or "")
    line = loaded[-1].point_mm - loaded[0].point_mm if len(loaded) > 1 else None
    found = []
    for place in loaded:
        direction = place.direction
        if direction is None:
            after = [other for other in places if other.gain <= 0.0]
            near = min(
                after, key=lambda other: float(np.linalg.norm(other.point_mm - place.point_mm)), default=None
            )
            direction = line if near is None else near.point_mm - place.point_mm
        found.append(_Seed(where, place.point_mm, direction, source, needle))
    return found


@dataclass(eq=False)
class _Place:
    """One position of a channel: time weight gained there, and its orientation if stated."""

    point_mm: Floats
    gain: float
    direction: Floats | None


def _places(channel: Dataset, where: str) -> list[_Place]:
    places: list[_Place] = []
    before = 0.0
    for control in channel.BrachyControlPointSequence:
        if control.get("ControlPoint3DPosition") is None:
            raise ValueError(f"{where} has a control point without a position")
        point = np.array([float(v) for v in control.ControlPoint3DPosition])
        if point.shape != (3,) or not np.isfinite(point).all():
            raise ValueError(f"{where} has a control point whose position is no point")
        stated = control.get("ControlPointOrientation")
        axis = None if stated is None else np.array([float(v) for v in stated])
        if axis is not None and (axis.shape != (3,) or not np.linalg.norm(axis) > 0.0):
            raise ValueError(f"{where} states an orientation that is none")
        weight = control.get("CumulativeTimeWeight")
        at = before if weight is None else float(weight)
        same = next((p for p in places if np.linalg.norm(p.point_mm - point) <= SAME_PLACE_MM), None)
        if same is None:
            places.append(same := _Place(point, 0.0, axis))
        # Time passes between control points; it is spent where both of them stand.
        elif places[-1] is same:
            same.gain += at - before
        same.direction = axis if same.direction is None else same.direction
        before = at
    return places
