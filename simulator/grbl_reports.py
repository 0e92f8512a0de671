"""What Grbl 1.1h prints: greeting, status, modes, offsets. Pure text."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.grbl_kind import GrblKind
from simulator.grbl_parser import Axes, Modal, Offsets


def banner(kind: GrblKind) -> bytes:
    return f"\r\n{kind.greeting}\r\n".encode()


def status_report(
    state: str,
    at_mm: Axes,
    speed_mm_min: float,
    pressed: Sequence[int],
    wco_mm: Axes | None,
    has_overrides: bool,
    grips: bool,
) -> str:
    """`<...>` with $10=1: machine position; offsets and overrides only now and then."""
    fields = [state, f"MPos:{_mm(at_mm)}", f"FS:{round(speed_mm_min)},0"]
    if pressed:
        fields.append("Pn:" + "".join("XYZAB"[axis] for axis in pressed))
    if wco_mm is not None:
        fields.append(f"WCO:{_mm(wco_mm)}")
    if has_overrides:
        fields.append("Ov:100,100,100")
        if grips:
            fields.append("A:F")
    return f"<{'|'.join(fields)}>"


def modes_report(modal: Modal) -> str:
    motion = f"{modal.motion:g}"
    return (
        f"[GC:G{motion} G{modal.system} G{modal.plane} G{modal.units} G{modal.distance} G{modal.feed_mode}"
        f" M{modal.spindle} M{modal.coolant} T{modal.tool} F{modal.feed_mm_min:.0f} S{modal.speed:.0f}]"
    )


def offsets_report(offsets: Offsets, probe_mm: Axes) -> list[str]:
    lines = [f"[G{54 + i}:{_mm(system)}]" for i, system in enumerate(offsets.systems)]
    lines += [f"[G28:{_mm(offsets.g28)}]", f"[G30:{_mm(offsets.g30)}]", f"[G92:{_mm(offsets.g92)}]"]
    return [*lines, "[TLO:0.000]", f"[PRB:{_mm(probe_mm)}:0]"]


def _mm(place: Axes) -> str:
    return ",".join(f"{value:.3f}" for value in place)
