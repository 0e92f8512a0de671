"""The plan: needles, seeds and where the rig stands, frozen, with a content hash.

The plan is what the physicist confirms, what the interlocks compare every command with, and what the
rescans are judged against. Its JSON form is described in ``PLAN.md``; every position is in the patient
frame (DICOM LPS, mm) of the planning CT, rounded to 0.001 mm so that the file and the object are equal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike

from planning.frame import Floats, RigidTransform, unit
from planning.refusal import AskedWrongly
from planning.whole_file import write_whole

FORMAT = "seedguide-plan/2"
NeedleSetKind = Literal["coplanar", "oblique"]
Point = tuple[float, float, float]


def rounded_point(values: ArrayLike) -> Point:
    """Three coordinates in mm rounded to 0.001 mm (and no negative zero)."""
    x, y, z = (round(float(v), 3) + 0.0 for v in np.asarray(values, dtype=float))
    return x, y, z


@dataclass(frozen=True)
class PlannedSeed:
    """One seed.

    Attributes:
        number: 1..n over the whole plan, the order of delivery.
        centre_mm: centre in the patient frame.
        retraction_mm: how far the needle is drawn back from its planned tip when this seed leaves it.
            The seed comes to lie in the channel the needle has just left, its far end ``retraction_mm``
            minus its own length behind the planned tip.
    """

    number: int
    centre_mm: Point
    retraction_mm: float


@dataclass(frozen=True)
class PlannedNeedle:
    """One needle on a straight path from the skin to its tip.

    Attributes:
        name: ``N01`` ... in order of insertion and delivery.
        hole: name of the template hole, e.g. ``C4``.
        entry_mm: where the axis crosses the skin, patient frame.
        tip_mm: where the tip shall be when the first (deepest) seed's place is reached, patient frame.
        reference_depth_mm: for a reference needle, how far behind the skin its tip first goes; else None.
        seeds: deepest first (receding delivery).
    """

    name: str
    hole: str
    entry_mm: Point
    tip_mm: Point
    reference_depth_mm: float | None
    seeds: tuple[PlannedSeed, ...]

    @property
    def is_reference(self) -> bool:
        return self.reference_depth_mm is not None

    @property
    def direction(self) -> Floats:
        """Unit vector towards the tip, patient frame."""
        return unit(np.subtract(self.tip_mm, self.entry_mm))

    @property
    def depth_mm(self) -> float:
        """Length from skin to planned tip."""
        return float(np.linalg.norm(np.subtract(self.tip_mm, self.entry_mm)))

    @property
    def reference_tip_mm(self) -> Point:
        """Where a reference needle's tip stands after its first, shallow insertion."""
        if self.reference_depth_mm is None:
            raise ValueError(f"needle {self.name} is no reference needle")
        return rounded_point(np.asarray(self.entry_mm) + self.direction * self.reference_depth_mm)


@dataclass(frozen=True)
class Plan:
    """A whole implant.

    Attributes:
        patient_id, patient_name, study_uid, series_uid, frame_of_reference_uid: of the planning CT.
        target: name of the structure that is the GTV.
        margin_mm: CTV = GTV + this, in three dimensions.
        prescription_gy: prescribed dose to infinity.
        source_model: name in ``planning/data/sources``.
        seed_length_mm, half_life_d: of the source.
        activity_mci, air_kerma_strength_u: per seed, at the time of implantation.
        site_protocol: name of the protocol file, and ``site_protocol_hash`` its content's SHA-256.
        patient_from_rig: planned pose of the template rig, homogeneous (4, 4) as nested tuples. The rig's
            +z is the direction of insertion, x and y lie in the template's plane.
        needles: in order of insertion.
        needle_set: "coplanar" (parallel needles) or "oblique" (each at an angle of its own, within limits).
        pitch_mm: distance between neighbouring holes of the template.
        expected: figures of the plan for people to read (dose statistics), keyed by structure.
    """

    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    target: str
    margin_mm: float
    prescription_gy: float
    source_model: str
    seed_length_mm: float
    half_life_d: float
    activity_mci: float
    air_kerma_strength_u: float
    site_protocol: str
    site_protocol_hash: str
    patient_from_rig: tuple[tuple[float, ...], ...]
    needles: tuple[PlannedNeedle, ...]
    needle_set: NeedleSetKind = "coplanar"
    pitch_mm: float = 5.0
    expected: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[PlannedSeed, ...]:
        return tuple(seed for needle in self.needles for seed in needle.seeds)

    @property
    def reference_needles(self) -> tuple[PlannedNeedle, ...]:
        return tuple(needle for needle in self.needles if needle.is_reference)

    def needle(self, name: str) -> PlannedNeedle:
        for needle in self.needles:
            if needle.name == name:
                return needle
        raise KeyError(name)

    @property
    def is_oblique(self) -> bool:
        return self.needle_set == "oblique"

    def face_crossings_mm(self) -> Floats:
        """``(n, 3)`` where the needles' axes cross the template's outer face (the rig's plane z = 0), patient frame."""
        rig = self.planned_patient_from_rig()
        origin, normal = rig.translation_mm, rig.turn([0.0, 0.0, 1.0])
        entries = np.array([needle.entry_mm for needle in self.needles]).reshape(-1, 3)
        axes = np.array([needle.direction for needle in self.needles]).reshape(-1, 3)
        slant = axes @ normal
        back = ((entries - origin) @ normal) / np.where(np.abs(slant) > 1e-6, slant, 1e-6)
        return np.asarray(entries - back[:, None] * axes)

    def planned_patient_from_rig(self) -> RigidTransform:
        return self._patient_from_rig

    @cached_property
    def _patient_from_rig(self) -> RigidTransform:
        return RigidTransform.from_matrix(self.patient_from_rig)

    def seed_directions(self) -> Floats:
        """``(n, 3)`` unit vectors towards the tip, in the order of ``seeds``."""
        return np.array([needle.direction for needle in self.needles for _ in needle.seeds]).reshape(-1, 3)

    def seed_centres_mm(self) -> Floats:
        """``(n, 3)`` in the order of ``seeds``."""
        return np.array([seed.centre_mm for seed in self.seeds]).reshape(-1, 3)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, with its ``content_hash``."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "patient": {"id": self.patient_id, "name": self.patient_name},
            "ct": {
                "study_uid": self.study_uid,
                "series_uid": self.series_uid,
                "frame_of_reference_uid": self.frame_of_reference_uid,
            },
            "target": {"name": self.target, "margin_mm": self.margin_mm},
            "prescription_gy": self.prescription_gy,
            "source": {
                "model": self.source_model,
                "seed_length_mm": self.seed_length_mm,
                "half_life_d": self.half_life_d,
                "activity_mci": self.activity_mci,
                "air_kerma_strength_u": self.air_kerma_strength_u,
            },
            "site_protocol": {"name": self.site_protocol, "sha256": self.site_protocol_hash},
            "needle_set": {"kind": self.needle_set, "pitch_mm": self.pitch_mm},
            "patient_from_rig": [list(row) for row in self.patient_from_rig],
            "needles": [
                {
                    "name": needle.name,
                    "hole": needle.hole,
                    "entry_mm": list(needle.entry_mm),
                    "tip_mm": list(needle.tip_mm),
                    "reference_depth_mm": needle.reference_depth_mm,
                    "seeds": [
                        {
                            "number": seed.number,
                            "centre_mm": list(seed.centre_mm),
                            "retraction_mm": seed.retraction_mm,
                        }
                        for seed in needle.seeds
                    ],
                }
                for needle in self.needles
            ],
            "expected": self.expected,
        }
        body["content_hash"] = _hash(body)
        return body

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON; what a person confirms and every command is checked with."""
        return str(self.to_json()["content_hash"])

    def save(self, path: Path) -> None:
        """Write ``path`` as a whole or not at all."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        write_whole(path, text.encode())

    @staticmethod
    def load(path: Path, *, edited: bool = False) -> Plan:
        """Read a plan; unless ``edited``, its content hash must still match.

        Raises:
            AskedWrongly: unreadable, another format, a missing or malformed value, a changed content.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
        except OSError as problem:
            raise AskedWrongly(f"{path}: the plan can't be read ({problem.strerror}).") from problem
        except ValueError as problem:
            raise AskedWrongly(f"{path}: not a JSON file ({problem}).") from problem
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise AskedWrongly(
                f"{path}: not a plan of format {FORMAT} (it says {_said_format(body)}); "
                "a plan of an earlier seedguide must be made anew with 'seedguide plan'."
            )
        try:
            plan = _from_json(body)
        except KeyError as problem:
            raise AskedWrongly(f"{path}: the plan misses {problem} (planning/PLAN.md).") from problem
        except (TypeError, ValueError) as problem:
            raise AskedWrongly(f"{path}: a value of the plan is malformed ({problem}).") from problem
        if not edited and plan.content_hash != body.get("content_hash"):
            raise AskedWrongly(
                f"{path}: the content was changed after the plan was made (hash differs); "
                "make it anew with 'seedguide plan', or judge the edit with 'seedguide evaluate'."
            )
        return plan


def _said_format(body: Any) -> str:
    said = body.get("format") if isinstance(body, dict) else None
    return f"'{said}'" if isinstance(said, str) else "none"


def _hash(body: dict[str, Any]) -> str:
    rest = {key: value for key, value in body.items() if key != "content_hash"}
    return hashlib.sha256(
        json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def _from_json(body: dict[str, Any]) -> Plan:
    needles = tuple(
        PlannedNeedle(
            name=str(n["name"]),
            hole=str(n["hole"]),
            entry_mm=rounded_point(n["entry_mm"]),
            tip_mm=rounded_point(n["tip_mm"]),
            reference_depth_mm=None if n["reference_depth_mm"] is None else float(n["reference_depth_mm"]),
            seeds=tuple(
                PlannedSeed(int(s["number"]), rounded_point(s["centre_mm"]), float(s["retraction_mm"]))
                for s in n["seeds"]
            ),
        )
        for n in body["needles"]
    )
    source, kind = body["source"], body["needle_set"]["kind"]
    if kind not in get_args(NeedleSetKind):
        raise ValueError(f"needle_set.kind is '{kind}'; there are: {', '.join(get_args(NeedleSetKind))}")
    return Plan(
        patient_id=str(body["patient"]["id"]),
        patient_name=str(body["patient"]["name"]),
        study_uid=str(body["ct"]["study_uid"]),
        series_uid=str(body["ct"]["series_uid"]),
        frame_of_reference_uid=str(body["ct"]["frame_of_reference_uid"]),
        target=str(body["target"]["name"]),
        margin_mm=float(body["target"]["margin_mm"]),
        prescription_gy=float(body["prescription_gy"]),
        source_model=str(source["model"]),
        seed_length_mm=float(source["seed_length_mm"]),
        half_life_d=float(source["half_life_d"]),
        activity_mci=float(source["activity_mci"]),
        air_kerma_strength_u=float(source["air_kerma_strength_u"]),
        site_protocol=str(body["site_protocol"]["name"]),
        site_protocol_hash=str(body["site_protocol"]["sha256"]),
        patient_from_rig=tuple(tuple(float(v) for v in row) for row in body["patient_from_rig"]),
        needles=needles,
        needle_set=cast(NeedleSetKind, kind),
        pitch_mm=float(body["needle_set"]["pitch_mm"]),
        expected=dict(body["expected"]),
    )
