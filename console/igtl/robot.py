"""The published robot protocol, from the robot's side: work phases, targets, and a motion asked for from outside.

Source: NA-MIC, "Robot OpenIGTLink Communication" (March 2014) and "ProstateBRP OpenIGTLink Communication" (June 2013);
what is sent when is also in ProstateBRP/CommunicationTest. IGTL.md says where this robot differs and why: it is led
by a procedure and its people. A client's phase moves nothing; a calibration is compared, never taken over; a motion
is a proposal that a person must confirm; STOP and EMERGENCY are obeyed at once. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from console.igtl.body import Code, Status, pack_string, pack_transform, unpack_string, unpack_transform
from console.igtl.message import Body, MalformedError, Message
from console.igtl.ras import patient_from_own, ras_from_own
from console.igtl.told import CURRENT_POSITION
from console.igtl.view import RunView
from planning.frame import RigidTransform, angle_between_deg

PHASES = (
    "START_UP",
    "PLANNING",
    "CALIBRATION",
    "TARGETING",
    "MOVE_TO_TARGET",
    "MANUAL",
    "STOP",
    "EMERGENCY",
)
MOST_TILT_DEG = 5.0
"""A target's axis must be the planned needle's within this: a template's hole can't be tilted (assumed)."""
STOPPED_WITHIN_NS = 5_000_000_000
"""So long after a stop without both devices standing, and it counts as not obeyed (assumed, as `seedguide stop`)."""


@dataclass
class Wish:
    """Something of ``client`` for the door. ``answered`` gets its reply, or None when there is no door."""

    client: str
    words: dict[str, Any]
    answered: Callable[[dict[str, Any] | None], None]


@dataclass(frozen=True)
class Target:
    """A pose that was accepted: a planned needle and where its tip is wished, patient frame."""

    needle: str
    place_mm: tuple[float, float, float]


class Robot:
    """One client's side of the protocol.

    Attributes:
        phase: the work phase this client is in; "" before its first command: it may be no navigation at all.
        said: messages for the client, in order; taken and emptied by who sends them.
        wishes: for the door, in order; likewise. A stop is always first.
        awaits_reply: proposals that the door has not answered; a client that goes must still take them back.
    """

    def __init__(self, view: RunView, client: str) -> None:
        self._view, self._client = view, client
        self.phase = ""
        self.said: list[Body] = []
        self.wishes: list[Wish] = []
        self._is_calibrated = False
        self._target: Target | None = None
        self._proposal: int | None = None
        self._command: int | None = None
        self._wished: tuple[int, str] = (0, "")
        self.awaits_reply = 0
        self._stop_by_ns: int | None = None
        self._stop_is_taken = False

    @property
    def is_moving(self) -> bool:
        """A motion it asked for is waited for or under way: where the carriage is is told all the time."""
        return self.phase == "MOVE_TO_TARGET" and (self._proposal is not None or self._command is not None)

    @property
    def next_wake_ns(self) -> int | None:
        """When a stop that nobody has confirmed counts as not obeyed."""
        return self._stop_by_ns

    # --- what the client says ---------------------------------------------------------------------------

    def hear(self, message: Message, now_ns: int) -> bool:
        """Take a message of this protocol; False: it is none.

        Raises:
            MalformedError: its content is not what its type says.
        """
        head, _, query = message.name.partition("_")
        if message.kind == "STRING" and head == "CMD":
            self._enter(unpack_string(message.content).strip("\0 "), query, now_ns)
        elif message.kind == "TRANSFORM" and head in ("CLB", "TGT"):
            matrix = unpack_transform(message.content)
            self._say("TRANSFORM", f"ACK_{query}", message.content)
            (self._calibrate if head == "CLB" else self._aim)(matrix)
        elif (message.kind, message.name) == ("GET_STATUS", "CURRENT_STATUS") and self.phase:
            self._tell("CURRENT_STATUS", Code.OK, error=self.phase)
        else:
            return False
        return True

    def _enter(self, phase: str, query: str, now_ns: int) -> None:
        if phase in ("STOP", "EMERGENCY"):  # before anything is said
            self.wishes.insert(
                0, Wish(self._client, {"do": "stop"}, lambda reply: self._stop_taken(phase, reply))
            )
            self._stop_by_ns, self._stop_is_taken = now_ns + STOPPED_WITHIN_NS, False
        self._say("STRING", f"ACK_{query}", pack_string(phase))
        if phase not in PHASES:
            self._tell("CURRENT_STATUS", Code.ILLEGAL_INSTRUCTION, "no such work phase", error=self.phase)
            return
        self._withdraw()
        why = self._why_not(phase)
        if why:
            self._tell("CURRENT_STATUS", Code.NOT_READY, why, error=self.phase)
        else:
            self.phase = phase
            if phase not in ("STOP", "EMERGENCY"):
                self._tell("CURRENT_STATUS", Code.OK, error=phase)
        if why and phase in ("START_UP", "TARGETING", "MOVE_TO_TARGET"):
            self._tell(phase, Code.NOT_READY, why)
        elif phase in ("START_UP", "TARGETING", "MANUAL"):
            self._tell(phase, Code.OK)
        elif phase == "MOVE_TO_TARGET" and self._target is not None:
            self._propose(self._target, query)

    def _why_not(self, phase: str) -> str:
        """Why this phase can't be entered, in words; "" when it can."""
        view = self._view
        if phase in ("START_UP", "TARGETING", "MOVE_TO_TARGET") and not view.state:
            return "no procedure is running"
        if phase == "START_UP":
            absent = [
                name for name in ("rig", "applicator") if view.devices.get(name, {}).get("link") != "answers"
            ]
            return f"no answer from {' and '.join(absent)}" if absent else ""
        if phase in ("TARGETING", "MOVE_TO_TARGET") and not self._is_calibrated:
            return "not calibrated: send CLB_ with the registration that RigToPatient tells"
        if phase == "MOVE_TO_TARGET":
            if self.phase not in ("TARGETING", "MOVE_TO_TARGET"):
                return f"not from {self.phase or 'here'}: enter TARGETING first"
            return "" if self._target is not None else "no target was accepted"
        return ""

    # --- calibration and target -------------------------------------------------------------------------

    def _calibrate(self, ras: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """The client's registration must be ours, where the needles go; ours comes from CTs, never from outside."""
        if self.phase != "CALIBRATION":
            self._tell("CALIBRATION", Code.NOT_READY, "enter CALIBRATION first")
            return
        view = self._view
        try:
            theirs = patient_from_own(ras)
        except ValueError as problem:
            self._tell("CALIBRATION", Code.CONFIGURATION_ERROR, f"the matrix is no registration: {problem}")
            return
        tips_rig_mm = view.rig_pose.inverse().apply([needle.tip_mm for needle in view.plan.needles])
        off_mm = float(
            np.linalg.norm(theirs.apply(tips_rig_mm) - view.rig_pose.apply(tips_rig_mm), axis=1).max()
        )
        self._is_calibrated = off_mm <= view.tolerance_mm
        if self._is_calibrated:
            self._tell("CALIBRATION", Code.OK, f"agrees within {off_mm:.2f} mm at the planned tips")
        else:
            self._tell(
                "CALIBRATION",
                Code.CONFIGURATION_ERROR,
                f"{off_mm:.1f} mm away at a planned tip, more than {view.tolerance_mm:g} mm; RigToPatient tells the "
                "registration of this procedure",
            )

    def _aim(self, ras: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """A target is a planned needle's tip within the tolerance, along that needle."""
        self._target = None
        if self.phase != "TARGETING":
            self._tell("TARGET", Code.NOT_READY, "enter TARGETING first")
            return
        found = self._needle_at(ras)
        if isinstance(found, str):
            self._tell("TARGET", Code.CONFIGURATION_ERROR, found)
            return
        self._target = found
        self._tell("TARGET", Code.OK, f"needle {found.needle}")
        planned = self._view.planned_pose(found.needle)
        reached = RigidTransform(planned.rotation, np.array(found.place_mm))
        self._say("TRANSFORM", "TARGET", pack_transform(ras_from_own(reached)))

    def _needle_at(self, ras: np.ndarray[Any, np.dtype[np.float64]]) -> Target | str:
        view = self._view
        try:
            pose = patient_from_own(ras)
        except ValueError as problem:
            return f"the matrix is no pose: {problem}"
        tips = np.array([needle.tip_mm for needle in view.plan.needles])
        off = np.linalg.norm(tips - pose.translation_mm, axis=1)
        nearest = view.plan.needles[int(off.argmin())]
        if off.min() > view.tolerance_mm:
            near = f"{off.min():.1f} mm from the nearest planned tip ({nearest.name})"
            return f"{near}, more than {view.tolerance_mm:g} mm"
        tilt_deg = angle_between_deg(pose.turn([0.0, 0.0, 1.0]), nearest.direction)
        if tilt_deg > MOST_TILT_DEG:
            return f"its z axis is {tilt_deg:.0f} deg from needle {nearest.name}, more than {MOST_TILT_DEG:g} deg"
        x, y, z = (round(float(v), 3) for v in pose.translation_mm)
        return Target(nearest.name, (x, y, z))

    # --- a motion ---------------------------------------------------------------------------------------

    def _propose(self, target: Target, query: str) -> None:
        ask = self._view.ask
        if ask is None:
            self._tell("MOVE_TO_TARGET", Code.NOT_READY, "nothing is asked at the console now")
            return
        number = int(ask["number"])
        words = {
            "do": "propose",
            "kind": "answer",
            "number": number,
            "needle": target.needle,
            "place_mm": list(target.place_mm),
            "because": f"MOVE_TO_TARGET {query} from {self._client}",
        }
        wished = self._wished = (number, query)
        self.awaits_reply += 1
        self.wishes.append(Wish(self._client, words, lambda reply: self._proposed(wished, reply)))

    def _proposed(self, wished: tuple[int, str], reply: dict[str, Any] | None) -> None:
        self.awaits_reply -= 1
        is_accepted = reply is not None and bool(reply["accepted"])
        if (
            self._wished != wished or self.phase != "MOVE_TO_TARGET"
        ):  # it has gone on to another phase meanwhile
            if is_accepted and reply is not None:
                self._take_back(int(reply["number"]))
        elif is_accepted and reply is not None:
            self._proposal = int(reply["number"])
        else:
            why = "there is no procedure to ask" if reply is None else str(reply["why"])
            self._tell("MOVE_TO_TARGET", Code.NOT_READY, why)

    def _withdraw(self) -> None:
        """Nothing is wished any more. What a person has confirmed goes on: only STOP stops it."""
        if self._proposal is not None:
            self._take_back(self._proposal)
        self._proposal = self._command = None
        self._wished = (0, "")

    def _take_back(self, number: int) -> None:
        self.wishes.append(
            Wish(self._client, {"do": "withdraw_proposal", "number": number}, lambda _reply: None)
        )

    def leave(self) -> None:
        """The client has gone."""
        self._withdraw()

    # --- what has become of it --------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """After news, and when ``next_wake_ns`` has come."""
        self._look_at_proposal()
        if self._command is not None:
            self._look_at_motion(self._command)
        if self._stop_by_ns is not None and self.phase in ("STOP", "EMERGENCY"):
            self._look_at_stop(self.phase, now_ns)

    def _look_at_proposal(self) -> None:
        settled = self._view.settled
        if self._proposal is None or settled is None or settled["number"] != self._proposal:
            return
        self._proposal = None
        if settled["settled"] == "confirmed":
            self._command = self._wished[0]
            return
        by = f" by {settled['by']}" if settled.get("by") else ""
        because = f": {settled['because']}" if settled.get("because") else ""
        self._tell("MOVE_TO_TARGET", Code.ACCESS_DENIED, f"{settled['settled']}{by}{because}")

    def _look_at_motion(self, command: int) -> None:
        view = self._view
        if not view.rests_after(command):
            return
        self._command = None
        if view.state in ("HELD", "STOPPED", "ABORTING", "ABORTED", "PAUSED", ""):
            self._tell("MOVE_TO_TARGET", Code.HARDWARE_FAILURE, str(view.snapshot.get("message", "")))
        else:
            self._tell("MOVE_TO_TARGET", Code.OK)
        carriage = view.carriage_pose()
        if carriage is not None:
            self._say("TRANSFORM", CURRENT_POSITION, pack_transform(ras_from_own(carriage)))

    def _stop_taken(self, phase: str, reply: dict[str, Any] | None) -> None:
        if reply is not None and reply["accepted"]:
            self._stop_is_taken = True
            self._tell("CURRENT_STATUS", Code.OK, error=phase)
            return
        self._stop_by_ns = None
        why = "no procedure is running: use the emergency stop" if reply is None else str(reply["why"])
        self._tell("CURRENT_STATUS", Code.NOT_READY, why, error=phase)
        self._tell(phase, Code.NOT_READY, why)

    def _look_at_stop(self, phase: str, now_ns: int) -> None:
        assert self._stop_by_ns is not None
        if self._view.have_stopped and self._stop_is_taken:
            self._tell(phase, Code.OK, "both devices stand")
        elif now_ns >= self._stop_by_ns:
            self._tell(phase, Code.TIME_OUT, "nothing shows that the stop was obeyed: use the emergency stop")
        else:
            return
        self._stop_by_ns = None

    # --- saying -----------------------------------------------------------------------------------------

    def _tell(self, name: str, code: Code, text: str = "", *, error: str = "") -> None:
        self._say("STATUS", name, Status(code, error, text).pack())

    def _say(self, kind: str, name: str, content: bytes) -> None:
        try:
            self.said.append(Body.of(kind, name, content))
        except ValueError as problem:
            raise MalformedError(f"a query identity that can't be answered: {problem}") from None
