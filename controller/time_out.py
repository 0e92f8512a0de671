"""The time-out's checklist: four things, each confirmed by itself, each naming what is confirmed.  Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from controller.commands import AskOperator, Command
from controller.knowledge import Knowledge

ITEMS = ("patient", "plan", "seeds", "cartridges")


def checklist(known: Knowledge) -> list[Command]:
    """One question per item that is not confirmed yet."""
    plan, settings = known.plan, known.settings
    low, high = assay_limits_mci(known)
    total, capacity = len(plan.seeds), settings.cartridge_capacity
    counts = [min(capacity, total - first) for first in range(0, total, capacity)]
    told = {
        "patient": f"This is {plan.patient_name}, {plan.patient_id}: as the patient, the wristband and the CT say.",
        "plan": f"Plan {known.plan_hash[:8].upper()}: {len(plan.needles)} needles, {total} seeds, "
        f"{plan.prescription_gy:g} Gy to {plan.target}. It is the one that was approved.",
        "seeds": f"Seeds {plan.source_model}, planned with {plan.activity_mci:.3g} mCi each. The batch is the "
        f"ordered one, and its measured mean lies between {low:.3f} and {high:.3f} mCi "
        f"({settings.assay_tolerance_pct:g} %, assumed).",
        "cartridges": f"{total} seeds in {len(counts)} cartridges are ready: {', '.join(map(str, counts))}.",
    }
    return [
        AskOperator(0, "confirm_time_out", f"Time-out, {item}. {told[item]} Confirm.", item=item)
        for item in ITEMS
        if item not in known.time_out
    ]


def assay_limits_mci(known: Knowledge) -> tuple[float, float]:
    """Least and largest accepted mean activity of a seed."""
    part = known.settings.assay_tolerance_pct / 100.0
    return known.plan.activity_mci * (1.0 - part), known.plan.activity_mci * (1.0 + part)


def take_in(known: Knowledge, item: str, values: dict[str, Any]) -> str | None:
    """An item was confirmed; why it can't count, in words, or None. Plan and patient count once all items do."""
    measured = values.get("measured_mci")
    if item == "seeds" and measured is not None:
        low, high = assay_limits_mci(known)
        is_number = isinstance(measured, int | float) and not isinstance(measured, bool)
        if not is_number or not np.isfinite(measured) or not low - 1e-9 <= measured <= high + 1e-9:
            return (
                f"measured {measured} mCi a seed, planned {known.plan.activity_mci:.3g}: beyond {low:.3f} to "
                f"{high:.3f}; check batch, date and assay, or plan again with what was measured"
            )
    known.time_out[item] = values
    if set(ITEMS) <= set(known.time_out):
        known.confirmed_hash = known.plan_hash
    return None
