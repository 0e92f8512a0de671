"""What a procedure through ports was asked to do, kept in its folder, so that it can be taken up again.

The folder then holds ``order.json``, ``plan.json``, ``devices.toml`` and, as soon as it has begun, ``journal.sqlite``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from controller.devices_file import DEVICES_FILE, ENCODER, Devices, read_devices
from planning.plan import Plan
from planning.refusal import AskedWrongly

MANUAL = "manual"
"""In place of a port: the device is absent, people do its part."""
ORDER_FILE, PLAN_FILE, JOURNAL_FILE = "order.json", "plan.json", "journal.sqlite"


@dataclass(frozen=True)
class Order:
    """Paths are absolute. ``operator``: ``terminal``, ``door`` or ``auto``; ``slice_mm``: of the CTs asked for.

    ``rig``, ``applicator``: the port, or ``manual``. ``depth_encoder``: its port; "" where none is fitted.
    """

    case: str
    rig: str
    applicator: str
    scans: str
    operator: str
    slice_mm: float
    max_attempts: int
    depth_encoder: str = ""

    @property
    def urls(self) -> dict[str, str]:
        """Of all ports, by the device's name."""
        beside = {ENCODER: self.depth_encoder} if self.depth_encoder else {}
        ports = {"rig": self.rig, "applicator": self.applicator, **beside}
        return {name: url for name, url in ports.items() if url != MANUAL}

    def write(self, folder: Path, plan: Plan, devices: Devices) -> None:
        """Into ``folder``, before anything begins. AskedWrongly: it can't be written."""
        try:
            plan.save(folder / PLAN_FILE)
            (folder / DEVICES_FILE).write_text(devices.text, encoding="utf-8")
            (folder / ORDER_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        except OSError as problem:
            raise AskedWrongly(f"{folder}: can't be written ({problem.strerror or problem}).") from problem


def check_playable(plan: Plan, path: Path) -> None:
    """Refuse a plan that the procedure can't carry out yet.

    Raises:
        AskedWrongly: its needles are oblique.
    """
    if plan.is_oblique:
        raise AskedWrongly(
            f"{path}: the needles of this plan are oblique, and the procedure knows parallel needles only; plan with "
            "'--needles coplanar', or put the needles in by hand through the plan's printed template."
        )


def read_order(folder: Path) -> tuple[Order, Plan, Devices]:
    """What ``Order.write`` wrote.

    Raises:
        AskedWrongly: the folder is not that of a procedure through ports, or a file in it can't be read.
    """
    path = folder / ORDER_FILE
    if not path.is_file():
        raise AskedWrongly(f"{folder}: holds no {ORDER_FILE}, so it is not the folder of a seedguide run.")
    try:
        order = Order(**json.loads(path.read_text(encoding="utf-8")))
        if not all(isinstance(getattr(order, f.name), str) for f in fields(Order) if f.type == "str"):
            raise TypeError("a text is expected")
        order = Order(
            **{**asdict(order), "slice_mm": float(order.slice_mm), "max_attempts": int(order.max_attempts)}
        )
    except (OSError, ValueError, TypeError) as problem:
        raise AskedWrongly(f"{path}: can't be read ({' '.join(str(problem).split())}).") from problem
    return order, Plan.load(folder / PLAN_FILE), read_devices(folder / DEVICES_FILE)
