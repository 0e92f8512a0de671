"""A plan edited seed by seed, its figures at hand after each change.

Where seeds lie is told as the plan tells it: needle, and how far it is drawn back when the seed leaves it. What may
not be at all (a seed ahead of its needle's tip, two seeds in one place) is refused here; every other rule is
judged by ``planning.evaluation`` when the edit is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from planning.anatomy import Anatomy
from planning.dvh import StructureStatistics
from planning.frame import Floats
from planning.goals import Goal, judge_goals
from planning.implant_dose import implant_dose
from planning.plan import Plan, PlannedSeed, rounded_point
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol
from planning.sources import SeedSource


class PlanEditor:
    """One plan on its patient. Seeds keep their numbers while edited; new ones get the next free number.

    Attributes:
        seeds: number -> (needle's name, retraction in mm), in no order.
    """

    def __init__(
        self, plan: Plan, anatomy: Anatomy, protocol: SiteProtocol, source: SeedSource, *, threads: int = 1
    ) -> None:
        self.plan = plan
        self.seeds: dict[int, tuple[str, float]] = {}
        self._protocol = protocol
        self._dose = implant_dose(anatomy, source, plan.prescription_gy, threads=threads)
        self._undo: list[Callable[[], None]] = []
        self._in_dose: dict[int, int] = {}
        self._next = max((seed.number for seed in plan.seeds), default=0) + 1
        added = self._dose.add(plan.seed_centres_mm(), plan.seed_directions(), plan.air_kerma_strength_u)
        for seed, number in zip(plan.seeds, added, strict=True):
            self._in_dose[seed.number] = number
        for needle in plan.needles:
            self.seeds |= {seed.number: (needle.name, seed.retraction_mm) for seed in needle.seeds}

    def figures(self) -> dict[str, StructureStatistics]:
        """Of every structure, as the plan is now."""
        return self._dose.figures()

    def goals(self) -> tuple[Goal, ...]:
        """The site protocol's, as the plan is now."""
        return judge_goals(self._protocol, self.figures(), self.plan.prescription_gy)

    def move(self, number: int, deeper_mm: float) -> None:
        """A seed along its needle.

        Raises:
            AskedWrongly: no such seed; no room there.
        """
        needle, before_mm = self._seed(number)
        after_mm = round(before_mm - deeper_mm, 3)
        self._room(needle, after_mm, number)
        self._put(number, needle, after_mm)
        self._undo.append(lambda: self._put(number, needle, before_mm))

    def add(self, needle: str, retraction_mm: float) -> int:
        """A new seed; its number.

        Raises:
            AskedWrongly: no such needle; no room there.
        """
        if needle not in {each.name for each in self.plan.needles}:
            names = ", ".join(each.name for each in self.plan.needles)
            raise AskedWrongly(f"needle {needle}: not in this plan; there are {names}.")
        self._room(needle, retraction_mm, None)
        number, self._next = self._next, self._next + 1
        self._put(number, needle, retraction_mm)
        self._undo.append(lambda: self._take_out(number))
        return number

    def remove(self, number: int) -> None:
        """A seed out of the plan.

        Raises:
            AskedWrongly: no such seed; the only one left.
        """
        needle, retraction_mm = self._seed(number)
        if len(self.seeds) == 1:
            raise AskedWrongly(f"seed {number}: the last one; a plan without seeds is none.")
        self._take_out(number)
        self._undo.append(lambda: self._put(number, needle, retraction_mm))

    def undo(self) -> None:
        """Take the last change back.

        Raises:
            AskedWrongly: there is none.
        """
        if not self._undo:
            raise AskedWrongly("undo: nothing was changed.")
        self._undo.pop()()

    def edited(self) -> Plan:
        """The plan as it is now, seeds numbered anew in the order of delivery; needles without seeds stay in it."""
        number, needles = 0, []
        for needle in self.plan.needles:
            own = sorted(mm for name, mm in self.seeds.values() if name == needle.name)
            seeds = []
            for retraction_mm in own:
                number += 1
                centre = rounded_point(self._centre_mm(needle.name, retraction_mm))
                seeds.append(PlannedSeed(number, centre, retraction_mm))
            needles.append(replace(needle, seeds=tuple(seeds)))
        return replace(self.plan, needles=tuple(needles))

    def _seed(self, number: int) -> tuple[str, float]:
        if number not in self.seeds:
            raise AskedWrongly(f"seed {number}: not in this plan; 'seeds' lists them.")
        return self.seeds[number]

    def _room(self, needle: str, retraction_mm: float, number: int | None) -> None:
        length = self.plan.seed_length_mm
        if retraction_mm < length - 0.001:
            raise AskedWrongly(
                f"needle {needle}: drawn back by {retraction_mm:g} mm a seed of {length:g} mm would lie ahead of where "
                f"the tip was; {length:g} mm is the least."
            )
        if retraction_mm > self.plan.needle(needle).depth_mm + 0.5 * length:
            raise AskedWrongly(f"needle {needle}: drawn back by {retraction_mm:g} mm it has left the skin.")
        for other, (name, there_mm) in self.seeds.items():
            if other != number and name == needle and abs(there_mm - retraction_mm) < length - 0.001:
                raise AskedWrongly(
                    f"needle {needle}: at {retraction_mm:g} mm it would overlap seed {other} at {there_mm:g} mm."
                )

    def _centre_mm(self, needle: str, retraction_mm: float) -> Floats:
        of = self.plan.needle(needle)
        for seed in of.seeds:
            if seed.retraction_mm == retraction_mm:
                return np.array(seed.centre_mm)
        behind_mm = retraction_mm - 0.5 * self.plan.seed_length_mm
        return np.array(rounded_point(of.tip_mm - behind_mm * of.direction))

    def _put(self, number: int, needle: str, retraction_mm: float) -> None:
        centre, axis = self._centre_mm(needle, retraction_mm), self.plan.needle(needle).direction
        if number in self._in_dose:
            self._dose.move(self._in_dose[number], centre, axis)
        else:
            self._in_dose[number] = self._dose.add(centre, axis, self.plan.air_kerma_strength_u)[0]
        self.seeds[number] = needle, retraction_mm

    def _take_out(self, number: int) -> None:
        self._dose.remove(self._in_dose.pop(number))
        del self.seeds[number]
