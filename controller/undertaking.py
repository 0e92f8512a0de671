"""One procedure through ports: begun, held, taken up again, until it is over.

Knows: the order of opening ports, journal and session, and that whatever goes on goes on by the same way: replay of the
journal, a look at the devices, comparison, a person's word. Does not know: screens, how a person is asked, the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from controller.by_hand import BY_HAND, ApplicatorByHand, Ask, RigByHand
from controller.commands import AskOperator
from controller.devices_file import ENCODER, Devices
from controller.door import Door
from controller.door_people import stop_or_note
from controller.events import DeviceFaulted, Event, OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.journal import Journal, read_journal
from controller.knowledge import ProcedureSettings
from controller.order import JOURNAL_FILE
from controller.ports import Aside, PortTransport, open_ports
from controller.procedure import Procedure
from controller.recovery import DeviceReport, compare, confirm, look, serve_links
from controller.replay import replay
from controller.session import Applicator, Evaluator, Operator, Rig, Scanner, Session, why_real_is_refused
from controller.snapshot import Snapshot
from controller.urgency import precedence
from drivers.record import Recorder, applicator_driver, rig_driver
from planning.plan import Plan
from planning.refusal import AskedWrongly

REPLUG_S = 60.0
"""So long a port that went is waited for when the procedure is to go on (assumed)."""
_LINK_WORDS = (
    "the port is gone",
    "no answer",
    "doesn't answer",
    "does not answer",
    "was reset",
    "board restarted",
    "link is out of step",
    "the rig doesn't say",
    "stop byte was sent again",
    "WATCH",
)


def is_link_fault(reason: str) -> bool:
    """Held only because bytes or power were missing for a while, as far as the reason tells."""
    return any(words in reason for words in _LINK_WORDS)


class NotResumed(AskedWrongly):
    """Journal and devices don't allow it, or the person doesn't; the message says what is known and what to check."""


@dataclass(frozen=True)
class Held:
    """A held procedure, for who decides what becomes of it. The ports are closed.

    Attributes:
        why_not: why the last try did not go on; empty before the first.
        snapshot: as it stands now; ``message`` tells why it is held, ``may_decide`` what may be decided.
        decide: journals a decision (any but ``abort``) and takes it in; what it did, in words.
        stopped_by: who pressed stop meanwhile, or None.
    """

    why_not: str
    snapshot: Callable[[], Snapshot]
    decide: Callable[[OperatorDecided], str]
    stopped_by: Callable[[], str | None]


@dataclass(frozen=True)
class Surroundings:
    """What a procedure needs of the world around it.

    Attributes:
        urls: of the ports, by the device's name; the depth encoder's only where one is fitted.
        goes_on: asked when it is held: try again (True), leave it held (False), or a decision to abort.
        evaluator: of the dose with the needles as they stand; None: the plan is kept.
        decided: what a person decides beside confirming while it runs, or None; asked all the time.
        cancel_work: ends the analysis or computation under way: nobody waits for it any more.
        told: gets lines for a person.
        new_session_id: four hex digits, different each time.
        stop_pressed: who pressed stop, or None; asked all the time.
        recorder: takes the wires' bytes.
        door: for consoles; None: nobody is let in.
    """

    urls: Mapping[str, str]
    operator: Operator
    scanner: Scanner
    goes_on: Callable[[Held], bool | OperatorDecided]
    new_session_id: Callable[[], str]
    listener: Callable[[Snapshot], None] = lambda _snapshot: None
    told: Callable[[str], None] = lambda _line: None
    stop_pressed: Callable[[], str | None] = lambda: None
    decided: Callable[[], OperatorDecided | None] = lambda: None
    evaluator: Evaluator | None = None
    cancel_work: Callable[[], None] = lambda: None
    recorder: Recorder | None = None
    door: Door | None = None


class Undertaking:
    """One procedure, in ``folder``.

    Args:
        told_first: what the journal's first record holds besides plan and settings.
        open_journal, continue_journal: for tests that stop the controller at a record.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        settings: ProcedureSettings,
        devices: Devices,
        around: Surroundings,
        *,
        told_first: Mapping[str, Any] | None = None,
        open_journal: Callable[[Path], Journal] = Journal,
        continue_journal: Callable[[Path], Journal] = Journal.continued,
    ) -> None:
        self._path = folder / JOURNAL_FILE
        self._plan, self._settings, self._devices, self._around = plan, settings, devices, around
        self._told_first = dict(told_first or {})
        self._open_journal, self._continue_journal = open_journal, continue_journal
        self._aside = Aside()

    def begin(self) -> Session:
        """From the first step on, until it is over and nobody wants to go on.

        Raises:
            AskedWrongly: a port can't be opened, or the journal not be made or written.
        """
        procedure = Procedure(self._plan, self._settings)
        with self._connected(procedure, within_s=0.0) as (rig, applicator, transport, keep):
            journal = self._open_journal(self._path)
            keep.callback(journal.close)
            self._tell_door(journal)
            opened = {"plan": self._plan.content_hash, "settings": asdict(self._settings)}
            journal.append(0, "opened", {**opened, **self._told_first})
            session = self._session(procedure, journal, rig, applicator, transport)
            session.run()
        return self._onward(session)

    def take_up(self, put_aside: Mapping[str, str] | None = None) -> Session:
        """From where it was interrupted or held.

        Args:
            put_aside: ``rig``, ``applicator`` -> who says that people do its part from here on.

        Raises:
            NotResumed: it may not go on; what is known and what to check.
            AskedWrongly: it is over, there is no journal of this plan, or somebody else writes it.
        """
        for device, who in (put_aside or {}).items():
            self._put_aside(device, who)
        return self._onward(self._again())

    def _put_aside(self, device: str, who: str) -> None:
        """People do its part from here on; nothing else is changed. What is not held yet (a kill) is held by it."""
        replayed = replay(self._path, self._plan)
        known = replayed.procedure.known
        if (
            known.rig_by_hand if device == "rig" else known.applicator_by_hand
        ) or replayed.procedure.is_ended:
            return
        reason = "put aside when it was resumed"
        events: list[Event] = [OperatorDecided(f"{device}_by_hand", who, reason)]
        if not replayed.procedure.is_held:
            events.insert(0, DeviceFaulted(device, reason))
        journal = self._continue_journal(self._path)
        try:
            for event in events:
                before = replayed.procedure.state
                journal.append(replayed.last_ns, "event", event.to_json())
                replayed.procedure.handle(event)
                if replayed.procedure.state != before:
                    change = {"from": before, "to": replayed.procedure.state, "because": reason}
                    journal.append(replayed.last_ns, "decision", change)
        finally:
            journal.close()
        wished = replayed.procedure.known
        if not (wished.rig_by_hand if device == "rig" else wished.applicator_by_hand):
            raise AskedWrongly(f"{self._path.parent}: the {device} can't be put aside now: {wished.message}.")

    def _onward(self, session: Session) -> Session:
        while session.procedure.is_held:
            self._held, why_not = session.snapshot(), ""
            while (goes_on := self._around.goes_on(self._rest(why_not))) is not False:
                try:
                    session = self._again(None if goes_on is True else goes_on)
                    break
                except AskedWrongly as problem:
                    why_not = str(problem)
            else:
                return session
        return session

    def _rest(self, why_not: str) -> Held:
        return Held(why_not, lambda: self._held, self._decide, self._stopped_by)

    def _again(self, abortion: OperatorDecided | None = None) -> Session:
        """Taken up: by a person's word after journal and devices agree, or by giving the implantation up."""
        replayed = replay(self._path, self._plan)
        procedure = replayed.procedure
        if procedure.is_ended:
            raise AskedWrongly(
                f"{self._path.parent}: the procedure is {procedure.state.lower()}; nothing is there to go on with."
            )
        began_with = identities(self._path)
        with self._connected(procedure, within_s=REPLUG_S) as (rig, applicator, transport, keep):
            journal = self._continue_journal(self._path)
            keep.callback(journal.close)
            self._tell_door(journal)
            session = self._session(procedure, journal, rig, applicator, transport)
            begin_with: tuple[Event, ...] = ()
            if abortion is not None:
                report = replace(self._look(rig, applicator, transport, procedure), problems=())
                strangers = self._without_strangers(report, began_with).problems
                if strangers:
                    raise NotResumed(" ".join(strangers))
                begin_with = (abortion,)
            elif procedure.state != "READY":
                report = self._without_strangers(
                    self._look(rig, applicator, transport, procedure), began_with
                )
                asked = _Served(self._around, self._stopped_by, rig, applicator, transport, self._aside)
                resumption = confirm(compare(replayed, report), asked, journal, transport.now_ns())
                begin_with = resumption.begin_with
                if not begin_with:
                    raise NotResumed(resumption.verdict.text)
            session.run(begin_with)
        return session

    def _session(
        self,
        procedure: Procedure,
        journal: Journal,
        rig: Rig,
        applicator: Applicator,
        transport: PortTransport,
    ) -> Session:
        around, door = self._around, self._around.door

        def stop_pressed() -> str | None:
            who = around.stop_pressed()
            return who if who is not None or door is None else stop_or_note(door, journal, transport.now_ns)

        return Session(
            procedure,
            journal,
            rig=rig,
            applicator=applicator,
            transport=transport,
            operator=around.operator,
            scanner=around.scanner,
            listener=self._show,
            aside=self._aside,
            stop_pressed=stop_pressed,
            evaluator=around.evaluator,
            decided=self._decided,
            devices_seen=None if door is None else door.devices_seen,
            cancel_work=around.cancel_work,
            only_simulated=self._devices.simulated,
        )

    def _decided(self) -> OperatorDecided | None:
        door = self._around.door
        event = self._around.decided()
        return event if event is not None or door is None else door.decided()

    def _stopped_by(self) -> str | None:
        """Who pressed stop while no session runs; also a sign of life for those who follow at the door."""
        door = self._around.door
        at_door = None if door is None else door.stop_pressed()
        return self._around.stop_pressed() or at_door

    def _look(
        self, rig: Rig, applicator: Applicator, transport: PortTransport, procedure: Procedure
    ) -> DeviceReport:
        def looked_in() -> None:
            who = self._stopped_by()
            if who is not None:
                raise NotResumed(f"Interrupted by {who} before it went on; nothing was moved.")

        return look(rig, applicator, transport, procedure, looked_in)

    def _decide(self, event: OperatorDecided) -> str:
        """A decision about a held procedure: journaled, taken in, shown; nothing is sent. What it did, in words."""
        replayed = replay(self._path, self._plan)
        journal = self._continue_journal(self._path)
        try:
            self._tell_door(journal)
            journal.append(replayed.last_ns, "event", event.to_json())
        finally:
            journal.close()
        replayed.procedure.handle(event)
        self._held = replayed.procedure.snapshot(replayed.last_ns, rig="no link", applicator="no link")
        self._show(self._held)
        return replayed.procedure.known.message

    def _show(self, snapshot: Snapshot) -> None:
        if self._around.door is not None:
            self._around.door.show(snapshot)
        self._around.listener(snapshot)

    def _tell_door(self, journal: Journal) -> None:
        if self._around.door is not None:
            journal.listener = self._around.door.recorded

    @contextmanager
    def _connected(
        self, procedure: Procedure, within_s: float
    ) -> Iterator[tuple[Rig, Applicator, PortTransport, ExitStack]]:
        """Drivers that know nothing yet, at ports just opened; what is kept is closed before the ports.

        People stand in for a device that is absent, or was put aside.
        """
        devices, around, known = self._devices, self._around, procedure.known
        absent = {"rig", ENCODER} if known.rig_by_hand else set()
        absent |= {"applicator"} if known.applicator_by_hand else set()
        ends = {name: (url, devices.baud[name]) for name, url in around.urls.items() if name not in absent}
        ports = open_ports(
            ends, within_s=within_s, told=around.told, given_up=lambda: self._stopped_by() is not None
        )
        with ExitStack() as keep:
            keep.enter_context(precedence())
            rig: Rig = RigByHand(procedure, self._ask, simulated=devices.simulated)
            applicator: Applicator = ApplicatorByHand(procedure, self._ask, simulated=devices.simulated)
            drivers: dict[str, Any] = {}
            if "rig" in ends:
                driver = rig_driver(
                    devices.rig, around.recorder, devices.encoder if ENCODER in ends else None
                )
                rig, drivers["rig"], drivers[ENCODER] = driver, driver, driver.encoder_end
            if "applicator" in ends:
                applicator = drivers["applicator"] = applicator_driver(
                    devices.applicator, around.new_session_id(), around.recorder
                )
            transport = PortTransport(
                {name: (drivers[name], port) for name, port in ports.items()},
                speed=devices.speed,
                bells=() if around.door is None else (around.door.fileno(),),
            )
            keep.callback(transport.close)
            yield rig, applicator, transport, keep

    @property
    def _ask(self) -> Ask:
        return lambda question: self._aside.submit(self._around.operator.answer, question)

    def _without_strangers(self, report: DeviceReport, began_with: Mapping[str, str]) -> DeviceReport:
        """Other devices than those that the procedure began with, or real ones where nobody watches, are a problem."""
        problems = list(report.problems)
        for name, state in (("rig", report.rig), ("applicator", report.applicator)):
            if not state.linked or state.identity == BY_HAND:
                continue
            self._compare(name, state.identity, began_with, problems)
            why = why_real_is_refused(self._around.operator.is_automatic, self._devices.simulated)
            if why is not None and not state.simulated:
                problems.append(f"The {name}: {why}.")
        if report.rig.encoder:
            self._compare(ENCODER, report.rig.encoder, began_with, problems)
        return replace(report, problems=tuple(problems))

    def _compare(self, name: str, identity: str, began_with: Mapping[str, str], problems: list[str]) -> None:
        began = began_with.get(name, identity)
        if began != identity:
            problems.append(
                f"The {name} at {self._around.urls[name]} is {identity}; the procedure began with {began}."
            )


def finished(folder: Path, plan: Plan) -> Procedure | None:
    """The procedure of ``folder`` if it was completed, and the end written down that a kill may have left out."""
    path = folder / JOURNAL_FILE
    replayed = replay(path, plan)
    if replayed.procedure.state != "COMPLETED":
        return None
    if not replayed.is_ended:
        journal = Journal.continued(path)
        journal.append(replayed.last_ns, "decision", {"ended": "COMPLETED", "because": "", "devices": {}})
        journal.close()
    return replayed.procedure


def identities(journal: Path) -> dict[str, str]:
    """Which rig, applicator and depth encoder the journal first tells of, as they call themselves."""
    first: dict[str, str] = {}
    for record in read_journal(journal):
        back = record.body.get("readback")
        if isinstance(back, dict) and "identity" in back:
            first.setdefault("applicator" if "boot" in back else "rig", str(back["identity"]))
            if "depth_encoder" in back:
                first.setdefault(ENCODER, str(back["depth_encoder"]))
    return first


class _Served:
    """Asks the operator while both links are served: a person may think for minutes."""

    def __init__(
        self,
        around: Surroundings,
        stopped_by: Callable[[], str | None],
        rig: Rig,
        applicator: Applicator,
        transport: PortTransport,
        aside: Aside,
    ) -> None:
        self._around, self._stopped_by = around, stopped_by
        self._rig, self._applicator = rig, applicator
        self._transport, self._aside = transport, aside
        self.is_automatic, self.name = around.operator.is_automatic, around.operator.name

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        answer = self._aside.submit(self._around.operator.answer, command)

        def is_awaited() -> bool:
            who = self._stopped_by()
            if who is not None:
                raise NotResumed(f"Interrupted by {who} before it went on; nothing was moved.")
            return not answer.done()

        serve_links(self._rig, self._applicator, self._transport, None, is_awaited)
        return answer.result()
