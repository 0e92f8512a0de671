"""What somebody without a say asks for: other software, or a person who may not decide. A person confirms it or not.

Pure. A proposal never moves anything: confirmed, it becomes that person's own answer or decision, judged like any
other; it lapses as soon as the procedure no longer stands where it could be taken. One waits at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from controller.commands import AskOperator
from controller.decisions import KINDS, incomplete
from controller.events import OperatorDecided
from controller.snapshot import Snapshot

ANSWER = "answer"
"""The kind that proposes to confirm what is asked now: the way in which a motion is asked for from outside."""


@dataclass(frozen=True)
class Proposal:
    """One wish.

    Attributes:
        number: counts them.
        by: who proposes, as the journal shall have it.
        kind: ``answer``, or one of ``decisions.KINDS``.
        command: ``answer``: number of the question that it answers; else 0.
        place_mm: ``answer``: where the tip of ``needle`` is wished, patient frame; None: where it is planned.
        because, needle, count, where: as in ``OperatorDecided``.
    """

    number: int
    by: str
    kind: str
    because: str = ""
    needle: str | None = None
    command: int = 0
    place_mm: tuple[float, float, float] | None = None
    count: int = 0
    where: str = ""

    def decision(self, who: str) -> OperatorDecided:
        """As the decision of the person who confirms it."""
        because = f"{self.because} " if self.because else ""
        reason = f"{because}(proposed by {self.by})"
        return OperatorDecided(self.kind, who, reason, self.needle, self.count, self.where)


@dataclass(frozen=True)
class Settled:
    """What became of a proposal.

    Attributes:
        outcome: ``confirmed``, ``declined``, ``withdrawn``, or ``lapsed``: it no longer fitted.
        by: who settled it; empty when nobody did.
        because: in words.
    """

    proposal: Proposal
    outcome: str
    by: str = ""
    because: str = ""


class Proposals:
    """The one that waits, and the last that was settled."""

    def __init__(self) -> None:
        self.open: Proposal | None = None
        self.last: Settled | None = None
        self._count = 0

    def propose(
        self, by: str, words: dict[str, Any], snapshot: Snapshot | None, asked: AskOperator | None
    ) -> Proposal | str:
        """Take a wish in, or (a sentence) why it can't be one now."""
        if self.open is not None:
            return f"proposal {self.open.number} by {self.open.by} waits to be confirmed"
        place = words.get("place_mm")
        proposal = Proposal(
            self._count + 1,
            by,
            words.get("kind", ""),
            words.get("because", ""),
            words.get("needle"),
            words.get("number", 0),
            None if place is None else (float(place[0]), float(place[1]), float(place[2])),
            words.get("count", 0),
            words.get("where", ""),
        )
        why = why_not(proposal, snapshot, asked)
        if why is not None:
            return why
        self._count, self.open = proposal.number, proposal
        return proposal

    def settle(self, number: int, outcome: str, by: str, because: str = "") -> Settled | str:
        """Close the one that waits, or (a sentence) why it is not that one."""
        if self.open is None or self.open.number != number:
            if self.last is not None and self.last.proposal.number == number:
                return f"proposal {number} was {self.last.outcome} already" + self._by()
            return f"there is no proposal {number}"
        if outcome in ("confirmed", "declined") and by == self.open.by:
            return f"{by} can't settle an own proposal"
        if outcome == "withdrawn" and by != self.open.by:
            return f"proposal {number} is {self.open.by}'s"
        settled = Settled(self.open, outcome, by, because)
        self.open, self.last = None, settled
        return settled

    def _by(self) -> str:
        return f", by {self.last.by}" if self.last is not None and self.last.by else ""

    def review(self, snapshot: Snapshot | None, asked: AskOperator | None) -> Settled | None:
        """Lapsed, when the procedure has gone on without it."""
        if self.open is None:
            return None
        why = why_not(self.open, snapshot, asked)
        if why is None:
            return None
        settled = self.settle(self.open.number, "lapsed", "", why)
        assert isinstance(settled, Settled)
        return settled


def why_not(proposal: Proposal, snapshot: Snapshot | None, asked: AskOperator | None) -> str | None:
    """Why this can't be proposed at this moment, in a sentence; None when it can."""
    if proposal.kind == ANSWER:
        return _why_no_answer(proposal, snapshot, asked)
    event = proposal.decision("")
    if event.kind not in KINDS:
        return f"'{event.kind}' can't be proposed; may be: {ANSWER}, {', '.join(KINDS)}"
    if snapshot is None or event.kind not in snapshot.may_decide:
        now = ", ".join(snapshot.may_decide) if snapshot is not None else ""
        return f"{event.kind} can't be decided now; may be decided: {now or 'nothing'}"
    if event.needle is not None and event.needle not in {needle.name for needle in snapshot.needles}:
        return f"there is no needle {event.needle}"
    return incomplete(event)


def _why_no_answer(proposal: Proposal, snapshot: Snapshot | None, asked: AskOperator | None) -> str | None:
    if asked is None:
        return "nothing is asked now"
    if proposal.command != asked.number:
        return f"command {proposal.command} is not asked about; command {asked.number} is: {asked.text}"
    if proposal.needle is not None and proposal.needle != asked.needle:
        return f"not needle {proposal.needle}'s turn: {asked.text}"
    if proposal.place_mm is None:
        return None
    needle = next((n for n in snapshot.needles if n.name == proposal.needle), None) if snapshot else None
    if needle is None or snapshot is None or needle.tip_mm is None:
        return "a place is proposed for the needle that is asked about: needle"
    off_mm = math.dist(proposal.place_mm, needle.tip_mm)
    if off_mm > snapshot.tolerance_mm:
        return (
            f"that place is {off_mm:.1f} mm from where needle {needle.name} is planned, more than "
            f"{snapshot.tolerance_mm:g} mm: the plan has to be changed first"
        )
    return None
