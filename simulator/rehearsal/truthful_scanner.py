"""A scanner without images: what a CT would show, taken from the truth with a little noise.

For campaigns that play the control part alone. It stands where CT and ``imaging`` stand in a rehearsal; how well those
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
from planning.frame import Floats
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

    def true_tip_patient_mm(self, needle: str) -> Floats:
        """``(3,)``."""

    def true_direction(self, needle: str) -> Floats:
        """``(3,)`` unit vector at the tip, towards it."""


class TruthfulScanner:
    """What the CTs of one procedure show.

    Args:
        plan: of the patient who lies there.
        random: draws the noise.
        noise_mm: 1 sigma of a tip's error along each axis, registration included.
        sigma_mm: the uncertainty that the findings claim for a tip.
        takes_s: from the request to the findings, on the procedure's clock.
    """

    def __init__(
        self,
        plan: Plan,
        tissue: SeenTissue,
        random: np.random.Generator,
        *,
        noise_mm: float = 0.15,
        sigma_mm: float = 0.3,
        takes_s: float = SCAN_TAKES_S,
    ) -> None:
        self._plan, self._tissue, self._random = plan, tissue, random
        self._noise_mm, self._sigma_mm, self._takes_s = noise_mm, sigma_mm, takes_s

    def scan(self, command: RequestScan, _procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        findings = self.findings(command)
        return ScanAnalysed(command.number, f"scans/{command.scan}", findings), round(self._takes_s * 1e9)

    def findings(self, command: RequestScan) -> RescanFindings:
        """Every needle in tissue and every seed; each seed under the number of its turn."""
        plan, tissue = self._plan, self._tissue
        needles = tuple(
            SeenNeedle(
                name,
                _point(tissue.true_tip_patient_mm(name) + self._random.normal(0.0, self._noise_mm, 3)),
                _point(tissue.true_direction(name)),
                (0.0, 0.0, 0.0),
                self._sigma_mm,
                3000.0,
            )
            for name in tissue.needles
        )
        seeds = tuple(
            SeenSeed(number, _point(seed.centre_mm), _point(seed.direction), 0.3)
            for number, seed in enumerate(tissue.true_seeds, 1)
        )
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
            needles=needles if command.kind != "seeds" else (),
            seeds=seeds if command.kind == "seeds" else (),
        )


def _point(values: Floats) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z
