"""What is known, drawn as a snapshot."""

from __future__ import annotations

from controller import protocol
from controller.commands import Command
from controller.decisions import possible
from controller.knowledge import Knowledge
from controller.snapshot import NeedleStatus, Snapshot
from controller.wording import in_words


def picture(
    known: Knowledge, state: str, pending: Command | None, now_ns: int, *, rig: str = "", applicator: str = ""
) -> Snapshot:
    """The procedure at this moment; ``rig``, ``applicator``: the devices' states in words."""
    names = list(protocol.STEPS)
    return Snapshot(
        state=state,
        step_index=names.index(state) if state in names else -1,
        steps=tuple(protocol.STATES[name] for name in names),
        needles=tuple(
            NeedleStatus(
                name=story.plan.name,
                hole=story.plan.hole,
                is_reference=story.plan.is_reference,
                state="verified" if story.is_verified else story.state,
                attempt=story.attempt,
                first_deviation=story.first_deviation,
                deviation=story.deviation,
                seeds_delivered=story.seeds_delivered,
                seeds_planned=len(story.seeds),
                tip_mm=story.plan.tip_mm,
                correction=story.correction,
            )
            for story in known.needles.values()
        ),
        seeds_delivered=len(known.seeds_delivered),
        seeds_planned=known.seeds_intended,
        cartridge_left=known.cartridge_left,
        rig=rig,
        applicator=applicator,
        waiting_for="" if pending is None else in_words(pending),
        virtual_time_s=now_ns / 1e9,
        message=known.held_because or known.message,
        rests_in=known.held_in if state in ("HELD", "PAUSED") else "",
        may_decide=possible(known, state),
        tolerance_mm=known.settings.tolerance_mm,
        under_way=None if pending is None else pending.to_json(),
    )
