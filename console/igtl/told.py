"""What every client is told of the run without asking: the messages of IGTL.md's first table.

Pure. A body is packed and its CRC computed only when its content changes; all clients share the bytes of a tick.
"""

from __future__ import annotations

from collections.abc import Callable

from console.igtl.body import (
    Code,
    PointItem,
    Status,
    pack_points,
    pack_position,
    pack_string,
    pack_transform,
)
from console.igtl.message import Body
from console.igtl.ras import ras_from_own, ras_point
from console.igtl.view import RunView
from planning.frame import RigidTransform

CURRENT_POSITION = "CURRENT_POSITION"
_TARGET_RGBA, _SEED_RGBA, _DELIVERED_RGBA = (230, 60, 60, 255), (120, 160, 255, 255), (60, 200, 90, 255)
_CODES = {"HELD": Code.NOT_READY, "PAUSED": Code.MANUAL_MODE, "STOPPED": Code.EMERGENCY, "": Code.SHUT_DOWN}
_STALE_S = 5.0
"""A loop that owns the ports and has not looked in for so long hangs (assumed)."""


class Told:
    """Messages about one run."""

    def __init__(self, view: RunView) -> None:
        self._view = view
        self._bodies: dict[tuple[str, str], Body] = {}
        self._seen = -1
        self._moving: list[Body] = []
        self._lasting: list[Body] = []

    def moving(self) -> list[Body]:
        """Sent every tick: where things are now, and how they do."""
        self._look()
        return self._moving

    def lasting(self) -> list[Body]:
        """Sent every other tick: what is planned."""
        self._look()
        return self._lasting

    def strings(self) -> list[Body]:
        """Sent when they change."""
        view = self._view
        ask = view.ask["text"] if view.ask is not None else ""
        proposal = view.proposal or {}
        waits = f"proposal {proposal['number']} waits to be confirmed" if proposal else ""
        return [
            self._body("STRING", "Message", pack_string(str(view.snapshot.get("message", "")))),
            self._body("STRING", "Question", pack_string("; ".join(text for text in (ask, waits) if text))),
        ]

    def find(self, kind: str, name: str) -> list[Body]:
        """For ``GET_kind``: the message of that name; without a name all of that kind."""
        self._look()
        there = [*self._moving, *self._lasting, *self.strings()]
        if kind == "POSITION":
            there = [self._position(n, pose) for n, pose in self._poses().items()]
        return [body for body in there if body.kind == kind and name in ("", body.name)]

    # --- one picture ------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._seen == self._view.changes:
            return
        self._seen = self._view.changes
        poses = self._poses()
        planned = {f"{needle.name}_planned" for needle in self._view.plan.needles}
        transforms = {name: self._transform(name, pose) for name, pose in poses.items()}
        self._moving = [body for name, body in transforms.items() if name not in planned]
        self._moving += [self._body("STATUS", name, status.pack()) for name, status in self._statuses()]
        self._lasting = [body for name, body in transforms.items() if name in planned]
        self._lasting += [
            self._body("POINT", name, pack_points(points)) for name, points in self._points().items()
        ]

    def _poses(self) -> dict[str, RigidTransform]:
        view = self._view
        poses = {f"{needle.name}_planned": view.planned_pose(needle.name) for needle in view.plan.needles}
        poses |= view.needle_poses()
        poses["RigToPatient"] = view.rig_pose
        carriage = view.carriage_pose()
        return poses if carriage is None else poses | {CURRENT_POSITION: carriage}

    def _points(self) -> dict[str, list[PointItem]]:
        plan, delivered = self._view.plan, set(self._view.seeds())
        targets = [
            PointItem(needle.name, "Target", _TARGET_RGBA, ras_point(needle.tip_mm))
            for needle in plan.needles
        ]
        entries = [
            PointItem(needle.name, "Entry", _TARGET_RGBA, ras_point(needle.entry_mm))
            for needle in plan.needles
        ]
        seeds = [
            PointItem(
                f"{needle.name}-{seed.number}",
                "Seed delivered" if seed.number in delivered else "Seed planned",
                _DELIVERED_RGBA if seed.number in delivered else _SEED_RGBA,
                ras_point(seed.centre_mm),
            )
            for needle in plan.needles
            for seed in needle.seeds
        ]
        return {"Targets": targets, "Entries": entries, "SeedsPlanned": seeds}

    def _statuses(self) -> list[tuple[str, Status]]:
        view, snapshot = self._view, self._view.snapshot
        state = view.state
        words = f"{state}: {snapshot.get('state_words', '')}. {snapshot.get('waiting_for', '')}".strip()
        if not state:
            procedure = Status(Code.SHUT_DOWN, "", "no procedure is running")
        elif view.beat_s > _STALE_S:
            procedure = Status(
                Code.TIME_OUT, state, f"the controller's loop has not looked in for {view.beat_s:.0f} s"
            )
        else:
            procedure = Status(_CODES.get(state, Code.OK), state, words)
        return [("Procedure", procedure), *((name, self._device(name)) for name in ("Rig", "Applicator"))]

    def _device(self, name: str) -> Status:
        device = self._view.devices.get(name.lower())
        if device is None:
            return Status(Code.NOT_READY, "", "not heard of yet")
        if device["link"] != "answers":
            return Status(Code.TIME_OUT, "no link", f"the {name.lower()} does not answer")
        latch = device.get("latch", "NONE")
        simulated = " (simulated)" if device.get("simulated") else ""
        if device.get("e_stop") == "pressed" or latch in ("ESTOP", "STOP"):
            return Status(Code.EMERGENCY, latch, f"{device['state']}{simulated}")
        if latch != "NONE" or str(device["state"]).startswith("Alarm"):
            return Status(Code.HARDWARE_FAILURE, latch, f"{device['state']}{simulated}")
        is_ready = device.get("position", "known") == "known"
        return Status(Code.OK if is_ready else Code.NOT_READY, "", f"{device['state']}{simulated}")

    # --- bodies -----------------------------------------------------------------------------------------

    def _transform(self, name: str, pose: RigidTransform) -> Body:
        return self._body("TRANSFORM", name, pack_transform(ras_from_own(pose)))

    def _position(self, name: str, pose: RigidTransform) -> Body:
        return self._body("POSITION", name, pack_position(ras_from_own(pose)))

    def _body(self, kind: str, name: str, content: bytes) -> Body:
        kept = self._bodies.get((kind, name))
        if kept is None or kept.content != content:
            kept = self._bodies[kind, name] = Body.of(kind, name[:20], content)
        return kept


class SharedTick:
    """The bytes of one tick, packed once for all clients."""

    def __init__(self, told: Told, wall_ns: Callable[[], int]) -> None:
        self._told, self._wall_ns = told, wall_ns
        self._number, self._bytes = -1, b""

    def bytes_of(self, number: int) -> bytes:
        """Of tick ``number``; every other one also tells what is planned."""
        if number != self._number:
            now_ns = self._wall_ns()
            bodies = [*self._told.moving(), *(self._told.lasting() if number % 2 == 0 else ())]
            self._number, self._bytes = number, b"".join(body.packed(now_ns) for body in bodies)
        return self._bytes
