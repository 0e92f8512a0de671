"""The running procedure as OpenIGTLink's clients see it: where each needle is, what the devices say, what is asked.

Fed with the door's news in order. The journal's records are played through a procedure of its own, so that this
process knows what the controller knows (pose of the rig, needles found in CTs) and computes nothing anew. Pure.
Frames: poses are transforms to the patient (LPS, mm) from a needle's own frame: origin at its tip, +z the direction
of insertion, x and y as the rig's as far as z lets them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from controller.commands import AskOperator, RequestScan
from controller.guidance import Landing
from controller.journal import Record
from controller.knowledge import Knowledge, NeedleStory, ProcedureSettings
from controller.procedure import Procedure
from controller.replay import event_of
from planning.frame import Floats, RigidTransform
from planning.plan import Plan
from planning.refusal import AskedWrongly

_SAME_PATH_MM = 0.05
"""A needle whose guide stands here is still on the path on which the CT has seen it (two decimals of the rig)."""


class RunView:
    """What is known of the run.

    Attributes:
        plan: the run's.
        is_connected: the door is open: a procedure is running.
        beat_s: how long ago the loop that owns the ports last looked in, as last told.
        snapshot, ask, devices, proposal, settled: as in DOOR.md; empty or None before they were told.
        have_stopped: both devices are known to stand since the last stop.
        problem: why the journal's records can't be followed, in words; "" while they can.
        changes: grows with everything that is told.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.is_connected = False
        self.beat_s = 0.0
        self.snapshot: dict[str, Any] = {}
        self.ask: dict[str, Any] | None = None
        self.devices: dict[str, Any] = {}
        self.proposal: dict[str, Any] | None = None
        self.settled: dict[str, Any] | None = None
        self.have_stopped = False
        self.problem = ""
        self.changes = 0
        self.last_record = 0
        self._procedure: Procedure | None = None
        self._seen: dict[str, Landing] = {}
        self._planned_pose = plan.planned_patient_from_rig()

    # --- the door's news --------------------------------------------------------------------------------

    def take(self, words: dict[str, Any]) -> None:
        """One line of news."""
        self.changes += 1
        if "beat" in words:
            self.beat_s = float(words["beat"])
        elif "record" in words:
            self._take_record(Record(**words["record"]))
        elif "snapshot" in words:
            self.snapshot, self.ask = words["snapshot"], words.get("ask")
            self.devices = words.get("devices", {})
            self.proposal, self.settled = words.get("proposal"), words.get("settled")
            self.have_stopped = bool(words.get("stopped"))

    def lost(self) -> None:
        """The door has closed: nothing of what is shown is newer than that."""
        self.is_connected, self.changes = False, self.changes + 1
        self.ask, self.devices, self.proposal = None, {}, None

    def _take_record(self, record: Record) -> None:
        self.last_record = record.number
        try:
            if record.kind == "opened" and "settings" in record.body:
                if record.body.get("plan") != self.plan.content_hash:
                    raise AskedWrongly("the journal is of another plan")
                self._procedure = Procedure(self.plan, ProcedureSettings(**record.body["settings"]))
            elif record.kind == "event" and self._procedure is not None and not self._procedure.is_ended:
                self._procedure.handle(event_of(record, "the journal"))
                if record.body["event"] == "ScanAnalysed":
                    self._see(self._procedure.known)
        except (AskedWrongly, TypeError) as problem:  # of another version: what is not known is not shown
            self._procedure, self.problem = None, str(problem)

    def _see(self, known: Knowledge) -> None:
        """Keep where the CT of now shows needles, and where they had been commanded to."""
        if not known.judged:
            return
        scan = known.judged[-1]
        for name, tip in scan.found_tips_mm.items():
            aim = known.needles[name].aim_rig_mm
            if aim is not None:
                self._seen[name] = Landing(aim.copy(), np.array(tip), np.array(scan.found_directions[name]))

    # --- where things are -------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Of the procedure; "" when none is running."""
        return str(self.snapshot.get("state", "")) if self.is_connected else ""

    @property
    def tolerance_mm(self) -> float:
        return ProcedureSettings().tolerance_mm if self._known is None else self._known.settings.tolerance_mm

    @property
    def _known(self) -> Knowledge | None:
        return None if self._procedure is None else self._procedure.known

    @property
    def rig_pose(self) -> RigidTransform:
        """Patient from rig: as the needles tell it, before that as planned."""
        return self._planned_pose if self._known is None else self._known.pose

    def planned_pose(self, name: str) -> RigidTransform:
        """Of a needle at its planned tip."""
        needle = self.plan.needle(name)
        return _pose(np.asarray(needle.tip_mm), needle.direction, self._planned_pose)

    def carriage_pose(self) -> RigidTransform | None:
        """Where a tip in the carriage stands now, if the rig knows where it is."""
        at = self._carriage_rig_mm()
        return None if at is None else RigidTransform(self.rig_pose.rotation, self.rig_pose.apply(at))

    def _carriage_rig_mm(self) -> Floats | None:
        rig = self.devices.get("rig", {})
        if rig.get("link") != "answers" or rig.get("position") != "known":
            return None
        return np.array([rig["x_mm"], rig["y_mm"], rig["z_mm"]])

    def needle_poses(self) -> dict[str, RigidTransform]:
        """Needles that are in the patient or in the grip, each as best known.

        Where the last CT shows it; moved in depth since then (in the grip: where the carriage is), as much further
        along its own axis; on another path, or before any CT, where it was commanded to. Coupled to the applicator: as
        far back as it was drawn.
        """
        known = self._known
        if known is None:
            return {}
        at = self._carriage_rig_mm()
        poses = {}
        for name, story in known.needles.items():
            aim = at if known.gripped == name and at is not None else story.aim_rig_mm
            is_there = known.gripped == name or story.state in ("at reference depth", "in place")
            if is_there and aim is not None:
                poses[name] = self._standing(story, aim, known.pose)
        return poses

    def _standing(self, story: NeedleStory, aim_rig_mm: Floats, rig_pose: RigidTransform) -> RigidTransform:
        seen = self._seen.get(story.plan.name)
        if seen is None or np.linalg.norm((seen.commanded_rig_mm - aim_rig_mm)[:2]) > _SAME_PATH_MM:
            tip, direction = rig_pose.apply(aim_rig_mm), rig_pose.turn([0.0, 0.0, 1.0])
        else:
            deeper_mm = float(aim_rig_mm[2] - seen.commanded_rig_mm[2])
            direction = seen.found_direction
            tip = seen.found_patient_mm + direction * deeper_mm
        return _pose(tip - direction * (story.last_z_um / 1000.0), direction, rig_pose)

    def seeds(self) -> tuple[int, ...]:
        """Numbers of the seeds that were delivered."""
        return () if self._known is None else tuple(self._known.seeds_delivered)

    def rests_after(self, number: int) -> bool:
        """All that followed command ``number`` by itself is done: a person is asked again, or a CT, or it is over."""
        procedure = self._procedure
        if procedure is None:
            return True
        pending = procedure.pending
        waits = isinstance(pending, AskOperator | RequestScan) and pending.number > number
        return procedure.is_over or procedure.state == "PAUSED" or waits


def _pose(tip_mm: Floats, direction: Floats, rig_pose: RigidTransform) -> RigidTransform:
    """Origin ``tip_mm``, z along ``direction``, x as near to the rig's x as that lets it."""
    x = rig_pose.turn([1.0, 0.0, 0.0])
    z = direction / np.linalg.norm(direction)
    x = x - z * float(x @ z)
    x = x / np.linalg.norm(x)
    return RigidTransform(np.column_stack([x, np.cross(z, x), z]), tip_mm)
