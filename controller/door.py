"""The controller's one local door: news out, operators' answers and the stop in (DOOR.md).

A thread of its own serves it (``controller.door_visitors``); the loop that owns the ports only puts news down and picks
the stop up, and waits for nobody: a reader that is slow misses snapshots, not the loop. Knows who may say what; decides
nothing.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from controller import protocol
from controller.answers import Answers
from controller.commands import AskOperator
from controller.door_files import DoorFiles
from controller.door_visitors import MOST_CLIENTS, Visitor, Visitors
from controller.door_words import (
    LONGEST_REASON,
    VERSION,
    NotUnderstoodError,
    device_words,
    line_of,
    name_of,
    proposal_words,
    question_words,
    record_words,
    request_of,
    settled_words,
    snapshot_words,
    why_not_decided,
)
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.journal import Kind, Record
from controller.proposal import ANSWER, Proposals, Settled
from controller.snapshot import Snapshot
from drivers.applicator_language import ApplicatorState
from drivers.rig_language import RigState
from planning.refusal import AskedWrongly

PROPOSE_EVERY_S = 1.0
"""At most one proposal in so long: the journal keeps each."""
KNOCK_EVERY_S = 10.0
"""At most one refused knock in so long goes into the journal, with the number of those before it."""
_MOST_RECORDS = 64
_MOST_TOLD_AT_ONCE = 65_536
"""Bytes: the rest of the records follows when these are read."""


class Door:
    """Opens at once; ``close`` takes address, token and socket away.

    Args:
        folder: the run's; token, address and socket are made in it.
        tcp_port: of the loopback interface instead of a Unix socket; 0: any free one.
        is_simulated: told to consoles: nothing but simulated devices is behind it.
        earlier: records of a journal that is continued.

    Raises:
        AskedWrongly: it can't be opened there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tcp_port: int | None = None,
        is_simulated: bool = False,
        earlier: Iterable[Record] = (),
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._clock_s, self._is_simulated = folder, clock_s, is_simulated
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._answers = Answers()
        self._taken: dict[int, OperatorConfirmed | OperatorDeclined] = {}
        self._snapshot: Snapshot | None = None
        self._version = 0
        self._records: list[Record] = []
        self._stops: deque[str] = deque()
        self._decisions: deque[OperatorDecided] = deque()
        self._wishes: deque[str] = deque()
        self._devices: tuple[RigState | None, ApplicatorState | None, bool] = (None, None, False)
        self._told_devices: tuple[RigState | None, ApplicatorState | None, bool] = self._devices
        self._peak_force_mn: int | None = None
        self._last_look_s = clock_s()
        self._notes: deque[tuple[Kind, dict[str, Any]]] = deque()
        self._proposals = Proposals()
        self._proposer: Visitor | None = None
        self._last_proposal_s = -PROPOSE_EVERY_S
        self._last_knock_s, self._unsaid = -KNOCK_EVERY_S, 0
        self._is_closing = False
        self._files = DoorFiles(folder)
        self._bell, self._rope = socket.socketpair()  # rings in the ports' loop
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        listener: socket.socket | None = None
        try:
            self._token = self._files.new_token()
            listener, self.address = self._files.listen(tcp_port, backlog=MOST_CLIENTS)
            self._files.write_address({"version": VERSION, **self.address})
        except OSError as problem:
            if listener is not None:
                listener.close()
            self._clear_away()
            raise AskedWrongly(f"{folder}: the door can't be opened here ({problem}).") from problem
        for record in earlier:
            self._keep(record)
        self._visitors = Visitors(listener, self, clock_s)
        self._visitors.start()

    # --- the ports' loop: none of these waits ---------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when a stop, a decision or a note for the journal is there to be picked up."""
        return self._bell.fileno()

    def show(self, snapshot: Snapshot) -> None:
        """The newest picture; those that nobody has read yet are forgotten."""
        with self._asked:
            self._snapshot, self._version = snapshot, self._version + 1
            if snapshot.state in ("HELD", *protocol.ENDED) and self._answers.asked is not None:
                self._answers.withdraw()
                self._asked.notify_all()
            self._review_proposal()
        self._visitors.wake()

    def recorded(self, record: Record) -> None:
        """A record that is on disk."""
        with self._lock:
            self._keep(record)
        self._visitors.wake()

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        if record.body.get("event") == "SeedDropped":
            self._peak_force_mn = int(record.body["peak_mn"])

    def devices_seen(self, rig: RigState, applicator: ApplicatorState, have_stopped: bool) -> None:
        """As last heard of; told at the next look, and at once when both have stopped after a stop."""
        is_new = have_stopped and not self._devices[2]
        self._devices = (rig, applicator, have_stopped)
        if is_new:
            self._visitors.wake()

    def stop_pressed(self) -> str | None:
        """Who pressed stop, once each. The time of the call is told to followers: a loop that hangs is seen."""
        self._last_look_s = self._clock_s()
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        with self._lock:
            return self._stops.popleft() if self._stops else None

    def decided(self) -> OperatorDecided | None:
        """The next decision of a person at a console, once each."""
        with self._lock:
            return self._decisions.popleft() if self._decisions else None

    def wished(self) -> str | None:
        """What a person wishes of a held procedure, once each: ``go_on`` or ``leave``."""
        with self._lock:
            return self._wishes.popleft() if self._wishes else None

    def notes(self) -> list[tuple[Kind, dict[str, Any]]]:
        """What the journal shall keep of what was said here, by kind of record, few enough for it."""
        with self._lock:
            told = list(self._notes)
            self._notes.clear()
        return told

    def close(self) -> None:
        """Say what is still to be said (0.5 s at most), then nobody is heard any more."""
        with self._asked:
            self._is_closing = True
            self._asked.notify_all()
        self._visitors.close()
        self._clear_away()

    # --- who answers ------------------------------------------------------------------------------------------

    def wait_for_answer(self, command: AskOperator) -> OperatorConfirmed | OperatorDeclined:
        """Ask, and wait (called aside of the loop) until a client has answered, or nothing is asked any more."""
        with self._asked:
            self._answers.ask(command)
            self._version += 1
            self._visitors.wake()
            while command.number not in self._taken:
                self._review_proposal()
                is_asked = self._answers.asked is not None and self._answers.asked.number == command.number
                if self._is_closing or not is_asked:
                    return OperatorDeclined(command.number, "door", "nobody answered before it was over")
                self._asked.wait()
            return self._taken.pop(command.number)

    def _clear_away(self) -> None:
        self._files.clear_away()
        self._bell.close()
        self._rope.close()

    # --- the visitors' host, on their thread ----------------------------------------------------------------------

    def look(self) -> None:
        """Devices that have changed are news."""
        devices = self._devices
        if devices == self._told_devices:
            return
        self._told_devices = devices
        with self._lock:
            self._version += 1

    def silence_s(self) -> float:
        """How long ago the loop that owns the ports last looked in."""
        return max(0.0, self._clock_s() - self._last_look_s)

    def obey(self, client: Visitor, line: bytes) -> None:
        """One line: a greeting, or a request that is answered."""
        try:
            words = request_of(line)
            if not client.who:
                self._greet(client, words)
                return
            accepted, why = self._do(client, words)
        except NotUnderstoodError as problem:
            self._visitors.refuse(client, str(problem))
            return
        reply = {"to": words.get("id"), "do": words["do"], "accepted": accepted, "why": why}
        if words["do"] == "propose" and accepted and self._proposals.open is not None:
            reply["number"] = self._proposals.open.number
        self._visitors.tell(client, reply)

    def _greet(self, client: Visitor, words: dict[str, Any]) -> None:
        token = str(words.get("token", "")).encode()
        if words["do"] != "hello" or not hmac.compare_digest(token, self._token.encode()):
            self._visitors.refuse(
                client, "not authenticated: the first line is hello with the token of door.token"
            )
            return
        client.who = name_of(str(words.get("who", "")))
        self._visitors.tell(
            client, {"welcome": VERSION, "simulated": self._is_simulated, "to": words.get("id")}
        )

    def _do(self, client: Visitor, words: dict[str, Any]) -> tuple[bool, str]:
        """One request of a client that may speak: accepted or not, and why."""
        match words["do"]:
            case "stop":
                with self._lock:
                    if not self._stops:
                        self._stops.append(client.who)
                self._ring()
                return True, "handed over; the snapshot shows what the devices did"
            case "follow":
                client.follows, client.seen = True, 0
                client.since = max(0, words["since"]) if "since" in words else None
                return True, ""
            case "answer" | "decline":
                if "number" not in words:
                    raise NotUnderstoodError("an answer names the command that it answers: number")
                because = None
                if words["do"] == "decline":
                    because = str(words.get("because", "no reason given"))[:LONGEST_REASON]
                values = None if because else words.get("values")
                with self._asked:
                    return self._answer(words["number"], client.who, because, values)
            case "decide":
                event = OperatorDecided(
                    words.get("kind", ""),
                    client.who,
                    words.get("because", "")[:LONGEST_REASON],
                    words.get("needle"),
                    words.get("count", 0),
                    words.get("where", ""),
                )
                with self._lock:
                    return self._decide(event)
            case "propose":
                with self._asked:
                    return self._propose(client, words)
            case "confirm_proposal" | "decline_proposal" | "withdraw_proposal":
                if "number" not in words:
                    raise NotUnderstoodError("say which proposal: number")
                with self._asked:
                    return self._settle(client, words)
            case "go_on" | "leave":
                with self._lock:
                    if self._snapshot is None or self._snapshot.state != "HELD":
                        return False, "the procedure is not held"
                    self._wishes.append(words["do"])
                self._ring()
                return True, "handed over"
        known = "follow, answer, decline, decide, go_on, leave, propose, *_proposal, stop"
        return False, f"'{words['do']}' is not known here; known are {known}"

    def _answer(
        self, number: int, who: str, because: str | None, values: dict[str, Any] | None
    ) -> tuple[bool, str]:
        taken = self._answers.take(number, who, because, values)
        if isinstance(taken, str):
            return False, taken
        self._taken[number] = taken
        self._version += 1
        self._review_proposal()
        self._asked.notify_all()
        return True, ""

    def _decide(self, event: OperatorDecided) -> tuple[bool, str]:
        why = why_not_decided(event, self._snapshot)
        if why is not None:
            return False, why
        self._decisions.append(event)
        self._ring()
        return True, "handed over; journal and snapshot show what it did"

    def _propose(self, client: Visitor, words: dict[str, Any]) -> tuple[bool, str]:
        now_s = self._clock_s()
        if now_s - self._last_proposal_s < PROPOSE_EVERY_S:
            return False, f"at most one proposal in {PROPOSE_EVERY_S:g} s"
        words = {**words, "because": words.get("because", "")[:LONGEST_REASON]}
        taken = self._proposals.propose(client.who, words, self._snapshot, self._answers.asked)
        if isinstance(taken, str):
            return False, taken
        self._proposer, self._last_proposal_s = client, now_s
        self._note_proposal(proposal_words(taken))
        return True, "a person must confirm it; the news tell what became of it"

    def _settle(self, client: Visitor, words: dict[str, Any]) -> tuple[bool, str]:
        """Confirmed, it is the confirming person's own answer or decision; refused like one, it lapses."""
        outcome = {"confirm": "confirmed", "decline": "declined", "withdraw": "withdrawn"}[
            words["do"].removesuffix("_proposal")
        ]
        because = words.get("because", "")[:LONGEST_REASON]
        if outcome == "declined" and not because.strip():
            return False, "say why not: because"
        settled = self._proposals.settle(words["number"], outcome, client.who, because)
        if isinstance(settled, str):
            return False, settled
        self._proposer = None
        self._note_settled(settled)
        if outcome != "confirmed":
            return True, ""
        proposal = settled.proposal
        if proposal.kind == ANSWER:
            return self._answer(proposal.command, client.who, None, None)
        return self._decide(proposal.decision(client.who))

    def _review_proposal(self) -> None:
        settled = self._proposals.review(self._snapshot, self._answers.asked)
        if settled is not None:
            self._proposer = None
            self._note_settled(settled)

    def _note_settled(self, settled: Settled) -> None:
        self._note_proposal(settled_words(settled))

    def _note_proposal(self, words: dict[str, Any]) -> None:
        self._notes.append(("proposal", words))
        self._version += 1
        self._ring()

    # --- saying -------------------------------------------------------------------------------------------------

    def tell_news(self, client: Visitor) -> None:
        """The newest snapshot if it is new to this one, then records in order."""
        with self._lock:
            snapshot, asked, version = self._snapshot, self._answers.asked, self._version
            proposal, settled = self._proposals.open, self._proposals.last
            records = []
            if client.since is not None and self._records:
                first = max(0, client.since + 1 - self._records[0].number)
                records = self._records[first : first + _MOST_RECORDS]
        if snapshot is not None and version > client.seen:
            client.seen = version
            rig, applicator, have_stopped = self._told_devices
            words = {
                "snapshot": snapshot_words(snapshot),
                "ask": question_words(asked),
                "proposal": None if proposal is None else proposal_words(proposal),
                "settled": None if settled is None else settled_words(settled),
                "devices": device_words(rig, applicator, self._peak_force_mn),
                "stopped": have_stopped,
                "version": VERSION,
                "news": version,
            }
            client.to_say += line_of(words)
        for record in records:
            client.to_say += line_of({"record": record_words(record)})
            client.since = record.number
            if len(client.to_say) > _MOST_TOLD_AT_ONCE:
                break

    def sent_away(self, client: Visitor, why: str) -> None:
        """Put down for the journal, seldom."""
        now_s = self._clock_s()
        with self._lock:
            self._unsaid += 1
            if now_s - self._last_knock_s < KNOCK_EVERY_S:
                return
            more = f" (and {self._unsaid - 1} others before it)" if self._unsaid > 1 else ""
            self._notes.append(("knock", {"says": f"{client.who or 'somebody'}: {why}{more}"}))
            self._last_knock_s, self._unsaid = now_s, 0
        self._ring()

    def gone(self, client: Visitor) -> None:
        """What it proposed is withdrawn."""
        if client is self._proposer:  # nobody waits for it any more
            with self._asked:
                if self._proposals.open is not None:
                    settled = self._proposals.settle(
                        self._proposals.open.number, "withdrawn", client.who, "its link was closed"
                    )
                    assert isinstance(settled, Settled)
                    self._note_settled(settled)
                self._proposer = None

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._rope.send(b"!")
