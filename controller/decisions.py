"""What a person may decide beside confirming, and what is known after it.

A decision changes what is known and never sends anything; what follows is the table's and the agenda's. One that
does not fit the moment changes nothing and says so; it is in the journal all the same.
"""

from __future__ import annotations

from controller import protocol
from controller.events import OperatorDecided
from controller.knowledge import BOOKED_AS, Knowledge, NeedleStory

KINDS: dict[str, str] = {
    "pause": "while working: rest at the next safe point",
    "end_pause": "while paused: go on",
    "repeat_scan": "while a CT is taken or looked at: take another one, whatever this one shows",
    "grant_attempts": "while held: `count` more insertions and corrections of `needle`",
    "abandon_needle": "while held: `needle` is taken out; its seeds that are left are not delivered",
    "seed_is": "while held by a seed in doubt: a person found it in `where`: patient, needle or cartridge",
    "change_cartridge": "while held or paused in delivery: another cartridge before the next seed",
    "rig_by_hand": "while held: the rig is put aside; from here on people move the needles through the template",
    "applicator_by_hand": "while held: the applicator is put aside; people draw back and push with one of their own",
    "accept_seed_count": "while held by extra seeds in the CT: `count` of them are accounted for by people",
    "abort": "while held or paused, with a reason: needles out, seeds counted, end; while held in it: all by hand",
}

TYPED: dict[str, str] = {
    "grant_attempts": "NEEDLE COUNT",
    "abandon_needle": "NEEDLE because REASON",
    "seed_is": "patient|needle|cartridge because REASON",
    "accept_seed_count": "COUNT because REASON",
    "rig_by_hand": "because REASON",
    "applicator_by_hand": "because REASON",
    "abort": "because REASON",
}
"""What follows a decision's kind where it is typed (``decision_of``)."""


def possible(known: Knowledge, state: str) -> tuple[str, ...]:
    """The kinds that a person may decide at this moment."""
    is_held = state == "HELD"
    is_resting = state in ("HELD", "PAUSED")
    may = {
        "pause": state in protocol.WORKING,
        "end_pause": state == "PAUSED",
        "repeat_scan": state in protocol.SCANNED_IN,
        "grant_attempts": is_held,
        "abandon_needle": is_held and any(_may_be_abandoned(story) for story in known.needles.values()),
        "seed_is": is_held and known.doubt is not None,
        "change_cartridge": is_resting and known.held_in == "DELIVERING_SEEDS" and known.seated is not None,
        "rig_by_hand": is_held and not known.rig_by_hand,
        "applicator_by_hand": is_held and not known.applicator_by_hand,
        "accept_seed_count": is_held and known.held_in == "AWAITING_SEED_SCAN",
        "abort": is_resting,
    }
    return tuple(kind for kind in KINDS if may[kind])


def decide(known: Knowledge, state: str, event: OperatorDecided) -> tuple[str | None, str]:
    """Take a decision in: the trigger that it pulls, if any, and what was decided, in words."""
    story, doubt = known.needles.get(event.needle or ""), known.doubt
    by = f"by {event.who}" + (f": {event.reason}" if event.reason else "")
    refused = None, f"{event.kind} can't be decided here ({by})"
    if event.kind not in possible(known, state):
        return refused
    match event.kind:
        case "pause":
            known.pause_wished = True
            return None, f"pause asked for {by}"
        case "end_pause":
            return "pause_ended", f"pause ended {by}"
        case "repeat_scan":
            known.scan_wished = True
            return None, f"another CT asked for {by}"
        case "grant_attempts" if story is not None and event.count > 0:
            story.attempts_granted += event.count
            return None, f"needle {event.needle}: {event.count} more attempts granted {by}"
        case "abandon_needle" if story is not None and _may_be_abandoned(story):
            if doubt is not None and doubt.needle == event.needle and not doubt.where:
                return None, f"needle {event.needle} holds a seed in doubt: say first where it is ({by})"
            abandon(known, story.plan.name, by)
            return None, f"needle {event.needle} abandoned {by}"
        case "seed_is" if doubt is not None and event.where in BOOKED_AS:
            doubt.where = event.where
            known.delivery_changed = True
            if event.where == "needle":
                abandon(known, doubt.needle, f"a seed is in it, told {by}")
            return None, f"seed {doubt.seed} is in the {event.where}, told {by}"
        case "change_cartridge":
            known.cartridge_to_change = known.delivery_changed = True
            return None, f"another cartridge before the next seed {by}"
        case "accept_seed_count" if event.count > 0:
            known.seeds_accepted = event.count
            return None, f"{event.count} seeds in the CT accounted for {by}"
        case "rig_by_hand":
            known.rig_by_hand = known.rig_taken_over = True
            return None, f"the rig is put aside, people move the needles {by}"
        case "applicator_by_hand":
            if doubt is not None:
                return None, f"seed {doubt.seed} is in doubt in the applicator: clear that first ({by})"
            known.applicator_by_hand = known.stylet_homed = known.retraction_homed = True
            known.coupled, known.retraction_at_home = None, False
            known.cartridge_to_change = known.seated is not None
            known.delivery_changed = True
            return None, f"the applicator is put aside, people deliver by hand {by}"
        case "abort" if event.reason:
            known.abort_by_hand = known.held_in == "ABORTING"
            return "abort_decided", f"aborted {by}"
    return refused


def incomplete(event: OperatorDecided) -> str | None:
    """What a decision lacks to be one, in words; None when nothing."""
    if event.kind in ("grant_attempts", "abandon_needle") and event.needle is None:
        return f"{event.kind} names a needle"
    if event.kind in ("grant_attempts", "accept_seed_count") and event.count < 1:
        return f"{event.kind} names a count of at least 1"
    if event.kind == "seed_is" and event.where not in BOOKED_AS:
        return f"seed_is says where the seed is: {', '.join(BOOKED_AS)}"
    if (
        event.kind in ("abandon_needle", "abort", "rig_by_hand", "applicator_by_hand")
        and not event.reason.strip()
    ):
        return f"{event.kind} needs a reason"
    return None


def decision_of(line: str, who: str) -> OperatorDecided | str:
    """A decision as a person types it: KIND, needle, number or place as it needs, ``because`` and the reason.

    ``seed_is patient because seen in the CT``; ``grant_attempts N03 2``; ``abort because the patient is unwell``.
    What it is not, in words, when it is none.
    """
    words, _, reason = line.strip().partition(" because ")
    kind, *about = words.split() or [""]
    if kind not in KINDS:
        return f"'{kind}' is no decision; decisions are {', '.join(KINDS)}"
    where = next((word for word in about if word in BOOKED_AS), "")
    count = next((int(word) for word in about if word.isdecimal()), 0)
    needle = next((word for word in about if word != where and not word.isdecimal()), None)
    event = OperatorDecided(kind, who, reason.strip(), needle, count, where)
    return incomplete(event) or event


def _may_be_abandoned(story: NeedleStory) -> bool:
    return story.state not in ("delivered", "abandoned")


def abandon(known: Knowledge, name: str, because: str) -> None:
    """No more of this needle: what stands of it is taken out, what is left of its seeds is not delivered."""
    story = known.needles[name]
    story.state, story.abandoned_because = "abandoned", because
    story.off_target, story.verified, story.correction = False, None, None
    known.unseen = tuple(other for other in known.unseen if other != name)
    known.delivery_changed = known.evaluation_due = True
