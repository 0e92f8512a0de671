"""``devices.toml``: what the devices at the ports must be.  Knows the file; opens no port.

Cartridge capacity, detent spacing and needle gauge have no default: published capacities differ (15 and 20 seeds), and
a wrong one miscounts seeds. What the file says is compared with what the devices say of themselves. Nor have a depth
encoder's counts per mm one: a wrong gear would call every depth wrong.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from drivers.accuseed import BAUD as ENCODER_BAUD
from drivers.accuseed import AccuSeedConfig
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from planning.refusal import AskedWrongly

DEVICES_FILE = "devices.toml"
BAUD = 115_200
ENCODER = "depth encoder"
"""Its name in ``Devices.baud``, among the ports and in messages."""
_MANDATORY = {
    "cartridge_capacity": "seeds in a full cartridge (published: 15 and 20)",
    "detent_um": "spacing of the detents, in um",
    "needle_gauge": "gauge of the needles, as 18",
}
_RIG_NUMBERS = tuple(field.name for field in fields(RigConfig) if field.type == "float")


@dataclass(frozen=True)
class Devices:
    """The devices as configured.

    Attributes:
        encoder: the depth encoder on the needle carriage; None: there is no table [depth_encoder].
        encoder_url: its port, where the file says it; else "".
        baud: by the device's name.
        simulated: there is a table [simulated]: hands behind a bench do what people confirm.
        speed: of the devices' clock against the wall's; not 1 only for simulated devices.
        text: the file as it was read.
    """

    rig: RigConfig
    applicator: ApplicatorConfig
    baud: dict[str, int]
    simulated: bool
    speed: float
    text: str
    encoder: AccuSeedConfig | None = None
    encoder_url: str = ""


def read_devices(path: Path) -> Devices:
    """The file ``path``.

    Raises:
        AskedWrongly: not there, not TOML, something missing, unknown, or of the wrong kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise AskedWrongly(
            f"{path}: there is no such file; it must say cartridge capacity, detents and gauge of the devices "
            "(drivers/DRIVERS.md shows one); name it with --devices."
        ) from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise AskedWrongly(f"{path}: can't be read ({problem}).") from problem
    return parse_devices(text, str(path))


def parse_devices(text: str, name: str) -> Devices:
    """As ``read_devices``; ``name``: of the file, for messages."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise AskedWrongly(f"{name}: is not TOML ({problem}).") from problem
    known = ("applicator", "rig", "simulated", "depth_encoder")
    _only(tables, known, name, "table")
    applicator, rig, simulated, beside = (_table(tables, key, name) for key in known)
    for key, meaning in _MANDATORY.items():
        if key not in applicator:
            raise AskedWrongly(f"{name}: [applicator] does not say {key}: {meaning}.")
    _only(applicator, (*_MANDATORY, "baud"), f"{name}: [applicator]", "key")
    _only(rig, (*_RIG_NUMBERS, "depth_mm", "versions", "serial", "settings", "baud"), f"{name}: [rig]", "key")
    _only(simulated, ("speed",), f"{name}: [simulated]", "key")
    speed = _number(simulated.get("speed", 1.0), f"{name}: [simulated] speed")
    if not 1.0 <= speed <= 100.0:
        raise AskedWrongly(f"{name}: [simulated] speed is from 1 to 100, not {speed:g}.")
    encoder = _encoder(beside, f"{name}: [depth_encoder]") if "depth_encoder" in tables else None
    whole = {key: _whole(applicator[key], f"{name}: [applicator] {key}") for key in _MANDATORY}
    return Devices(
        _rig(rig, f"{name}: [rig]"),
        ApplicatorConfig(whole["cartridge_capacity"], whole["detent_um"], whole["needle_gauge"]),
        {
            "rig": _whole(rig.get("baud", BAUD), f"{name}: [rig] baud"),
            "applicator": _whole(applicator.get("baud", BAUD), f"{name}: [applicator] baud"),
            ENCODER: _whole(beside.get("baud", ENCODER_BAUD), f"{name}: [depth_encoder] baud"),
        },
        "simulated" in tables,
        speed,
        text,
        encoder,
        _text(beside.get("url", ""), f"{name}: [depth_encoder] url"),
    )


def _encoder(table: dict[str, Any], where: str) -> AccuSeedConfig:
    if "counts_per_mm" not in table:
        raise AskedWrongly(
            f"{where} does not say counts_per_mm: how far the counts go per mm of depth, negative where they fall."
        )
    _only(table, ("counts_per_mm", "tolerance_mm", "serial", "baud", "url"), where, "key")
    changed: dict[str, Any] = {
        key: _number(table[key], f"{where} {key}")
        for key in ("counts_per_mm", "tolerance_mm")
        if key in table
    }
    if "serial" in table:
        changed["serial"] = _whole(table["serial"], f"{where} serial")
    try:
        return AccuSeedConfig(**changed)
    except ValueError as problem:
        raise AskedWrongly(f"{where}: {problem}.") from problem


def _rig(table: dict[str, Any], where: str) -> RigConfig:
    config = RigConfig()
    changed: dict[str, Any] = {
        key: _number(table[key], f"{where} {key}") for key in _RIG_NUMBERS if key in table
    }
    if "depth_mm" in table:
        low, high = _list(table["depth_mm"], f"{where} depth_mm", 2)
        changed["depth_mm"] = (_number(low, f"{where} depth_mm"), _number(high, f"{where} depth_mm"))
    if "versions" in table:
        changed["versions"] = tuple(map(str, _list(table["versions"], f"{where} versions", None)))
    if "serial" in table:
        changed["serial"] = str(table["serial"])
    settings = dict(config.settings)
    for number, value in _table(table, "settings", where).items():
        if not number.isdecimal():
            raise AskedWrongly(f'{where} settings: {number} is no Grbl setting; write "100" = 250.')
        settings[int(number)] = _number(value, f"{where} settings {number}")
    return replace(config, **changed, settings=settings)


def _table(tables: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    table = tables.get(key, {})
    if not isinstance(table, dict):
        raise AskedWrongly(f"{name}: {key} is a table, not {table!r}.")
    return table


def _only(table: dict[str, Any], known: tuple[str, ...], where: str, kind: str) -> None:
    for key in table:
        if key not in known:
            raise AskedWrongly(f"{where}: the {kind} {key} is not known; known are {', '.join(known)}.")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AskedWrongly(f"{where} is a number, not {value!r}.")
    return float(value)


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise AskedWrongly(f"{where} is a whole number above 0, not {value!r}.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise AskedWrongly(f"{where} is a text, not {value!r}.")
    return value


def _list(value: Any, where: str, length: int | None) -> list[Any]:
    if not isinstance(value, list) or not value or (length is not None and len(value) != length):
        raise AskedWrongly(f"{where} is a list{f' of {length}' if length else ''}, not {value!r}.")
    return value
