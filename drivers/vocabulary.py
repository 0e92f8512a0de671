"""What each packet from the applicator carries, and the codes in words (WIRE.md 1.3 to 1.6).

Knows: names, keys, their order and the form of their values. Does not know: when they come, or what to do.
"""

from __future__ import annotations

import re

from drivers.packet import Packet

_STATES = "IDLE|HOMING|MOVING|ARMED|FIRING|LATCHED"
_LATCHES = "NONE|JAM|DOUBLE|UNKNOWN|AXIS|ESTOP|STOP|WATCH"
_COUNT = r"0|[1-9][0-9]{0,8}"
_SIGNED = r"0|-?[1-9][0-9]{0,8}"
_BIT = "[01]"
_HEX4 = "[0-9A-F]{4}"

_FORM_OF_KEY = {
    key: re.compile(form)
    for key, form in {
        "v": _COUNT, "sid": _HEX4, "id": "[0-9A-Za-z.+-]+", "sn": "[0-9A-Za-z.+-]+", "fw": "[0-9A-Za-z.+-]+",
        "sim": _BIT, "cap": _COUNT, "det": _COUNT, "ga": _COUNT, "st": _STATES, "z": _SIGNED, "sty": _SIGNED,
        "n": _COUNT, "left": _COUNT, "seat": _BIT, "es": _BIT, "hm": "[0-3]", "la": _LATCHES, "ln": _COUNT,
        "ax": "[zs]", "p": "[0-9A-F]{8}", "dup": _BIT, "k": _COUNT, "c": _COUNT, "tok": _HEX4,
        "out": "NONE|BUSY|PASS|NOPASS|DOUBLE|UNKNOWN", "peak": _SIGNED, "pulses": _COUNT, "stroke": _SIGNED,
        "ld": _COUNT, "im": _COUNT, "lf": _COUNT, "wa": _COUNT, "db": _COUNT, "sk": _COUNT, "pu": _COUNT,
        "by": "HOST|ESTOP|WATCH|AXIS", "f": _SIGNED, "code": "[A-Z]+", "want": _COUNT,
    }.items()
}  # fmt: skip

_KEYS: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    (sigil, name): tuple(tuple(keys.split()) for keys in alternatives)
    for sigil, name, *alternatives in (
        ("<", "HELLO", "v sid id sn fw sim cap det ga"),
        ("<", "PING", "st"),
        ("<", "STAT", "st z sty n left seat es hm la ln"),
        ("<", "HOME", "ax"),
        ("<", "MOVE", "z"),
        ("<", "BEGIN", "p n dup"),
        ("<", "CART", "k c left"),
        ("<", "ARM", "n z tok"),
        ("<", "FIRE", "n dup", "n dup out"),
        ("<", "DISARM", ""),
        ("<", "RES", "n out z peak pulses stroke"),
        ("<", "CLEAR", "la"),
        ("<", "LEDGER", "p ld im lf wa db sk pu k"),
        ("<", "END", "p"),
        ("<", "ERR", "code", "code want", "code left", "code n", "code z", "code la"),
        ("!", "BOOTED", "v id"),
        ("!", "HOMED", "ax"),
        ("!", "MOVED", "z"),
        ("!", "SHOT", "n out peak pulses stroke"),
        ("!", "STOPPED", "z by"),
        ("!", "ESTOP", "es"),
        ("!", "SEAT", "seat"),
        ("!", "DISARMED", "n"),
        ("~", "T", "st z sty f left es la"),
    )
}


def why_not_of_form(packet: Packet) -> str | None:
    """Why this isn't a packet a device may send, or None if it is one."""
    alternatives = _KEYS.get((packet.sigil, packet.name))
    if alternatives is None:
        return f"the device can't say {packet.sigil}{packet.name}"
    if packet.boot == "0000":
        return "a device's boot is never 0000"
    if tuple(key for key, _ in packet.pairs) not in alternatives:
        return f"{packet.name} with missing, extra or disordered pairs"
    for key, value in packet.pairs:
        if not _FORM_OF_KEY[key].fullmatch(value):
            return f"{packet.name} with a malformed {key}={value}"
    return None


_REFUSALS = {
    "FORM": "the device doesn't understand the command",
    "BUSY": "the device is busy with a motion",
    "ESTOP": "the emergency-stop loop is open",
    "LATCH": "the device is latched until a person has looked",
    "HOME": "the axes aren't homed",
    "RANGE": "a value is out of range, or the stylet isn't at its home",
    "OPEN": "another procedure's ledger is still open",
    "NEW": "no ledger is open",
    "SEAT": "the cartridge isn't seated, or the switch didn't open since the last cartridge",
    "EMPTY": "the cartridge is empty",
    "COUNT": "the numbers don't agree with the device's",
    "PLACE": "the needle doesn't stand where the seed shall be dropped",
    "TOKEN": "the device isn't armed for this seed, or was armed too long ago",
}


def refusal_in_words(code: str, extra: dict[str, str]) -> str:
    """One sentence for ``ERR code=``."""
    words = _REFUSALS.get(code, f"the device refuses with {code}")
    told = ", ".join(f"{key}={value}" for key, value in extra.items())
    return f"{words} ({told})" if told else words


_LATCH_WORDS = {
    "JAM": "seed {n} did not pass: jam; look, do not force it",
    "DOUBLE": "two seeds may have left the cartridge at seed {n}; count them",
    "UNKNOWN": "what happened to seed {n} is not known; look and count",
    "AXIS": "the axis did not follow; motion stopped",
    "ESTOP": "the emergency-stop loop was opened",
    "STOP": "stopped by the host",
    "WATCH": "the host fell silent; motion stopped",
}


def latch_in_words(latch: str, seed: int) -> str:
    """One sentence for a latch."""
    return _LATCH_WORDS.get(latch, f"latched {latch}").format(n=seed)
