"""After any kill: what the journal says, what the devices say, and whether the procedure may go on.

The devices are connected and asked, nothing is moved. Equal: a person confirms and it goes on. The applicator ahead by
exactly the journaled intention: its stored outcome is adopted. Behind: not fired, may be armed again. Anything
else: held, saying exactly what is known and what a person must check. Knows drivers and journal; the rest of the
agenda is ``resumption``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from controller.commands import (
    AskOperator,
    BeginLedger,
    ClearLatch,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    HomeApplicator,
    RetractNeedle,
)
from controller.events import CommandDone, Event, OperatorConfirmed, ProcedureResumed, SeedDropped
from controller.journal import Journal
from controller.procedure import Procedure
from controller.replay import Replayed
from controller.resumption import held_needle
from controller.session import Applicator, Operator, Rig, Transport
from controller.wording import in_words
from drivers import applicator_language as a
from drivers import rig_language as r
from drivers.depth_check import STEPS_LOST

SETTLE_S = 25.0
"""So long the rig may still carry out the last line that it took (200 mm at 600 mm/min): resetting it in the middle of
a motion would lose where it stands."""
_PLAIN_LATCHES = ("NONE", "WATCH", "STOP", "ESTOP")


@dataclass(frozen=True)
class DeviceReport:
    """What the devices say, nothing having been moved.

    Attributes:
        ledger: None when no ledger is open.
        outcome: of the interrupted seed; None when it was never intended, or none was interrupted.
        problems: why a device can't be asked.
    """

    rig: r.RigState
    applicator: a.ApplicatorState
    ledger: a.Ledger | None
    outcome: a.SeedOutcome | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether an interrupted procedure may go on.

    Attributes:
        known: what is certain, in sentences.
        to_check: what a person must check before anything else; empty when it may go on.
        resumed: the event that makes it go on, without the person's name; None when it may not.
        adopted: the interrupted command's outcome, as the device has stored it. A seed's that is not PASS is taken in
            also when it may not go on: then people can say where that seed is.
    """

    known: tuple[str, ...]
    to_check: tuple[str, ...]
    resumed: ProcedureResumed | None = None
    adopted: Event | None = None

    @property
    def text(self) -> str:
        return " ".join((*self.known, *self.to_check))


def look(
    rig: Rig,
    applicator: Applicator,
    transport: Transport,
    procedure: Procedure,
    looked_in: Callable[[], None] = lambda: None,
) -> DeviceReport:
    """Connect both devices and ask them. The rig is left alone first until its last line must have ended.

    ``looked_in``: called all the time; what it raises ends the look.
    """
    problems: list[str] = []

    def settling() -> bool:
        looked_in()
        return True

    if not procedure.known.rig_by_hand:
        serve_links(rig, applicator, transport, transport.now_ns() + round(SETTLE_S * 1e9), settling)

    def carried_out(
        driver: Rig | Applicator, begin: Callable[[int], None]
    ) -> list[r.RigEvent | a.ApplicatorEvent]:
        begin(transport.now_ns())
        serve_links(rig, applicator, transport, None, lambda: settling() and driver.is_busy)
        problems.extend(f"{device}: {why}." for device, why in transport.lost())
        return list(driver.events())

    def asked(command: a.ApplicatorCommand) -> list[r.RigEvent | a.ApplicatorEvent]:
        return carried_out(applicator, lambda now: applicator.start(command, now))

    for event in carried_out(rig, lambda now: rig.start(r.ConnectRig(), now)):
        if isinstance(event, r.RigRefused | r.RigFailed):
            problems.append(f"The rig can't be asked: {event.reason}.")
    for told in asked(a.Connect()):
        if isinstance(told, a.ApplicatorRefused | a.ApplicatorFailed):
            problems.append(f"The applicator can't be asked: {told.sentence}.")
    ledger = outcome = None
    if applicator.state.linked:
        if isinstance(procedure.interrupted, DropSeed):
            for told in asked(a.AskSeed(procedure.interrupted.stroke)):
                if isinstance(told, a.SeedOutcome):
                    outcome = told
                elif isinstance(told, a.ApplicatorFailed | a.SeedInDoubt):
                    problems.append(f"The applicator does not say what became of the seed: {told.sentence}.")
        for told in asked(a.ReadLedger()):  # after the seed: where people count, what they tell of it counts
            if isinstance(told, a.ApplicatorDone):
                ledger = told.ledger
    applicator.events()
    return DeviceReport(rig.state, applicator.state, ledger, outcome, tuple(problems))


def serve_links(
    rig: Rig,
    applicator: Applicator,
    transport: Transport,
    until_ns: int | None,
    is_under_way: Callable[[], bool] = lambda: True,
) -> None:
    """Serve both links for as long as something is under way, or until a time."""
    while True:
        transport.exchange()
        now = transport.now_ns()
        if not is_under_way() or (until_ns is not None and now >= until_ns):
            return
        due = [wake for wake in (rig.next_wake(), applicator.next_wake(), until_ns) if wake is not None]
        transport.wait(min(due) if due else None)
        transport.exchange()
        now = transport.now_ns()
        for driver in (rig, applicator):
            wake = driver.next_wake()
            if wake is not None and wake <= now:
                driver.wake(now)


def compare(replayed: Replayed, report: DeviceReport) -> Verdict:
    """The journal against the devices.  Pure."""
    procedure = replayed.procedure
    known, pending = procedure.known, procedure.interrupted
    state, ledger = report.applicator, report.ledger
    told = [f"By the journal {len(known.seeds_delivered)} of {known.seeds_intended} seeds are delivered."]
    if procedure.is_held:
        told.append(f"Held: {known.held_because}.")
    amiss = list(report.problems)
    if amiss:
        return Verdict(tuple(told), (*amiss, "Mend the connection, then resume again."))
    delivering = known.ledger_begun and procedure.working_state == "DELIVERING_SEEDS"
    if state.estop_open:
        amiss.append("The e-stop is pressed: release it when it is safe, then resume again.")
    doubt = known.doubt
    is_answered = (
        doubt is not None and doubt.where and (doubt.latch, doubt.stroke) == (state.latch, state.latch_seed)
    )
    if state.latch not in _PLAIN_LATCHES and not is_answered:
        about = f" about seed {state.latch_seed}" if state.latch_seed else ""
        amiss.append(
            f"The applicator is latched ({state.latch}){about}: take the applicator off, count the seeds in the "
            f"cartridge (it counts {state.left}), and look at a CT before the latch is cleared."
        )
    if state.st in ("HOMING", "MOVING", "ARMED", "FIRING"):
        amiss.append(f"The applicator says {state.st}: wait until it rests, then resume again.")
    adopted = _adopted(replayed, report)
    if known.ledger_begun:
        amiss += _counts_amiss(replayed, report, adopted)
    if delivering:
        amiss += _places_amiss(replayed, report)
    at_home = state.retraction_homed and state.stylet_homed
    was_reset = replayed.boot not in ("", state.boot)
    if was_reset:
        told.append(f"The applicator was reset meanwhile (boot {replayed.boot}, now {state.boot}).")
    if known.coupled is not None and not state.retraction_homed:
        amiss.append(
            f"The applicator's homes are gone while it is on needle {known.coupled}: it can't be homed there. Take it "
            "off, count the seeds in the cartridge, and finish this needle by hand or abandon it."
        )
    if ledger is not None:
        told.append(
            f"The applicator counts {ledger.implanted} implanted, {ledger.left} left, {ledger.in_doubt} in doubt."
        )
    if amiss:
        is_doubt = isinstance(adopted, SeedDropped) and adopted.outcome != "PASS"
        return Verdict(tuple(told), tuple(amiss), adopted=adopted if is_doubt else None)
    if state.latch != "NONE":
        about = (
            f"whose seed is in the {doubt.where}" if doubt is not None and is_answered else "about no seed"
        )
        told.append(f"The applicator is latched ({state.latch}), {about}; going on clears it.")
    told.append(_about(procedure, adopted, replayed.was_intended))
    told.append(
        "Confirm that the patient has not moved, that nobody touched the needles, and that it may go on."
    )
    is_checking = procedure.working_state == "CHECKING_DEVICES"
    home = not at_home and not is_checking and not isinstance(pending, HomeApplicator)
    # After lost steps the rig's own count of where the carriage stands is known to be wrong.
    # Nor is it known to people who have taken over from a rig that failed.
    is_lost = (procedure.is_held and STEPS_LOST in known.held_because) or known.rig_taken_over
    is_placed = report.rig.status == "Idle" and not is_lost
    resumed = ProcedureResumed(
        who="",
        is_answered=adopted is not None,
        carriage_z_mm=round(report.rig.z_mm, 3) if is_placed else None,
        latch=state.latch,
        home_applicator=home,
    )
    return Verdict(tuple(told), (), resumed, adopted)


def _adopted(replayed: Replayed, report: DeviceReport) -> Event | None:
    """What the device has done of the interrupted command, if that can be told for certain."""
    pending, outcome, ledger = replayed.procedure.interrupted, report.outcome, report.ledger
    if not replayed.was_intended:
        return None
    match pending:
        case DropSeed() if outcome is not None:
            return SeedDropped(
                pending.number,
                pending.seed,
                outcome.outcome,
                True,
                outcome.z_um,
                outcome.peak_mn,
                outcome.pulses,
                outcome.stroke_um,
                outcome.who,
            )
        case DeclareCartridge() if ledger is not None and ledger.cartridges == pending.cartridge:
            return CommandDone(pending.number, {"left": ledger.left})
        case ClearLatch() if pending.booked_as != "NO" and ledger is not None and ledger.in_doubt == 0:
            return CommandDone(pending.number, {"left": ledger.left})
        case EndLedger() if ledger is None and report.applicator.counter == replayed.procedure.known.strokes:
            return CommandDone(pending.number, {"counter": report.applicator.counter})
    return None


def _counts_amiss(replayed: Replayed, report: DeviceReport, adopted: Event | None) -> list[str]:
    """Journal and applicator must agree on every seed, but for the one whose outcome is adopted."""
    procedure = replayed.procedure
    known, pending = procedure.known, procedure.interrupted
    state, ledger, outcome = report.applicator, report.ledger, report.outcome
    strokes = known.strokes + isinstance(adopted, SeedDropped)
    seeds = known.implanted + isinstance(adopted, SeedDropped)
    left = 0 if known.cartridge_left is None else known.cartridge_left - isinstance(adopted, SeedDropped)
    cartridges = known.cartridge
    if isinstance(adopted, CommandDone) and isinstance(pending, DeclareCartridge):
        left, cartridges = pending.count, pending.cartridge
    count = f"Count the seeds in the cartridge (the journal expects {left}, the applicator {state.left})"
    if outcome is not None and outcome.outcome != "PASS":
        return [
            f"Seed {getattr(pending, 'seed', '?')} in needle {getattr(pending, 'needle', '?')} ended "
            f"{outcome.outcome} at {outcome.z_um / 1000:.1f} mm. {count} and look at a CT: it is in the patient, in "
            "the needle or in the cartridge. Say which (seed_is), then go on."
        ]
    if state.counter != strokes:
        return [
            f"The applicator has intended {state.counter} seeds, the journal knows of {strokes}. {count} and look at a "
            "CT before anything moves."
        ]
    is_closed = procedure.working_state == "AWAITING_SEED_SCAN" or isinstance(pending, EndLedger)
    if ledger is None:
        return (
            []
            if is_closed
            else ["The applicator has no open count of seeds. " + count + " and look at a CT."]
        )
    if ledger.procedure != known.plan_hash[:8].upper():
        return [
            f"The applicator counts for procedure {ledger.procedure}, not for this plan. {count}; look at a CT."
        ]
    in_doubt, wasted = 0 if known.doubt is None else known.doubt.seeds, known.wasted
    if isinstance(adopted, CommandDone) and isinstance(pending, ClearLatch):
        seeds += in_doubt if pending.booked_as == "IN" else 0
        wasted += in_doubt if pending.booked_as == "WA" else 0
        left += in_doubt if pending.booked_as == "LF" else 0
        in_doubt = 0
    expected = {
        "implanted": seeds,
        "wasted": wasted,
        "in_doubt": in_doubt,
        "left": left,
        "cartridges": cartridges,
    }
    differing = [
        f"{name.replace('_', ' ')} {getattr(ledger, name)}, expected {value}"
        for name, value in expected.items()
        if getattr(ledger, name) != value
    ]
    return (
        [f"The applicator's book differs ({'; '.join(differing)}). {count} and look at a CT."]
        if differing
        else []
    )


def _places_amiss(replayed: Replayed, report: DeviceReport) -> list[str]:
    """The coupled needle stands where the journal left it, or on the way that was under way."""
    procedure = replayed.procedure
    known, pending, z_um = procedure.known, procedure.interrupted, report.applicator.z_um
    if known.coupled is None:
        return []
    slack_um = round(known.settings.seed_agreement_mm * 1000)
    low = known.needles[known.coupled].last_z_um
    high = pending.z_um if isinstance(pending, RetractNeedle) and replayed.was_intended else low
    if low - slack_um <= z_um <= high + slack_um:
        return []
    return [
        f"Needle {known.coupled} is drawn back {z_um / 1000:.2f} mm, the journal expects {low / 1000:.2f}"
        f"{f' to {high / 1000:.2f}' if high != low else ''} mm. Nothing is pushed or pulled: look at a CT."
    ]


def _about(procedure: Procedure, adopted: Event | None, was_intended: bool) -> str:
    pending = procedure.interrupted
    held = held_needle(procedure.known, pending)
    if isinstance(adopted, SeedDropped):
        return f"Seed {adopted.seed} was dropped and counted by the applicator; its outcome is taken over."
    if isinstance(pending, DropSeed):
        return f"Seed {pending.seed} was not fired; it may be armed again."
    if adopted is not None:
        return "The last command was carried out; its outcome is taken over."
    if held is not None:
        return f"Needle {held} was in the rig's grip: it counts as moved and needs a new CT."
    if pending is None or isinstance(pending, BeginLedger) or not was_intended:
        return "Nothing was under way."
    if isinstance(pending, AskOperator):
        return "A question was open; it is asked again."
    return f"Under way was: {in_words(pending)}. It is done again."


@dataclass(frozen=True)
class Resumption:
    """What a session begins with, or why it must not."""

    verdict: Verdict
    begin_with: tuple[Event, ...]


def confirm(verdict: Verdict, operator: Operator, journal: Journal, now_ns: int) -> Resumption:
    """Write down what was found, and ask a person; nothing goes on without."""
    journal.append(now_ns, "recovery", {"says": verdict.text, "may_go_on": verdict.resumed is not None})
    if verdict.resumed is None:
        return Resumption(verdict, () if verdict.adopted is None else (verdict.adopted,))
    answer, _ = operator.answer(AskOperator(0, "confirm_resume", verdict.text))
    if not isinstance(answer, OperatorConfirmed):
        journal.append(now_ns, "recovery", {"says": f"declined by {answer.who}: {answer.reason}"})
        return Resumption(Verdict(verdict.known, (f"Declined by {answer.who}: {answer.reason}.",)), ())
    resumed = ProcedureResumed(**{**asdict(verdict.resumed), "who": answer.who})
    return Resumption(verdict, (resumed,) if verdict.adopted is None else (resumed, verdict.adopted))
