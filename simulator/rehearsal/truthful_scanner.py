"""A scanner without images: what a CT would show, taken from the truth with errors, and the sigma that is stated.

For campaigns and for the control part alone. It stands where CT and ``imaging`` stand in a rehearsal; how well those
find needles and seeds is measured elsewhere (``benchmarks.imaging_accuracy``) and given here as figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from controller.commands import RequestScan
from controller.events import ScanAnalysed, ScanUnusable
from controller.procedure import Procedure
from imaging.rescan import RescanFindings, ScanIdentity, SeenNeedle, SeenSeed
from planning.frame import Floats, unit
from planning.plan import Plan, Point
from simulator.physics import Tissue

SCAN_TAKES_S = 60.0
_EYE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class LyingSeed(Protocol):
    """A seed in the patient, patient frame."""

    @property
    def needle(self) -> str: ...
    @property
    def centre_mm(self) -> Floats: ...
    @property
    def direction(self) -> Floats: ...


class SeenTissue(Tissue, Protocol):
    """Tissue whose truth may be asked: ``PlainTissue``, or the simulated ``Patient``. Patient frame, mm."""

    @property
    def needles(self) -> tuple[str, ...]:
        """Those whose tips are in tissue."""

    @property
    def true_seeds(self) -> Sequence[LyingSeed]:
        """In the order in which they were dropped."""

    def true_tip_and_direction_mm(self, needle: str) -> tuple[Floats, Floats]:
        """``(3,)`` each: the tip, and the unit vector there, towards it."""


class TruthfulScanner:
    """What the CTs of one procedure show.

    Args:
        plan: of the patient who lies there.
        random: draws the errors.
        tip_sigma_mm: 1 sigma of a tip's error along each axis, registration included.
        angle_sigma_deg: 1 sigma of a needle's direction along each axis.
        stated_sigma_mm: the uncertainty that the findings claim for a tip.
        unseen_share, unusable_share: of needles that are not found, of CTs that can't be used.
        takes_s: from the request to the findings, on the procedure's clock.
    """

    def __init__(
        self,
        plan: Plan,
        tissue: SeenTissue,
        random: np.random.Generator,
        *,
        tip_sigma_mm: float = 0.15,
        angle_sigma_deg: float = 0.0,
        stated_sigma_mm: float = 0.3,
        unseen_share: float = 0.0,
        unusable_share: float = 0.0,
        takes_s: float = SCAN_TAKES_S,
    ) -> None:
        self._plan, self._tissue, self._random = plan, tissue, random
        self._tip_sigma_mm, self._angle_sigma = tip_sigma_mm, float(np.radians(angle_sigma_deg))
        self._stated_sigma_mm, self._takes_ns = stated_sigma_mm, round(takes_s * 1e9)
        self._unseen_share, self._unusable_share = unseen_share, unusable_share
        self._entries = {needle.name: needle.entry_mm for needle in plan.needles}

    def scan(self, command: RequestScan, _procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        if self._happens(self._unusable_share):
            return ScanUnusable(command.number, "unusable by chance"), self._takes_ns
        return ScanAnalysed(command.number, f"scans/{command.scan}", self.findings(command)), self._takes_ns

    def findings(self, command: RequestScan) -> RescanFindings:
        """Every needle in tissue that is found, or every seed, each under the number of its turn."""
        plan, tissue = self._plan, self._tissue
        needles: tuple[SeenNeedle, ...] = ()
        seeds: tuple[SeenSeed, ...] = ()
        if command.kind == "seeds":
            seeds = tuple(
                SeenSeed(number, _point(seed.centre_mm), _point(seed.direction), self._stated_sigma_mm)
                for number, seed in enumerate(tissue.true_seeds, 1)
            )
        else:
            all_seen = [self._seen(name) for name in tissue.needles]
            needles = tuple(needle for needle in all_seen if not self._happens(self._unseen_share))
        return RescanFindings(
            kind=command.kind,
            identity=ScanIdentity(
                plan.patient_id, "1", f"1.{command.scan}", plan.frame_of_reference_uid, 1.25, 90
            ),
            plan_from_scan=_EYE,
            registered=True,
            problem="",
            similarity=1.0,
            expected_tre_mm=0.2,
            needles=needles,
            seeds=seeds,
        )

    def _seen(self, name: str) -> SeenNeedle:
        tip, direction = self._tissue.true_tip_and_direction_mm(name)
        tip = tip + self._tip_sigma_mm * self._random.standard_normal(3)
        if self._angle_sigma > 0.0:
            direction = unit(direction + self._angle_sigma * self._random.standard_normal(3))
        return SeenNeedle(
            name, _point(tip), _point(direction), self._entries[name], self._stated_sigma_mm, 3000.0
        )

    def _happens(self, share: float) -> bool:
        return share > 0.0 and bool(self._random.random() < share)


def _point(values: Floats) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z
