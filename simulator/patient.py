"""The patient as truth: anatomy, needles as they really stand, seeds as they really lie.

Simulated devices act on it with verbs in the *rig's* coordinates (mm), since that is what they move; nobody
else in a rehearsal may look at it. What was truly done is kept in the patient's frame (DICOM LPS of the
planning CT), so that tissue, needles and seeds move together when the patient moves.

A needle enters the skin where its guide line meets it (found in the CT), beside the aimed point, and
runs from there on an arc: ``sideways(depth) = entry + slope depth + curvature depth^2 / 2``. The arc belongs
to the insertion: advancing follows it, drawing back runs along it. Only when the tip has left the skin
is the next insertion a new one. How much of the error comes back stands in ``error_population``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from simulator.ct_reader import PatientCt, read_ct
from simulator.error_population import (
    ErrorPopulation,
    NeedleError,
    draw_couch_shift,
    draw_insertion_error,
    draw_path_error,
    draw_setup_error,
)
from simulator.geometry import Floats, apply, checked, turn, unit
from simulator.physics import ImpossibleMotionError

NEEDLE_LENGTH_MM = 200.0
NEEDLE_DIAMETER_MM = 1.27
SEED_LENGTH_MM = 4.5
GRIP_REACH_MM = 1.0  # a standing needle is gripped when the gripper stands this close to its guide line
SKIN_HU = -300.0
_RAMP_MM = 10.0  # the depth error is reached over the first 10 mm, so that a stepping tip never jumps
_SEARCH_MM = (-60.0, 240.0)  # of the guide line, for the skin
_BONE_HU = 300.0


@dataclass
class StandingNeedle:
    """A needle held or standing.

    Attributes:
        guide_mm: ``(2,)`` commanded x, y in the rig.
        entry_z_mm: rig z at which the guide line meets the skin; None if it never does.
        error: path's and insertion's part; None while the tip is in air.
        tip_z_mm: commanded rig z of the tip.
    """

    name: str
    guide_mm: Floats
    entry_z_mm: float | None
    error: NeedleError | None
    tip_z_mm: float


@dataclass(frozen=True, eq=False)
class TrueSeed:
    """A seed in the patient: ``centre_mm`` and unit ``direction`` (towards the tip), patient frame."""

    needle: str
    centre_mm: Floats
    direction: Floats


@dataclass
class _Path:
    needle: str
    guide_mm: Floats
    error: NeedleError


@dataclass
class _Memory:
    """What tissue remembers of the needles that came before."""

    paths: list[_Path] = field(default_factory=list)
    insertions: dict[str, int] = field(default_factory=dict)


class Patient:
    """One patient on the couch with the rig fixed to him.

    Args:
        case: holds the planning CT, at any depth; or that CT, read before.
        patient_from_rig: ``(4, 4)`` planned pose of the rig.
        population: what errors are drawn from.
        seed: makes the world; the same seed and verbs give the same truth, bit for bit.
    """

    def __init__(
        self, case: Path | PatientCt, patient_from_rig: ArrayLike, population: ErrorPopulation, seed: int
    ) -> None:
        self.ct: PatientCt = case if isinstance(case, PatientCt) else read_ct(Path(case))
        self.population = population
        self._seed = seed
        planned = checked(patient_from_rig)
        self.patient_from_rig_true: Floats = planned @ draw_setup_error(population, self._random("set-up"))
        self._needles: dict[str, StandingNeedle] = {}
        self._held: str | None = None
        self._memory = _Memory()
        self._seeds: list[TrueSeed] = []
        self._skin_z_mm: dict[tuple[float, float], float | None] = {}
        self.moved: Callable[[str], None] = lambda _needle: None
        """Called with a needle's name each time its tip has moved."""

    def _random(self, *purpose: str | int) -> np.random.Generator:
        """A generator per purpose, so that the order in which devices act doesn't reshuffle the errors."""
        words = [zlib.crc32(str(word).encode()) for word in purpose]
        return np.random.default_rng([self._seed, *words])

    # -- verbs of the devices, rig coordinates ------------------------------------------------------

    def insert(self, needle: str, x_mm: float, y_mm: float, tip_z_mm: float) -> None:
        """Hold ``needle`` on guide line (x, y) with its tip sent to depth z; called as often as it moves.

        Raises:
            ImpossibleMotionError: another needle is held, or this one stands in tissue on another line.
        """
        if self._held not in (None, needle):
            raise ImpossibleMotionError(f"needle {self._held} is held, so {needle} cannot be moved")
        guide = np.array([x_mm, y_mm], dtype=float)
        now = self._needles.get(needle)
        if now is None or not self._is_inside(now):
            now = StandingNeedle(needle, guide, self.skin_z_mm(x_mm, y_mm), None, tip_z_mm)
            self._needles[needle] = now
        elif np.linalg.norm(guide - now.guide_mm) > GRIP_REACH_MM:
            raise ImpossibleMotionError(f"needle {needle} stands in tissue and cannot be moved sideways")
        self._held = needle
        now.tip_z_mm = float(tip_z_mm)
        if not self._is_inside(now):
            now.error = None
        elif now.error is None:
            now.error = self._error_of_new_insertion(now)
        self.moved(needle)

    def retract(self, needle: str, distance_mm: float) -> None:
        """Draw a needle back along its own channel (further in, if negative)."""
        now = self._standing(needle)
        now.tip_z_mm -= float(distance_mm)
        if not self._is_inside(now):
            now.error = None
        self.moved(needle)

    def move(self, by_mm: ArrayLike) -> None:
        """The patient moves by ``(3,)`` mm (patient axes) under the template: it and the needles in it stay behind.

        Tissue gives way: what stood in it is dragged through it by as much. Seeds move with the patient.
        """
        shift = np.eye(4)
        shift[:3, 3] = -np.asarray(by_mm, dtype=float)
        self.patient_from_rig_true = shift @ self.patient_from_rig_true
        self._skin_z_mm.clear()
        for needle in self.needles:
            self.moved(needle)

    def release(self) -> None:
        """Let go of the held needle: it stands where it is, or is laid aside when its tip is in air."""
        if self._held is not None and not self._is_inside(self._needles[self._held]):
            del self._needles[self._held]
        self._held = None

    def grip(self, x_mm: float, y_mm: float) -> str | None:
        """Take hold of the standing needle on this guide line, if one stands within 1 mm of it.

        Raises:
            ImpossibleMotionError: a needle is held already.
        """
        if self._held is not None:
            raise ImpossibleMotionError(f"needle {self._held} is held already")
        distances = {
            name: float(np.hypot(*(now.guide_mm - (x_mm, y_mm)))) for name, now in self._needles.items()
        }
        near = min(distances, key=lambda name: distances[name], default=None)
        self._held = near if near is not None and distances[near] <= GRIP_REACH_MM else None
        return self._held

    def drop_seed(self, needle: str) -> TrueSeed:
        """A seed leaves the needle: its near end lies at the present tip, the rest in the channel ahead."""
        now = self._standing(needle)
        random = self._random("seed", len(self._seeds))
        along_mm = self.population.seed_along_sigma_mm * random.normal()
        sideways_mm = self.population.seed_lateral_sigma_mm * random.normal(size=2)
        centre, direction = self._point_and_direction(now, SEED_LENGTH_MM / 2.0 + along_mm)
        offset = turn(self.patient_from_rig_true, (*sideways_mm, 0.0))
        seed = TrueSeed(needle, centre + offset, direction)
        self._seeds.append(seed)
        return seed

    def resistance_n(self, needle: str) -> float:
        """Force against advancing (assumed: 1 N to cut, 0.02 N per mm of friction, 40 N on bone)."""
        now = self._standing(needle)
        if not self._is_inside(now) or now.entry_z_mm is None:
            return 0.0
        hu = self.ct.sample_hu(self.true_tip_patient_mm(needle)[None])[0]
        return float(1.0 + 0.02 * (now.tip_z_mm - now.entry_z_mm) + (40.0 if hu > _BONE_HU else 0.0))

    def skin_z_mm(self, x_mm: float, y_mm: float) -> float | None:
        """Rig z at which the guide line (x, y) truly meets the skin, or None.

        Skin is where the line passes -300 HU with mostly body in the 15 mm behind it: not a mask's sheet or
        the couch's shell.
        """
        guide = (round(x_mm, 3), round(y_mm, 3))
        if guide not in self._skin_z_mm:
            self._skin_z_mm[guide] = self._find_skin_z_mm(x_mm, y_mm)
        return self._skin_z_mm[guide]

    def _find_skin_z_mm(self, x_mm: float, y_mm: float) -> float | None:
        step_mm = 0.25
        z = np.arange(_SEARCH_MM[0], _SEARCH_MM[1], step_mm)
        line = np.column_stack([np.full_like(z, x_mm), np.full_like(z, y_mm), z])
        dense = self.ct.sample_hu(apply(self.patient_from_rig_true, line)) > SKIN_HU
        behind = int(15.0 / step_mm)
        ahead = np.convolve(dense, np.ones(behind))[behind - 1 :][: len(z)] / behind
        meets = np.flatnonzero(dense & (ahead > 0.7))
        return float(z[meets[0]]) if len(meets) else None

    # -- the truth, for scanner, tests and debriefing ------------------------------------------------

    @property
    def true_seeds(self) -> tuple[TrueSeed, ...]:
        return tuple(self._seeds)

    @property
    def punctures(self) -> dict[str, int]:
        """How often each needle has gone through the skin."""
        return dict(self._memory.insertions)

    @property
    def needles(self) -> tuple[str, ...]:
        """Names of the needles whose tips are in tissue, in the order they came."""
        return tuple(name for name, now in self._needles.items() if self._is_inside(now))

    @property
    def held(self) -> str | None:
        return self._held

    def true_tip_patient_mm(self, needle: str) -> Floats:
        """Where the tip truly is: ``(3,)``, patient frame."""
        return self._point_and_direction(self._standing(needle), 0.0)[0]

    def true_direction(self, needle: str) -> Floats:
        """``(3,)`` unit vector of the needle at its tip, towards it, patient frame."""
        return self._point_and_direction(self._standing(needle), 0.0)[1]

    def true_tip_and_direction_mm(self, needle: str) -> tuple[Floats, Floats]:
        """Where the tip truly is and heads: ``(3,)`` each, patient frame."""
        return self._point_and_direction(self._standing(needle), 0.0)

    def true_entry_patient_mm(self, needle: str) -> Floats:
        """Where the needle truly crosses the skin: ``(3,)``, patient frame. Its tip must be inside."""
        now = self._standing(needle)
        return self._point_and_direction(now, -self._depth_mm(now))[0]

    def true_shaft_patient_mm(self, needle: str) -> Floats:
        """``(n, 3)`` from tip to hub, patient frame: the arc in tissue, straight outside, 200 mm in all."""
        now = self._standing(needle)
        depth_mm = self._depth_mm(now)
        inside = np.linspace(0.0, depth_mm, int(depth_mm / 12.0) + 2) if depth_mm > 0.0 else np.zeros(1)
        outside = np.linspace(NEEDLE_LENGTH_MM, depth_mm, 8)[:-1][::-1]
        backwards = np.append(inside, outside)
        return np.array([self._point_and_direction(now, -float(s))[0] for s in backwards])

    def scanner_from_patient(self, scan_number: int) -> Floats:
        """How the patient lies at scan ``scan_number``, turned about a point 60 mm in front of the rig."""
        about = apply(self.patient_from_rig_true, (0.0, 0.0, 60.0))
        return draw_couch_shift(self.population, self._random("couch", scan_number), about)

    # -- inner workings -----------------------------------------------------------------------------

    def _standing(self, needle: str) -> StandingNeedle:
        if needle not in self._needles:
            raise ImpossibleMotionError(f"there is no needle {needle}")
        return self._needles[needle]

    @staticmethod
    def _is_inside(now: StandingNeedle) -> bool:
        return now.entry_z_mm is not None and now.tip_z_mm > now.entry_z_mm

    @staticmethod
    def _depth_mm(now: StandingNeedle) -> float:
        """True length in tissue."""
        if now.entry_z_mm is None or now.error is None:
            return 0.0
        sent_mm = now.tip_z_mm - now.entry_z_mm
        return sent_mm + float(np.clip(now.error.depth_mm, -8.0, 8.0)) * min(1.0, sent_mm / _RAMP_MM)

    def _error_of_new_insertion(self, now: StandingNeedle) -> NeedleError:
        memory, population = self._memory, self.population
        own_first = sorted(memory.paths, key=lambda p: p.needle != now.name)
        path = next((p for p in own_first if self._is_same_path(p, now)), None)
        if path is None:
            number = sum(p.needle == now.name for p in memory.paths)
            error = draw_path_error(population, self._random("path", now.name, number))
            path = _Path(now.name, now.guide_mm, error)
            memory.paths.append(path)
        count = memory.insertions.get(now.name, 0)
        memory.insertions[now.name] = count + 1
        own = path.error
        if now.name in population.bent:
            way = self._random("bent", now.name).uniform(0.0, 2.0 * np.pi)
            own = replace(
                own, curvature_per_mm=np.array([np.cos(way), np.sin(way)]) / population.bent[now.name]
            )
        return own + draw_insertion_error(population, self._random("insertion", now.name, count))

    def _is_same_path(self, path: _Path, now: StandingNeedle) -> bool:
        own = path.needle == now.name
        reach_mm = self.population.own_path_reach_mm if own else self.population.path_reach_mm
        return float(np.linalg.norm(path.guide_mm - now.guide_mm)) <= reach_mm

    def _point_and_direction(self, now: StandingNeedle, ahead_mm: float) -> tuple[Floats, Floats]:
        """Point and unit direction on the needle's line, ``ahead_mm`` beyond its tip or (< 0) behind it."""
        if now.entry_z_mm is None or now.error is None:
            z = now.tip_z_mm + ahead_mm
            sideways, slope = now.guide_mm, np.zeros(2)
        else:
            error = now.error
            depth = self._depth_mm(now) + ahead_mm
            bent = max(depth, 0.0)  # outside the skin the needle is straight
            sideways = (
                now.guide_mm + error.entry_mm + error.slope * depth + error.curvature_per_mm * bent**2 / 2
            )
            slope = error.slope + error.curvature_per_mm * bent
            z = now.entry_z_mm + depth
        point = apply(self.patient_from_rig_true, (*sideways, z))
        return point, unit(turn(self.patient_from_rig_true, (*slope, 1.0)))
