"""Which Grbl is on the board: stock 1.1h with three axes, or a grblHAL build with five.

What differs is data: letters of the axes, greeting, identity, settings. Figures of stock Grbl are as documented and
measured; those of grblHAL are from its documentation, and nothing of it was measured here.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GrblKind:
    """One build of the firmware.

    Attributes:
        axes: letters, in the order of its reports.
        greeting: what it says after each reset, without line ends.
        version: before the second colon of ``[VER:...]``.
        options: the lines of ``$I`` after ``[VER:...]``.
        settings: defaults by number, those of a seedguide rig.
        homing: which axes are homed together, one group after the other.
        reports_in_homing: ``?`` is answered during ``$H``.
    """

    axes: str
    greeting: str
    version: str
    options: tuple[str, ...]
    settings: dict[int, float] = field(hash=False)
    homing: tuple[tuple[int, ...], ...]
    reports_in_homing: bool


_COMMON: dict[int, float] = {
    **{0: 10, 1: 255, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 10: 1, 11: 0.010, 12: 0.002, 13: 0},
    **{20: 1, 21: 1, 22: 1, 23: 0, 24: 25.0, 25: 1500.0, 26: 250, 27: 1.0, 30: 1000, 31: 0, 32: 0},
    **{100: 200.0, 101: 200.0, 102: 200.0, 110: 3000.0, 111: 3000.0, 112: 1200.0},
    **{120: 200.0, 121: 200.0, 122: 100.0, 130: 200.0, 131: 200.0, 132: 200.0},
}
STOCK = GrblKind(
    axes="XYZ",
    greeting="Grbl 1.1h ['$' for help]",
    version="1.1h.20190830",
    options=("[OPT:V,15,128]",),
    settings=_COMMON,
    homing=((2,), (0, 1)),
    reports_in_homing=False,
)
OBLIQUE = GrblKind(
    axes="XYZAB",
    greeting="GrblHAL 1.1f ['$' or '$HELP' for help]",
    version="1.1f.20240101",
    options=("[OPT:VNMSL,15,128,5,0]", "[AXS:5:XYZAB]", "[FIRMWARE:grblHAL]"),
    settings={
        **_COMMON,
        **{22: 5, 44: 4, 45: 27, 376: 0},
        **{103: 200.0, 104: 200.0, 113: 3000.0, 114: 3000.0},
        **{123: 200.0, 124: 200.0, 133: 200.0, 134: 200.0},
    },
    homing=((2,), (0, 1, 3, 4)),
    reports_in_homing=True,
)
