"""The kinds of faults of the campaign, each drawn with its trigger and parameters from one seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.faults import Fault

COMMANDS = (
    "HomeRig",
    "MoveAcross",
    "CloseGrip",
    "MoveDepth",
    "OpenGrip",
    "RetractNeedle",
    "DropSeed",
    "AskOperator",
)
SEEDS, NEEDLES, LAST_S = 4, 2, 200.0
"""Of the campaign's plan: planned seeds and needles; an undisturbed procedure takes about so long."""
Random = np.random.Generator


def _sometime(random: Random, words: str, for_s: float | None = None) -> Fault:
    """At any instant: of the whole procedure, or around a command."""
    if random.random() < 0.4:
        return Fault(words, at_s=round(random.uniform(0.0, LAST_S), 4), for_s=for_s)
    after_s = round(random.uniform(0.0, 3.0), 4)
    command, nth = str(random.choice(COMMANDS)), int(random.integers(1, 7))
    return Fault(words, at_command=command, nth=nth, after_s=after_s, for_s=for_s)


def _share(random: Random, low: float, high: float) -> str:
    return f"{np.exp(random.uniform(np.log(low), np.log(high))):.6f}"


def _at_seed(random: Random, words: str) -> Fault:
    return Fault(words, at_seed=int(random.integers(1, SEEDS + 1)))


def _axis(random: Random) -> str:
    return str(random.choice(list("xyz")))


def _way(random: Random, low: float, high: float) -> str:
    return f"{random.choice([-1.0, 1.0]) * np.exp(random.uniform(np.log(low), np.log(high))):.4f}"


def _duration(random: Random, low: float, high: float) -> float:
    return round(float(np.exp(random.uniform(np.log(low), np.log(high)))), 4)


def _at_scan(random: Random, words: str) -> Fault:
    return Fault(words, at_command="RequestScan", nth=int(random.integers(1, 4)))


def _at_question(random: Random, words: str) -> Fault:
    return Fault(words, at_command="AskOperator", nth=int(random.integers(1, 10)))


KINDS: dict[str, Callable[[Random], list[Fault]]] = {
    "nothing": lambda _r: [],
    **{
        f"{what} {device}": lambda r, what=what, device=device, low=low, high=high: [
            Fault(f"{what} {device} {_share(r, low, high)}", at_s=0.0)
        ]
        for device in ("rig", "applicator")
        for what, low, high in (("loss", 1e-5, 3e-3), ("flips", 1e-5, 3e-3), ("duplicates", 1e-5, 1e-2))
    },
    **{
        f"delay {device}": lambda r, device=device: [
            Fault(f"delay {device} {r.uniform(1, 90):.1f}", at_s=0.0)
        ]
        for device in ("rig", "applicator")
    },
    **{
        f"silence {device}": lambda r, device=device: [
            _sometime(r, f"silence {device}", _duration(r, 0.02, 5.0))
        ]
        for device in ("rig", "applicator")
    },
    **{
        f"unplug {device}": lambda r, device=device: [_sometime(r, f"unplug {device}")]
        for device in ("rig", "applicator")
    },
    **{
        f"reset {device}": lambda r, device=device: [_sometime(r, f"reset {device}")]
        for device in ("rig", "applicator")
    },
    "jam": lambda r: [_at_seed(r, "jam")],
    "empty": lambda r: [_at_seed(r, "empty")],
    "double": lambda r: [_at_seed(r, "double")],
    "blind sensor": lambda r: [_at_seed(r, "blind")],
    "miscount": lambda r: [_at_seed(r, f"miscount {r.choice([-1, 1, -2, 2])}")],
    "lost steps rig": lambda r: [_sometime(r, f"lose rig {_axis(r)} {_way(r, 0.02, 5.0)}")],
    "lost steps applicator": lambda r: [_sometime(r, f"lose applicator {_way(r, 0.02, 5.0)}")],
    "stuck carriage": lambda r: [_sometime(r, "stick applicator", _duration(r, 0.05, 5.0))],
    "stalled motor rig": lambda r: [_sometime(r, f"stall rig {_axis(r)}")],
    "limit switch pressed": lambda r: [_sometime(r, f"press rig {_axis(r)}", _duration(r, 0.01, 5.0))],
    "limit switch broken": lambda r: [Fault(f"break rig {_axis(r)}", at_s=0.0)],
    "e-stop": lambda r: [_sometime(r, "estop", None if r.random() < 0.5 else _duration(r, 0.01, 10.0))],
    "scan missing": lambda r: [_at_scan(r, "scan missing") for _ in range(int(r.integers(1, 4)))],
    "scan old": lambda r: [_at_scan(r, "scan old")],
    "scan stranger": lambda r: [_at_scan(r, "scan stranger")],
    "needle not visible": lambda r: [_at_scan(r, f"scan hides N{int(r.integers(1, NEEDLES + 1)):02d}")],
    "operator early": lambda r: [_at_question(r, "operator early")],
    "operator twice": lambda r: [_at_question(r, "operator twice")],
    "operator slow": lambda r: [_at_question(r, f"operator slow {r.uniform(10, 120):.0f}")],
    "operator silent": lambda r: [_at_question(r, "operator silent")],
    "operator declines": lambda r: [_at_question(r, "operator declines")],
    "operator stop": lambda r: [_sometime(r, "operator stop")],
}
"""By name; every one but ``several`` is one thing that goes wrong."""


def several(random: Random) -> list[Fault]:
    """Two to four kinds in one procedure."""
    names = list(KINDS)[1:]
    return [
        fault
        for name in random.choice(names, int(random.integers(2, 5)))
        for fault in KINDS[str(name)](random)
    ]


KINDS["several"] = several
