"""What a rehearsal was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.error_population import ErrorPopulation
from simulator.scanner import ScannerMode


@dataclass(frozen=True)
class RehearsalOptions:
    """What ``seedguide rehearse`` was asked for; None = what the site protocol or chance says."""

    case: Path
    out: Path
    seed: int = 1
    target: str | None = None
    margin_mm: float | None = None
    rx_gy: float | None = None
    activity_mci: float | None = None
    protocol: str = "head-and-neck"
    slice_mm: float = 1.25
    door: str = "inprocess"
    speed: float | None = None
    max_attempts: int = 5
    setup_error_mm: float | None = None
    population: ErrorPopulation | None = None
    faults: Path | None = None
    record: Path | None = None
    scanner: ScannerMode = "fast"
    """How the simulated CT is made: ``fast`` (approximate) or ``faithful``; simulator/SCANNER.md."""
    operator: str = "auto"
    """``auto``, or ``door``: people at consoles confirm, simulated hands do what they confirmed (``door="ports"``)."""
    person_judges: bool = False
    """``operator="door"``: a person rules about every needle after each CT, before anything is corrected."""
