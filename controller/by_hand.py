"""A device that is absent: people do its part, asked step by step, each step confirmed and in the same journal.

``RigByHand`` and ``ApplicatorByHand`` stand where the drivers stand: one command in, its end out as an event of the
driver's language. What a person must do becomes a question that names needle and millimetres; what has no counterpart
by hand (homing an axis, closing a grip) is done at once. What such a device "says of itself" is what is known of it: a
person has no memory of her own that could be compared. So after an interruption the person is asked what became of a
seed, and an answer that is not certain leaves the seed in doubt. Knows no ports and no bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from controller import commands as c
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.procedure import Procedure
from drivers import applicator_language as a
from drivers import rig_language as r

BY_HAND = "by hand"
"""How such a device calls itself."""
Answer = OperatorConfirmed | OperatorDeclined
Ask = Callable[[c.AskOperator], Future[tuple[Answer, int]]]
"""Asks a person; the answer and how many ns of the procedure's clock it took."""


@dataclass
class _Asked:
    """A question that waits for its answer, and what follows from it."""

    answer: Future[tuple[Answer, int]]
    since_ns: int
    then: Callable[[Answer, int], None]


class _Asking:
    """What both have in common: one question at a time.

    Args:
        procedure: whose commands are carried out; what is known of the device is what it knows.
        ask: a person.
        simulated: the person's hands are those of a simulated bench.
    """

    def __init__(self, procedure: Procedure, ask: Ask, *, simulated: bool = False) -> None:
        self._procedure, self._ask_person, self._simulated = procedure, ask, simulated
        self._asked: _Asked | None = None
        self._linked = False

    @property
    def is_busy(self) -> bool:
        """A person is asked."""
        return self._asked is not None

    def next_wake(self) -> int | None:
        """When an answer that is there counts: a person took her time."""
        asked = self._asked
        if asked is None or not asked.answer.done():
            return None
        return asked.since_ns + asked.answer.result()[1]

    def wake(self, now_ns: int) -> None:
        asked, when_ns = self._asked, self.next_wake()
        if asked is not None and when_ns is not None and when_ns <= now_ns:
            self._asked = None
            asked.then(asked.answer.result()[0], now_ns)

    def _ask(self, question: c.AskOperator, now_ns: int, then: Callable[[Answer, int], None]) -> None:
        self._asked = _Asked(self._ask_person(question), now_ns, then)

    def _about(self) -> c.Command | None:
        """The procedure's command that is carried out, or asked about after an interruption."""
        return self._procedure.interrupted

    def _question(
        self,
        task: str,
        text: str,
        *,
        place_mm: tuple[float, float, float] | None = None,
        z_mm: float | None = None,
    ) -> c.AskOperator:
        about = self._about()
        number, needle = (0, None) if about is None else (about.number, getattr(about, "needle", None))
        stroke = about.stroke if isinstance(about, c.DropSeed) else None
        return c.AskOperator(number, task, text, needle=needle, count=stroke, place_mm=place_mm, z_mm=z_mm)


def _no(answer: OperatorDeclined) -> str:
    return f"declined by {answer.who}: {answer.reason}"


class RigByHand(_Asking):
    """People guide the needles through the template. Commands and events are ``rig_language``'s."""

    def __init__(self, procedure: Procedure, ask: Ask, *, simulated: bool = False) -> None:
        super().__init__(procedure, ask, simulated=simulated)
        self._events: list[r.RigEvent] = []
        self._command: r.RigCommand | None = None

    @property
    def state(self) -> r.RigState:
        """As known: where the guide was set last, and how deep the needle in the hand is."""
        known = self._procedure.known
        x_mm, y_mm = known.across_mm
        z_mm = known.settings.home_z_mm if known.carriage_z_mm is None else known.carriage_z_mm
        return r.RigState(
            linked=self._linked,
            status="Idle" if self._linked else "",
            position_known=self._linked and known.rig_homed,
            x_mm=x_mm,
            y_mm=y_mm,
            z_mm=z_mm,
            at_home=known.carriage_is_home,
            grip_closed=known.gripped is not None,
            identity=BY_HAND,
            simulated=self._simulated,
        )

    def events(self) -> list[r.RigEvent]:
        drained, self._events = self._events, []
        return drained

    def start(self, command: r.RigCommand, now_ns: int) -> None:
        """Begin one command; its end comes as an event. ValueError while another is under way."""
        if self.is_busy:
            raise ValueError(f"{self._command} is still being carried out")
        question = self._for(command)
        if isinstance(command, r.ConnectRig):
            self._linked = True
            self._events.append(r.RigConnected(BY_HAND, self._simulated, ""))
        elif question is None:
            self._events.append(self._done(command, None))
        else:
            self._command = command
            self._ask(question, now_ns, self._take)

    def stop(self, _now_ns: int) -> None:
        """Nobody is asked any more; a hand stops by what the screen says."""
        if self._asked is not None and self._command is not None:
            self._asked = None
            self._events.append(r.RigFailed(self._command, "stopped while a person was asked", True))

    def _take(self, answer: Answer, _now_ns: int) -> None:
        assert self._command is not None
        if isinstance(answer, OperatorDeclined):
            self._events.append(r.RigFailed(self._command, _no(answer), True))
        else:
            self._events.append(self._done(self._command, answer.who))

    def _done(self, command: r.RigCommand, who: str | None) -> r.RigDone:
        state = self.state
        x_mm, y_mm, z_mm = state.x_mm, state.y_mm, state.z_mm
        match command:
            case r.MoveAcross():
                x_mm, y_mm = command.x_mm, command.y_mm
            case r.MoveDepth():
                z_mm = command.z_mm
            case r.MoveDepthHome() | r.HomeRig():
                z_mm = self._procedure.known.settings.home_z_mm
        return r.RigDone(command, x_mm, y_mm, z_mm, who=who or "")

    def _for(self, command: r.RigCommand) -> c.AskOperator | None:
        """What a person is asked to do; None: nothing."""
        about, known = self._about(), self._procedure.known
        story = known.needles.get(getattr(about, "needle", ""))
        if story is None:
            return None
        name, aim = story.plan.name, story.aim_rig_mm
        match command:
            case r.MoveAcross(x_mm, y_mm):
                if aim is not None and abs(aim[0] - x_mm) + abs(aim[1] - y_mm) < 0.01:
                    return None  # it stands there
                z_mm = known.settings.home_z_mm if aim is None else float(aim[2])
                text = (
                    f"Guide for needle {name} (hole {story.plan.hole}): to x {x_mm:+.1f} mm, y {y_mm:+.1f} mm of the "
                    "template. Confirm when it stands there."
                )
                return self._question("set_guide", text, place_mm=(x_mm, y_mm, z_mm))
            case r.MoveDepth(z_mm, in_tissue=True):
                x_mm, y_mm = known.across_mm if aim is None else (float(aim[0]), float(aim[1]))
                text = (
                    f"Needle {name} (hole {story.plan.hole}) by hand: tip to {z_mm:.1f} mm behind the template's plane"
                    f"{_change(aim is not None and story.attempt > 0, z_mm - (0.0 if aim is None else float(aim[2])))}."
                    " Confirm when it stands there."
                )
                return self._question("move_needle", text, place_mm=(x_mm, y_mm, z_mm))
        return None


def _change(is_standing: bool, by_mm: float) -> str:
    if not is_standing:
        return ""
    return f", {abs(by_mm):.1f} mm {'further in' if by_mm > 0 else 'back'}"


class ApplicatorByHand(_Asking):
    """People draw the needle back and push the stylet. Commands and events are ``applicator_language``'s.

    Nothing measures: a seed that a person says was pushed has ``PASS`` with no force, no sensor pulse and no stroke.
    """

    def __init__(self, procedure: Procedure, ask: Ask, *, simulated: bool = False) -> None:
        super().__init__(procedure, ask, simulated=simulated)
        self._events: list[a.ApplicatorEvent] = []
        self._command: a.ApplicatorCommand | None = None
        self._is_stopped = False
        self._told: a.SeedOutcome | None = None

    @property
    def _seeds_ahead(self) -> int:
        """1 when a person has told of a seed that the journal does not know yet."""
        told = self._told
        is_new = told is not None and told.number > self._procedure.known.strokes
        return int(is_new and told is not None and told.outcome == "PASS")

    @property
    def state(self) -> a.ApplicatorState:
        known = self._procedure.known
        doubt, ahead = known.doubt, self._seeds_ahead
        latch = doubt.latch if doubt is not None else "STOP" if self._is_stopped else "NONE"
        coupled = None if known.coupled is None else known.needles[known.coupled]
        return a.ApplicatorState(
            linked=self._linked,
            st=("IDLE" if latch == "NONE" else "LATCHED") if self._linked else "",
            z_um=0 if coupled is None else coupled.last_z_um,
            counter=known.strokes + ahead,
            left=(known.cartridge_left or 0) - ahead,
            seated=known.seated is not None,
            retraction_homed=known.retraction_homed,
            stylet_homed=known.stylet_homed,
            latch=latch,
            latch_seed=0 if doubt is None else doubt.stroke,
            identity=BY_HAND,
            simulated=self._simulated,
        )

    @property
    def ledger(self) -> a.Ledger | None:
        """The count as known; None before it is opened and after it is closed."""
        known = self._procedure.known
        if not known.ledger_begun or known.ledger_ended:
            return None
        implanted, in_doubt = (
            known.implanted + self._seeds_ahead,
            0 if known.doubt is None else known.doubt.seeds,
        )
        left = self.state.left
        loaded = implanted + left + known.wasted + in_doubt
        strokes = known.strokes + self._seeds_ahead
        return a.Ledger(
            known.plan_hash[:8].upper(),
            loaded,
            implanted,
            left,
            known.wasted,
            in_doubt,
            strokes,
            0,
            known.cartridge,
        )

    def events(self) -> list[a.ApplicatorEvent]:
        drained, self._events = self._events, []
        return drained

    def start(self, command: a.ApplicatorCommand, now_ns: int) -> None:
        """Begin one command; its end comes as an event. ValueError while another is under way."""
        if self.is_busy:
            raise ValueError(f"{self._command} is still being carried out")
        self._command = command
        match command:
            case a.Connect():
                self._linked = True
                self._events.append(a.ApplicatorConnected(BY_HAND, self._simulated, "0000", "", self.state))
                return
            case a.ReadLedger():
                self._events.append(a.ApplicatorDone(command, self.state, ledger=self.ledger))
                return
            case a.ClearLatch():
                self._is_stopped = False
            case a.HomeRetraction():
                text = "Applicator off every needle, its slide fully forward: scale at 0 mm. Confirm."
                self._ask(self._question("slide_forward", text), now_ns, self._take)
                return
            case a.MoveNeedleTo(z_um=z_um) if z_um != self.state.z_um:
                self._ask(self._back_to(z_um), now_ns, self._take)
                return
            case a.DropSeed():
                self._ask(self._push(), now_ns, self._take_seed)
                return
            case a.AskSeed():
                self._ask(self._was_pushed(), now_ns, self._take_whether_pushed)
                return
        self._events.append(a.ApplicatorDone(command, self.state))

    def stop(self, _now_ns: int) -> None:
        """Nobody is asked any more. Whether a seed was pushed that was being asked for, nobody knows."""
        self._is_stopped = True
        if self._asked is None or self._command is None:
            return
        self._asked = None
        if isinstance(self._command, a.DropSeed):
            why = "stopped while a person was asked to push it"
            self._events.append(a.SeedInDoubt(self._command.number, why))
        else:
            self._events.append(a.ApplicatorFailed(self._command, "stopped while a person was asked"))

    # --- questions ----------------------------------------------------------------------------------------

    def _back_to(self, z_um: int) -> c.AskOperator:
        z_mm, more_mm = z_um / 1000, (z_um - self.state.z_um) / 1000
        text = f"Draw the needle back by hand to {z_mm:.1f} mm on the scale ({more_mm:.1f} mm more). Confirm."
        return self._question("draw_back", text, z_mm=z_mm)

    def _push(self) -> c.AskOperator:
        text = (
            f"{self._seed()}, at {self.state.z_um / 1000:.1f} mm: push the stylet to its stop once, and draw it home. "
            "Confirm when one seed has left; no if it was blocked or you aren't sure."
        )
        return self._question("push_seed", text)

    def _was_pushed(self) -> c.AskOperator:
        text = (
            f"{self._seed()}, was asked for when it was interrupted. Was it pushed out? Confirm if it surely was; "
            "else no."
        )
        return self._question("tell_pushed", text)

    def _is_kept(self) -> c.AskOperator:
        text = (
            f"{self._seed()}, was not pushed: the stylet is home and the cartridge, counted, holds {self.state.left} "
            "seeds. Confirm if that is sure; else no, and the seed is in doubt."
        )
        return self._question("tell_kept", text)

    def _seed(self) -> str:
        about = self._about()
        return f"Seed {about.seed}, needle {about.needle}" if isinstance(about, c.DropSeed) else "The seed"

    # --- answers ------------------------------------------------------------------------------------------

    def _take(self, answer: Answer, _now_ns: int) -> None:
        assert self._command is not None
        if isinstance(answer, OperatorDeclined):
            self._events.append(a.ApplicatorFailed(self._command, _no(answer)))
        else:
            self._events.append(a.ApplicatorDone(self._command, self._after(self._command), who=answer.who))

    def _after(self, command: a.ApplicatorCommand) -> a.ApplicatorState:
        return replace(self.state, z_um=command.z_um) if isinstance(command, a.MoveNeedleTo) else self.state

    def _outcome(self, outcome: a.Outcome, who: str, *, told_later: bool = False) -> a.SeedOutcome:
        assert isinstance(self._command, a.DropSeed | a.AskSeed)
        return a.SeedOutcome(self._command.number, outcome, told_later, self.state.z_um, 0, 0, 0, who)

    def _take_seed(self, answer: Answer, _now_ns: int) -> None:
        is_sure = isinstance(answer, OperatorConfirmed)
        self._events.append(self._outcome("PASS" if is_sure else "UNKNOWN", answer.who))

    def _take_whether_pushed(self, answer: Answer, now_ns: int) -> None:
        if isinstance(answer, OperatorConfirmed):
            self._told = self._outcome("PASS", answer.who, told_later=True)
            self._events.append(self._told)
        else:
            self._ask(self._is_kept(), now_ns, self._take_whether_kept)

    def _take_whether_kept(self, answer: Answer, _now_ns: int) -> None:
        assert isinstance(self._command, a.AskSeed)
        if isinstance(answer, OperatorConfirmed):
            self._events.append(a.SeedNotFired(self._command.number))
        else:
            self._events.append(self._outcome("UNKNOWN", answer.who, told_later=True))
