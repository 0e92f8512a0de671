"""What must hold before a command may leave.  Pure: (command, what is known, what the devices say) -> verdict.

Each interlock is one function named after what it demands; it returns why the command must not leave, or None.
``REQUIRED`` says which interlocks guard which command: every command type has its entry, also an empty one, so that
a new command without a decision is a failing test and a ``KeyError``, never an open way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from controller.commands import (
    AskOperator,
    BeginLedger,
    ClearLatch,
    CloseGrip,
    Command,
    ConnectApplicator,
    ConnectRig,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    EvaluateNeedles,
    HomeApplicator,
    HomeRig,
    MoveAcross,
    MoveDepth,
    OpenGrip,
    RequestScan,
    RetractNeedle,
)
from controller.knowledge import BOOKED_AS, Knowledge, NeedleStory
from imaging.rescan import RescanFindings
from planning.plan import Plan


@dataclass(frozen=True)
class DeviceFacts:
    """What the devices say of themselves at this moment (not what the controller believes).

    Attributes:
        rig_is_live, applicator_is_live: the link answers.
        rig_knows_position: homed, and neither reset nor alarmed since.
        rig_is_moving, applicator_is_moving: an axis moves.
        estop_open: the e-stop loop is open.
        latch: the applicator's latch, ``NONE`` when free.
        needle_z_um, stylet_z_um: encoders of the retraction and the stylet axis.
        seed_counter: number of the last seed that the applicator intended.
        cartridge_left: seeds that the applicator counts as left.
        cartridge_is_seated: the cartridge switch.
    """

    rig_is_live: bool = False
    rig_knows_position: bool = False
    rig_is_moving: bool = False
    applicator_is_live: bool = False
    applicator_is_moving: bool = False
    estop_open: bool = False
    latch: str = "NONE"
    needle_z_um: int = 0
    stylet_z_um: int = 0
    seed_counter: int = 0
    cartridge_left: int = 0
    cartridge_is_seated: bool = False


@dataclass(frozen=True)
class Refused:
    """A command that must not leave, by which interlock, and why."""

    interlock: str
    reason: str


Interlock = Callable[[Command, Knowledge, DeviceFacts], str | None]

STYLET_HOME_UM = 200
"""The stylet counts as home within this (assumed: a tenth of a seed's diameter would be 80; sensor play)."""


def rig_link_is_live(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A rig that doesn't answer can't be stopped."""
    return None if facts.rig_is_live else "the rig does not answer"


def rig_position_is_known(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """After a reset or alarm a rig's numbers mean nothing until it is homed."""
    return (
        None if facts.rig_knows_position and known.rig_homed else "the rig's position is not known; home it"
    )


def applicator_link_is_live(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """An applicator that doesn't answer can't be stopped, nor asked what it did."""
    return None if facts.applicator_is_live else "the applicator does not answer"


def estop_is_clear(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Nothing moves while the e-stop loop is open."""
    return "the e-stop is pressed" if facts.estop_open else None


def nothing_is_latched(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A latch is cleared by a person who has looked, never by the next command (NRC IN 80-35)."""
    return None if facts.latch == "NONE" else f"the applicator is latched ({facts.latch})"


def plan_is_the_confirmed_one(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """What is carried out is what the time-out confirmed."""
    if known.confirmed_hash is None:
        return "the time-out is not confirmed"
    return None if known.confirmed_hash == known.plan_hash else "the plan is not the one that was confirmed"


def stylet_is_home(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A stylet inside the needle would be bent, or push a seed, when the needle moves."""
    if known.stylet_homed and abs(facts.stylet_z_um) <= STYLET_HOME_UM:
        return None
    return "the stylet is not at home"


def no_axis_moves(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """One axis at a time: no stylet stroke while the needle moves, no needle motion during a stroke."""
    return "an axis is still moving" if facts.rig_is_moving or facts.applicator_is_moving else None


def carriage_is_home(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """The guide moves across only with the carriage at home: a needle in the tissue would be bent."""
    return None if known.carriage_is_home else "the carriage is not at home"


def needle_is_over_its_hole(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """The guide stands where this needle was last sent."""
    needle = getattr(command, "needle", None)
    return None if known.across_for == needle else f"the guide is not over needle {needle}"


def no_other_needle_is_gripped(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """What moves in the grip is the needle that is meant."""
    needle = getattr(command, "needle", None)
    return None if known.gripped in (None, needle) else f"needle {known.gripped} is in the grip"


def needle_to_grip_is_there(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A grip closes on a fresh needle that a person confirmed, or on one that stands here at this depth."""
    assert isinstance(command, CloseGrip)
    story = known.needles[command.needle]
    if known.loaded == command.needle:
        return None
    aim, carriage = story.aim_rig_mm, known.carriage_z_mm
    stands = story.state in ("at reference depth", "in place") and aim is not None and carriage is not None
    if stands and aim is not None and carriage is not None and abs(float(aim[2]) - carriage) <= 0.05:
        return None
    return f"needle {command.needle} is neither loaded nor at the carriage"


def tissue_is_entered_with_a_gripped_needle(
    command: Command, known: Knowledge, facts: DeviceFacts
) -> str | None:
    """In-tissue steps are for a needle in the grip; a free move is for an empty grip, or outside the skin."""
    assert isinstance(command, MoveDepth)
    if command.in_tissue:
        return None if known.gripped == command.needle else f"needle {command.needle} is not in the grip"
    return None


def depth_is_no_more_than_planned(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A tip goes no deeper than the plan plus what the scans told to correct, at most 10 mm (assumed)."""
    assert isinstance(command, MoveDepth)
    deepest_mm = deepest_z_mm(known, known.needles[command.needle])
    if command.z_mm > deepest_mm:
        planned_mm = deepest_mm - DEEPEST_CORRECTION_MM
        return f"needle {command.needle} would go to {command.z_mm:.1f} mm, planned {planned_mm:.1f} mm"
    return None


def deepest_z_mm(known: Knowledge, story: NeedleStory) -> float:
    """How deep a tip may go, rig frame."""
    planned_mm = known.plan.planned_patient_from_rig().inverse().apply(story.target_mm)[2]
    return float(planned_mm) + DEEPEST_CORRECTION_MM


DEEPEST_CORRECTION_MM = 10.0
LEAST_SPACING_MM = 5.0  # usual step of the Mick applicator


def no_seed_delivery_has_begun(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """During delivery needles are only drawn back, by the applicator; the rig moves none."""
    return "seeds are being delivered" if known.ledger_begun else None


def no_needle_is_coupled(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Homing the retraction axis pushes forward: never with a needle on it."""
    assert isinstance(command, HomeApplicator)
    if command.axis == "retraction" and known.coupled is not None:
        return f"needle {known.coupled} is coupled to the applicator"
    return None


def needle_is_coupled(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """The applicator stands on the needle that is meant."""
    needle = getattr(command, "needle", None)
    return None if known.coupled == needle else f"the applicator is not on needle {needle}"


def needle_is_verified(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """No seed before the needle was seen within tolerance in a scan newer than its last motion."""
    needle = getattr(command, "needle", "")
    story = known.needles.get(needle)
    if story is not None and story.is_verified:
        return None
    return f"needle {needle} was not seen within {known.settings.tolerance_mm:g} mm since it last moved"


def needle_is_only_drawn_back(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """No advance of the needle during delivery: a seed may lie right in front of it."""
    assert isinstance(command, RetractNeedle)
    story = known.needles[command.needle]
    if command.z_um < story.last_z_um:
        return f"needle {command.needle} would advance from {story.last_z_um} to {command.z_um} um"
    return None


def seed_is_the_next_one(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Seeds leave in the plan's order; journal and applicator agree on the count."""
    assert isinstance(command, DropSeed)
    if command.seed != known.next_seed():
        return f"seed {command.seed} is not the next one ({known.next_seed()})"
    if known.strokes >= command.stroke:
        return f"stroke {command.stroke} was already intended; ask what became of it"
    if facts.seed_counter != command.stroke - 1 or known.strokes != command.stroke - 1:
        return f"the applicator has counted {facts.seed_counter} strokes, the journal {known.strokes}"
    return None


def seed_is_planned_here(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Never one in another needle or at another place than planned, or than in the adapted plan that was confirmed."""
    assert isinstance(command, DropSeed)
    for seed in known.needles[command.needle].seeds:
        if seed.number == command.seed:
            away_mm = abs(seed.retraction_mm - command.z_um / 1000.0)
            if away_mm <= known.settings.seed_agreement_mm:
                return None
            return f"seed {command.seed} is planned {away_mm:.2f} mm away"
    return f"seed {command.seed} is not planned in needle {command.needle}"


def seeds_are_no_more_than_planned(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """An adapted plan moves seeds and leaves some out; it never adds one to what was confirmed at the time-out."""
    if len(known.seeds_delivered) < len(known.plan.seeds):
        return None
    return f"all {len(known.plan.seeds)} seeds of the plan are delivered"


def seed_keeps_its_distance(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Two seeds of a needle are never nearer than 5 mm, or than the plan's nearest where that has less."""
    assert isinstance(command, DropSeed)
    gaps = [
        abs(b.retraction_mm - a.retraction_mm)
        for needle in known.plan.needles
        for a, b in pairwise(needle.seeds)
    ]
    least_mm = min([LEAST_SPACING_MM, *gaps]) - known.settings.seed_agreement_mm
    for seed in known.needles[command.needle].seeds:
        away_mm = abs(seed.retraction_mm - command.z_um / 1000.0)
        if seed.number in known.seeds_delivered and away_mm < least_mm:
            return f"seed {command.seed} would lie {away_mm:.2f} mm from seed {seed.number}"
    return None


def seed_lies_in_the_verified_channel(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A seed lies in the channel that a CT has shown: not before the plan's deepest, and behind the skin."""
    assert isinstance(command, DropSeed)
    needle, at_mm = known.needles[command.needle].plan, command.z_um / 1000.0
    deepest_mm = min(seed.retraction_mm for seed in needle.seeds)
    if deepest_mm - known.settings.seed_agreement_mm <= at_mm <= needle.depth_mm:
        return None
    return (
        f"seed {command.seed} would leave {at_mm:.2f} mm behind the tip; needle {command.needle} allows "
        f"{deepest_mm:.2f} to {needle.depth_mm:.2f} mm"
    )


def needle_stands_where_the_seed_goes(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """The encoder agrees with the place at which the seed shall leave."""
    assert isinstance(command, DropSeed)
    away_mm = abs(facts.needle_z_um - command.z_um) / 1000.0
    if away_mm <= known.settings.seed_agreement_mm:
        return None
    return f"the needle stands {away_mm:.2f} mm from where seed {command.seed} leaves"


def cartridge_holds_a_seed(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Never more seeds than loaded; the controller's and the applicator's counts agree."""
    if not facts.cartridge_is_seated:
        return "the cartridge is not seated"
    if facts.cartridge_left < 1:
        return "the cartridge is empty"
    if known.cartridge_left is not None and known.cartridge_left != facts.cartridge_left:
        return f"the applicator counts {facts.cartridge_left} seeds left, the journal {known.cartridge_left}"
    return None


def cartridge_is_the_next_one(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """Cartridges are numbered without a gap and hold no more than they can."""
    assert isinstance(command, DeclareCartridge)
    if command.cartridge != known.cartridge + 1:
        return f"cartridge {command.cartridge} is not the next one ({known.cartridge + 1})"
    if not 1 <= command.count <= known.settings.cartridge_capacity:
        return f"a cartridge holds 1 to {known.settings.cartridge_capacity} seeds, not {command.count}"
    return None


def latch_may_be_cleared(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """What became of a seed is told by a person who has counted and looked, not by going on (NRC ENS 44143)."""
    assert isinstance(command, ClearLatch)
    doubt = known.doubt
    if command.latch in ("WATCH", "STOP", "ESTOP") and facts.latch in ("NONE", command.latch):
        return None
    if doubt is not None and doubt.where and facts.latch == command.latch == doubt.latch:
        if (command.stroke, command.booked_as) == (doubt.stroke, BOOKED_AS[doubt.where]):
            return None
        return f"stroke {doubt.stroke}'s seed was found in the {doubt.where}; it would be booked otherwise"
    return f"latch {facts.latch} needs a person who has counted the seeds and looked at a CT"


def needle_is_not_abandoned(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """What a person abandoned stays as it is: neither moved nor used for a seed."""
    story = known.needles.get(getattr(command, "needle", ""))
    if story is not None and story.state == "abandoned":
        return f"needle {story.plan.name} was abandoned ({story.abandoned_because})"
    return None


def no_seed_is_in_doubt(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """A seed that nobody has found may lie in front of the next one, or still be counted twice."""
    if known.doubt is None:
        return None
    return f"nobody has told where the seed of stroke {known.doubt.stroke} is"


def every_seed_is_accounted_for(command: Command, known: Knowledge, facts: DeviceFacts) -> str | None:
    """The count closes only when what a person takes out is what journal and applicator say is left."""
    assert isinstance(command, EndLedger)
    if command.returned != (known.cartridge_left or 0):
        return f"{command.returned} seeds taken out, {known.cartridge_left or 0} should be left"
    return None


_RIG_MOTION: tuple[Interlock, ...] = (
    rig_link_is_live,
    rig_position_is_known,
    estop_is_clear,
    no_axis_moves,
    plan_is_the_confirmed_one,
    no_seed_delivery_has_begun,
)
_APPLICATOR_MOTION: tuple[Interlock, ...] = (
    applicator_link_is_live,
    estop_is_clear,
    nothing_is_latched,
    no_axis_moves,
)

REQUIRED: dict[type[Command], tuple[Interlock, ...]] = {
    AskOperator: (),
    ConnectRig: (),
    HomeRig: (
        rig_link_is_live,
        estop_is_clear,
        no_axis_moves,
        no_seed_delivery_has_begun,
        no_other_needle_is_gripped,
    ),
    MoveAcross: (*_RIG_MOTION, needle_is_not_abandoned, carriage_is_home, no_other_needle_is_gripped),
    CloseGrip: (
        *_RIG_MOTION,
        needle_is_not_abandoned,
        needle_is_over_its_hole,
        no_other_needle_is_gripped,
        needle_to_grip_is_there,
    ),
    MoveDepth: (
        *_RIG_MOTION,
        needle_is_not_abandoned,
        needle_is_over_its_hole,
        no_other_needle_is_gripped,
        tissue_is_entered_with_a_gripped_needle,
        depth_is_no_more_than_planned,
    ),
    OpenGrip: (*_RIG_MOTION, no_other_needle_is_gripped),
    ConnectApplicator: (),
    HomeApplicator: (*_APPLICATOR_MOTION, no_needle_is_coupled),
    ClearLatch: (applicator_link_is_live, estop_is_clear, no_axis_moves, latch_may_be_cleared),
    BeginLedger: (applicator_link_is_live, nothing_is_latched, plan_is_the_confirmed_one),
    DeclareCartridge: (applicator_link_is_live, plan_is_the_confirmed_one, cartridge_is_the_next_one),
    RetractNeedle: (
        *_APPLICATOR_MOTION,
        plan_is_the_confirmed_one,
        no_seed_is_in_doubt,
        needle_is_not_abandoned,
        needle_is_coupled,
        needle_is_verified,
        stylet_is_home,
        needle_is_only_drawn_back,
    ),
    DropSeed: (
        *_APPLICATOR_MOTION,
        plan_is_the_confirmed_one,
        no_seed_is_in_doubt,
        needle_is_not_abandoned,
        needle_is_coupled,
        needle_is_verified,
        stylet_is_home,
        seed_is_the_next_one,
        seed_is_planned_here,
        seeds_are_no_more_than_planned,
        seed_keeps_its_distance,
        seed_lies_in_the_verified_channel,
        needle_stands_where_the_seed_goes,
        cartridge_holds_a_seed,
    ),
    EndLedger: (
        applicator_link_is_live,
        nothing_is_latched,
        no_seed_is_in_doubt,
        every_seed_is_accounted_for,
    ),
    RequestScan: (no_axis_moves,),
    EvaluateNeedles: (),
}


def judge(command: Command, known: Knowledge, facts: DeviceFacts) -> Refused | None:
    """The first interlock that holds the command back, or None when it may leave."""
    for interlock in REQUIRED[type(command)]:
        reason = interlock(command, known, facts)
        if reason is not None:
            return Refused(interlock.__name__, reason)
    return None


def scan_belongs_to_plan(findings: RescanFindings, plan: Plan) -> str | None:
    """Patient and frame of reference of every scan are the plan's; a scan of somebody else is not looked at."""
    if findings.identity.patient_id != plan.patient_id:
        return f"the scan is of patient {findings.identity.patient_id}, the plan of {plan.patient_id}"
    if findings.identity.frame_of_reference_uid != plan.frame_of_reference_uid:
        return "the scan has another frame of reference than the plan"
    return None
