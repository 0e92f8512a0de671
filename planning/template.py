"""The printed template of a plan: from the patient's skin and the needles to a checked part and its files.

The part stands in the rig frame of the plan (mm; +z into the patient). ``TEMPLATE.md`` says what is on it, how
its files are laid out and how it is checked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from planning.frame import Floats, RigidTransform
from planning.mask import Mask
from planning.plan import Plan, rounded_point
from planning.refusal import AskedWrongly
from planning.template_check import CheckRow, check_file
from planning.template_file import read_stl, read_threemf, stl_bytes, template_paths, threemf_bytes
from planning.template_guide import RIM_STEP_MM, Guide, TemplateRules, guides_of
from planning.template_layout import ID_LETTERS, Layout, NoRoomError, lay_out
from planning.template_skin import skin_over
from planning.template_solid import Solid, build_solid
from planning.volume import Grid
from planning.whole_file import write_whole

FORMAT = "seedguide-template/1"
ABOVE_MM, BELOW_MM = 90.0, 60.0  # the skin is looked for this far before and behind the entries
AXES = "xyz"
PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}


@dataclass(frozen=True, eq=False)
class Template:
    """A checked part.

    Attributes:
        plan_hash: of the plan it was made for; patient_id: of its CT.
        patient_from_rig: where the part lies in the patient.
        guides, layout, solid: what it is made of.
        guide_lengths_mm: needle -> length of its guide as measured on the file.
        checks: the self-check's table.
        stl, threemf: the files' bytes.
    """

    plan_hash: str
    patient_id: str
    patient_from_rig: RigidTransform
    rules: TemplateRules
    guides: tuple[Guide, ...]
    layout: Layout
    solid: Solid
    guide_lengths_mm: dict[str, float]
    checks: tuple[CheckRow, ...]
    stl: bytes
    threemf: bytes

    def to_json(self) -> dict[str, Any]:
        """What others need to know of the part: balls, guides, laser planes, checks."""

        def both(name: str, point_rig_mm: Floats) -> dict[str, Any]:
            patient = self.patient_from_rig.apply(point_rig_mm)
            return {
                f"{name}_rig_mm": list(rounded_point(point_rig_mm)),
                f"{name}_patient_mm": list(rounded_point(patient)),
            }

        return {
            "format": FORMAT,
            "plan_content_hash": self.plan_hash,
            "engraved_plan_id": self.plan_hash[:ID_LETTERS].upper(),
            "patient_id": self.patient_id,
            "patient_from_rig": self.patient_from_rig.matrix().tolist(),
            "rules": asdict(self.rules),
            "bore_mm": round(self.rules.bore_mm, 3),
            "fiducials": [
                {"name": f"F{n}", "diameter_mm": self.rules.ball_mm, **both("centre", ball)}
                for n, ball in enumerate(self.layout.balls_mm, start=1)
            ],
            "needles": [
                {
                    "name": guide.needle,
                    "hole": guide.hole,
                    **both("top", guide.top_mm),
                    **both("exit", guide.exit_mm),
                    "guide_length_mm": round(self.guide_lengths_mm[guide.needle], 2),
                    "play_deg": round(
                        float(
                            np.degrees(
                                np.arctan(self.rules.clearance_mm / self.guide_lengths_mm[guide.needle])
                            )
                        ),
                        3,
                    ),
                    "skin_angle_deg": round(guide.skin_angle_deg, 1),
                    "top_to_tip_mm": round(guide.top_to_tip_mm, 2),
                }
                for guide in self.guides
            ],
            "laser_planes": [
                {"plane": PLANES[axis], f"{AXES[axis]}_patient_mm": value}
                for axis, value in self.layout.laser_planes.items()
            ],
            "laser_crosses": [
                {
                    **both("middle", cross.middle_mm),
                    "arms": [
                        {"plane": PLANES[axis], f"{AXES[axis]}_patient_mm": value, "half_length_mm": half}
                        for axis, value, half in cross.planes
                    ],
                }
                for cross in self.layout.crosses
            ],
            "arrow": {"H": "towards the head", "A": "to the front"}[self.layout.arrow],
            "checks": [asdict(row) for row in self.checks],
            "files": {
                "template.stl": hashlib.sha256(self.stl).hexdigest(),
                "template.3mf": hashlib.sha256(self.threemf).hexdigest(),
            },
        }


def make_template(plan: Plan, body: Mask, grid: Grid, rules: TemplateRules | None = None) -> Template:
    """Build a plan's template and check what its files hold.

    Args:
        body: ``bool (nz, ny, nx)`` on ``grid``: the patient's outline in the CT the plan was made on.

    Raises:
        AskedWrongly: dimensions that don't fit together, or needles that this skin, printer or each other
            leave no room for; the message names them.
    """
    rules = rules or TemplateRules()
    rules.check()
    if not plan.needles:
        raise AskedWrongly("template: the plan has no needles.")
    patient_from_rig = plan.planned_patient_from_rig()
    rig_from_patient = patient_from_rig.inverse()
    entries = rig_from_patient.apply([needle.entry_mm for needle in plan.needles])
    _check_spread(plan, entries, rules)
    plan_hash = plan.content_hash
    while True:
        room = rules.rim_mm + 15.0
        low, high = entries.min(axis=0) - room, entries.max(axis=0) + room
        low[2], high[2] = entries[:, 2].min() - ABOVE_MM, entries[:, 2].max() + BELOW_MM
        skin = skin_over(body, grid, rig_from_patient, low, high)
        guides = guides_of(plan, rig_from_patient, skin, rules)
        outer = skin.bridged.outwards(rules.gap_mm).outwards(rules.shell_mm)
        try:
            layout = lay_out(guides, skin, outer, rig_from_patient, plan_hash, rules)
        except NoRoomError:
            # Steep skin ends the shell on one side; what has no room there finds it farther out on the others.
            if rules.rim_mm + RIM_STEP_MM > rules.widest_rim_mm:
                raise
            rules = replace(rules, rim_mm=rules.rim_mm + RIM_STEP_MM)
        else:
            break
    solid = build_solid(guides, skin, layout, rig_from_patient, rules)
    if not len(solid.triangles):
        raise AskedWrongly("template: nothing is left of the part; check the plan's needles and its CT.")

    title = f"seedguide template, plan {plan_hash[:16]}, mm, rig frame"
    stl = stl_bytes(solid.vertices_mm, solid.triangles, title)
    threemf = threemf_bytes(
        solid.vertices_mm,
        solid.triangles,
        {"Title": title, "Application": "seedguide", "Description": plan_hash},
    )
    corners = read_stl(stl, "template.stl")
    rows, lengths = check_file(corners, guides, solid.genus_uncut, rules)
    if not np.array_equal(read_threemf(threemf), corners):
        raise AskedWrongly("template: the 3MF file does not hold the same triangles as the STL file.")
    rows.append(CheckRow("3MF holds the same triangles", "yes", "yes"))
    return Template(
        plan_hash,
        plan.patient_id,
        patient_from_rig,
        rules,
        tuple(guides),
        layout,
        solid,
        lengths,
        tuple(rows),
        stl,
        threemf,
    )


def write_template(template: Template, folder: Path) -> dict[str, Path]:
    """Write ``template.stl``, ``.3mf`` and ``.json`` into a folder; each whole or not at all."""
    paths = template_paths(folder)
    write_whole(paths["stl"], template.stl)
    write_whole(paths["3mf"], template.threemf)
    text = json.dumps(template.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_whole(paths["json"], text.encode())
    return paths


def _check_spread(plan: Plan, entries: Floats, rules: TemplateRules) -> None:
    """Before anything as large as the patient is built: would the guides alone fit the printer?"""
    for axis in (0, 1):
        size = float(np.ptp(entries[:, axis])) + rules.tube_mm
        if size > max(rules.printer_mm):
            ends = sorted(
                plan.needles[int(k)].name for k in (entries[:, axis].argmin(), entries[:, axis].argmax())
            )
            raise AskedWrongly(
                f"template: needles {ends[0]} and {ends[1]} enter {size:.0f} mm apart along the rig's {AXES[axis]}; "
                f"the printer takes {max(rules.printer_mm):g} mm; make two plans."
            )
