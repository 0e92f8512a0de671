"""What takes seconds of a core: a CT's analysis, and the dose and loading of needles as they stand.

``HeavyWork`` does it where it is called; ``HeavyWorkApart`` has a worker process do the same. Values in, values out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from controller.worker import LONGEST_S, HeavyWorkLost, Worker
from imaging.rescan import RescanFindings, analyse_rescan
from planning.adaptation import Adaptation, Implant, adapt
from planning.anatomy import Anatomy
from planning.frame import Floats, RigidTransform
from planning.plan import Plan
from planning.site_protocol import SiteProtocol
from planning.sources import SeedSource
from planning.volume import CtVolume

ScanKind = Literal["needles", "seeds"]
Lines = Mapping[str, tuple[Floats, Floats]]
"""By needle: tip and direction, patient frame, mm."""
Seeds = Mapping[int, tuple[Floats, Floats]]
"""By seed's number: centre and direction, patient frame, mm."""


class Heavy(Protocol):
    """Both kinds of work. Either raises AskedWrongly for its input, HeavyWorkLost when it has no result."""

    def analyse(
        self, folder: Path, kind: ScanKind, tips: Lines, seeds: Seeds, start: RigidTransform | None
    ) -> RescanFindings: ...

    def adapt(self, implant: Implant) -> Adaptation: ...


@dataclass(frozen=True, eq=False)
class HeavyWork:
    """Of one plan on its patient."""

    ct: CtVolume
    plan: Plan
    anatomy: Anatomy
    protocol: SiteProtocol
    source: SeedSource

    def analyse(
        self, folder: Path, kind: ScanKind, tips: Lines, seeds: Seeds, start: RigidTransform | None
    ) -> RescanFindings:
        """What the CT series in ``folder`` shows; the rest as ``imaging.rescan.analyse_rescan``."""
        return analyse_rescan(
            folder, self.ct, self.plan, kind=kind, expected_tips_mm=tips, expected_seeds_mm=seeds, start=start
        )

    def adapt(self, implant: Implant) -> Adaptation:
        """As ``planning.adaptation.adapt``."""
        return adapt(self.plan, self.anatomy, self.protocol, self.source, implant)


class HeavyWorkApart:
    """The same in a process of its own, which starts now.

    Args:
        work: what is done there.
        longest_s: a piece of work that takes longer is ended.
    """

    def __init__(self, work: HeavyWork, *, longest_s: float = LONGEST_S) -> None:
        self._worker = Worker(work, longest_s=longest_s)
        self.cancel = self._worker.cancel
        self.close = self._worker.close

    def analyse(
        self, folder: Path, kind: ScanKind, tips: Lines, seeds: Seeds, start: RigidTransform | None
    ) -> RescanFindings:
        try:
            found: RescanFindings = self._worker.do("analyse", folder, kind, dict(tips), dict(seeds), start)
        except HeavyWorkLost as problem:
            raise HeavyWorkLost(
                f"the analysis of the CT in {folder.name} has no result: {problem}. When it goes on, the same series "
                "may be given again; no new exposure is needed for this"
            ) from problem
        return found

    def adapt(self, implant: Implant) -> Adaptation:
        try:
            adaptation: Adaptation = self._worker.do("adapt", implant)
        except HeavyWorkLost as problem:
            raise HeavyWorkLost(
                f"the dose with the needles as they stand has no result: {problem}. It is computed again when "
                "it goes on"
            ) from problem
        return adaptation
