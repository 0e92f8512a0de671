"""The protocol of Jiang et al. 2021 (Front Oncol 11:645077) as one table that a nurse can read.

Read a row as: *when* ``trigger`` happens *in* one of ``sources`` *and* every guard holds, the procedure is
*in* ``destination``. Rows are tried from top to bottom; the first whose guards hold is taken. A trigger that no
row takes in the present state changes nothing and is reported.

``transitions`` runs the table (see ``procedure``); ``PROTOCOL.md`` is drawn from it and a test keeps it current.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from controller.insertion import is_within_reach
from controller.knowledge import Knowledge

Guard = Callable[[Knowledge], bool]

# --- states: how it is now ----------------------------------------------------------------------------
STATES: dict[str, str] = {
    "READY": "Ready to start",
    "CHECKING_DEVICES": "Check and home the devices",
    "AWAITING_TIME_OUT": "Time-out: patient, plan, seeds",
    "INSERTING_REFERENCE_NEEDLES": "Reference needles in",
    "AWAITING_REFERENCE_SCAN": "CT of the reference needles",
    "CORRECTING_REFERENCE_NEEDLES": "Correct the reference needles",
    "INSERTING_SEED_NEEDLES": "All seed needles in",
    "AWAITING_NEEDLE_SCAN": "CT of the needles",
    "CORRECTING_NEEDLES": "Correct the needles",
    "DELIVERING_SEEDS": "Seeds, deepest first",
    "AWAITING_SEED_SCAN": "CT of the seeds",
    "COMPLETED": "Completed",
    "PAUSED": "Paused by a person",
    "ABORTING": "Abort: needles out, seeds counted",
    "ABORTED": "Aborted",
    "HELD": "Held for a person",
    "STOPPED": "Stopped",
}
ENDED = ("COMPLETED", "ABORTED", "STOPPED")
"""Nothing follows. HELD is no end: a person may take it back."""
STEPS = tuple(
    name for name in STATES if name not in ("READY", "PAUSED", "ABORTING", "ABORTED", "HELD", "STOPPED")
)
WORKING = tuple(name for name in STATES if name not in ("READY", "PAUSED", "HELD", *ENDED))
"""The named set for stop and fault: every state in which something may be under way."""
SCANNED_IN: dict[str, Literal["reference", "needles", "seeds"]] = {
    "AWAITING_REFERENCE_SCAN": "reference",
    "AWAITING_NEEDLE_SCAN": "needles",
    "AWAITING_SEED_SCAN": "seeds",
}
"""The states that wait for a CT, and of what."""

TRIGGERS: dict[str, str] = {
    "procedure_started": "a person starts the procedure",
    "procedure_resumed": "journal and devices were compared, and a person takes a held procedure back",
    "pause_reached": "a person asked for a pause, and no needle is in the grip and no command under way",
    "pause_ended": "a person ends the pause",
    "abort_decided": "a person gives up the implantation",
    "work_done": "everything the state asked for is done",
    "scan_judged": "a CT was analysed and every needle in it judged",
    "fault_seen": "a device, an interlock or a person says that it can't go on",
    "stop_pressed": "a person pressed stop",
}


# --- guards: sentences --------------------------------------------------------------------------------
def scan_is_unusable(known: Knowledge) -> bool:
    """The scan can't be used, or a needle that must be in it is not seen."""
    return not known.scan_is_usable or bool(known.unseen)


def scan_may_be_repeated(known: Knowledge) -> bool:
    """Fewer scans than allowed were spent on this round."""
    return known.scans_in_round < known.settings.max_scans_per_round


def a_person_wishes_another_scan(known: Knowledge) -> bool:
    """Somebody asked for it while this one was taken or looked at."""
    return known.scan_wished


def more_seeds_are_seen_than_implanted(known: Knowledge) -> bool:
    """The CT shows more seeds than were counted, and nobody has accepted that number."""
    return known.seeds_seen > max(known.implanted, known.seeds_accepted)


def only_the_count_of_seeds_is_open(known: Knowledge) -> bool:
    """No needle is in the patient any more and no cartridge in the applicator."""
    return not known.in_body and known.coupled is None and known.seated is None


def every_tip_is_on_target(known: Knowledge) -> bool:
    """No needle that stands in the patient asks for a correction."""
    return not known.off_target


def rig_stands_where_needles_say(known: Knowledge) -> bool:
    """The reference needles agree on one pose of the rig."""
    return known.rig is not None and known.rig.is_usable


def attempts_remain(known: Knowledge) -> bool:
    """Every needle that is off target may be corrected once more."""
    return all(story.attempt < story.attempts_allowed(known.settings) for story in known.off_target)


def no_correction_is_out_of_reach(known: Knowledge) -> bool:
    """No needle would stay too shallow because it may go no deeper."""
    return all(is_within_reach(known, story) for story in known.off_target)


def a_person_judges(known: Knowledge) -> bool:
    """A person rules about every needle after each CT."""
    return known.settings.person_judges


def a_person_has_accepted_every_needle(known: Knowledge) -> bool:
    """Each that stands in the patient, as the newest CT shows it, and asks for no other CT."""
    accepted = all(story.is_accepted for story in known.inserted)
    return known.settings.person_judges and accepted and not known.scan_wished


def _held_in(state: str) -> Guard:
    def guard(known: Knowledge) -> bool:
        return known.held_in == state

    guard.__name__ = f"it_was_held_in_{state}"
    guard.__doc__ = f"It was held in {state}."
    return guard


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    trigger: str
    sources: tuple[str, ...]
    guards: tuple[Guard, ...]
    destination: str
    note: str


TABLE: tuple[Row, ...] = (
    Row("procedure_started", ("READY",), (), "CHECKING_DEVICES", "links opened, devices identified, axes homed"),
    Row("work_done", ("CHECKING_DEVICES",), (), "AWAITING_TIME_OUT", "a person confirms patient, plan and seeds"),
    Row("work_done", ("AWAITING_TIME_OUT",), (), "INSERTING_REFERENCE_NEEDLES", "2-3 needles, 2-3 cm deep"),
    Row("work_done", ("INSERTING_REFERENCE_NEEDLES",), (), "AWAITING_REFERENCE_SCAN", ""),
    *(Row("scan_judged", (state,), (a_person_wishes_another_scan,), state, "scan again, at a person's wish")
      for state in SCANNED_IN),
    Row("scan_judged", ("AWAITING_REFERENCE_SCAN",), (scan_is_unusable, scan_may_be_repeated),
        "AWAITING_REFERENCE_SCAN", "scan again"),
    Row("scan_judged", ("AWAITING_REFERENCE_SCAN",), (scan_is_unusable,), "HELD", "a person must look"),
    Row("scan_judged", ("AWAITING_REFERENCE_SCAN",), (rig_stands_where_needles_say, a_person_judges),
        "CORRECTING_REFERENCE_NEEDLES", "a person rules about each needle"),
    Row("scan_judged", ("AWAITING_REFERENCE_SCAN",), (rig_stands_where_needles_say, every_tip_is_on_target),
        "INSERTING_SEED_NEEDLES", "within 2 mm: the rig's pose is known"),
    Row("scan_judged", ("AWAITING_REFERENCE_SCAN",),
        (rig_stands_where_needles_say, attempts_remain, no_correction_is_out_of_reach),
        "CORRECTING_REFERENCE_NEEDLES", "beyond 2 mm, or can't tell"),
    Row("scan_judged", ("AWAITING_REFERENCE_SCAN",), (), "HELD",
        "no pose explains the needles, attempts used up, or too deep"),
    Row("work_done", ("CORRECTING_REFERENCE_NEEDLES",), (a_person_has_accepted_every_needle,),
        "INSERTING_SEED_NEEDLES", "by a person's word: the rig's pose is known"),
    Row("work_done", ("CORRECTING_REFERENCE_NEEDLES",), (), "AWAITING_REFERENCE_SCAN", "look again"),
    Row("work_done", ("INSERTING_SEED_NEEDLES",), (), "AWAITING_NEEDLE_SCAN", ""),
    Row("scan_judged", ("AWAITING_NEEDLE_SCAN",), (scan_is_unusable, scan_may_be_repeated),
        "AWAITING_NEEDLE_SCAN", "scan again"),
    Row("scan_judged", ("AWAITING_NEEDLE_SCAN",), (scan_is_unusable,), "HELD", "a person must look"),
    Row("scan_judged", ("AWAITING_NEEDLE_SCAN",), (a_person_judges,), "CORRECTING_NEEDLES",
        "a person rules about each needle"),
    Row("scan_judged", ("AWAITING_NEEDLE_SCAN",), (every_tip_is_on_target,), "DELIVERING_SEEDS", "every tip within 2 mm"),
    Row("scan_judged", ("AWAITING_NEEDLE_SCAN",), (attempts_remain, no_correction_is_out_of_reach),
        "CORRECTING_NEEDLES", "beyond 2 mm, or can't tell"),
    Row("scan_judged", ("AWAITING_NEEDLE_SCAN",), (), "HELD", "attempts used up, or too deep"),
    Row("work_done", ("CORRECTING_NEEDLES",), (a_person_has_accepted_every_needle,), "DELIVERING_SEEDS",
        "by a person's word"),
    Row("work_done", ("CORRECTING_NEEDLES",), (), "AWAITING_NEEDLE_SCAN", "look again"),
    Row("work_done", ("DELIVERING_SEEDS",), (), "AWAITING_SEED_SCAN", "all seeds counted"),
    Row("scan_judged", ("AWAITING_SEED_SCAN",), (scan_is_unusable, scan_may_be_repeated),
        "AWAITING_SEED_SCAN", "scan again"),
    Row("scan_judged", ("AWAITING_SEED_SCAN",), (scan_is_unusable,), "HELD", "a person must look"),
    Row("scan_judged", ("AWAITING_SEED_SCAN",), (more_seeds_are_seen_than_implanted,), "HELD",
        "a person must count what was loaded, left and wasted"),
    Row("scan_judged", ("AWAITING_SEED_SCAN",), (), "COMPLETED", "post-plan"),
    Row("pause_reached", WORKING, (), "PAUSED", "between two commands; no needle in the grip"),
    *(Row("pause_ended", ("PAUSED",), (_held_in(state),), state, STATES[state] + ", where it was")
      for state in WORKING),
    Row("abort_decided", ("HELD", "PAUSED"), (), "ABORTING", "people take the needles out; no device moves one"),
    Row("work_done", ("ABORTING",), (), "ABORTED", "needles out, seeds counted, count closed"),
    Row("fault_seen", ("ABORTING",), (only_the_count_of_seeds_is_open,), "ABORTED",
        "the applicator can't close its count: told, and reconciled by people"),
    Row("fault_seen", (*WORKING, "PAUSED"), (), "HELD", "axes stopped; nothing retracted by itself"),
    *(Row("procedure_resumed", ("HELD",), (_held_in(state),), state, STATES[state] + ", as far as it was")
      for state in WORKING),
    Row("stop_pressed", (*WORKING, "PAUSED", "READY", "HELD"), (), "STOPPED", "stop bytes have left before"),
)  # fmt: skip


def expected_destination(state: str, trigger: str, known: Knowledge) -> str | None:
    """Where the table leads; None when no row takes the trigger. What ``transitions`` does is tested against this."""
    for row in TABLE:
        if row.trigger == trigger and state in row.sources and all(guard(known) for guard in row.guards):
            return row.destination
    return None
