"""The guide of each needle: where its axis runs through the template, how long it leads, and what play is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats, RigidTransform, unit
from planning.needle_gap import segment_distances_mm
from planning.plan import Plan, PlannedNeedle
from planning.refusal import AskedWrongly
from planning.template_skin import HeightField, Skin

ENTRY_OFF_MM = 3.0  # a planned entry lies this near to the skin that the CT shows
PAD_MM = 4.0  # the skin is known and not too steep within this distance of a guide
RIM_STEP_MM = 4.0
FUNNEL_MM = 0.4  # depth of the funnel at the top of each bore
FUNNEL_WIDER_MM = 0.8  # its radius at the top less the bore's
RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


@dataclass(frozen=True)
class TemplateRules:
    """Dimensions of the printed part, in mm and degrees; figures without a source are assumed.

    Attributes:
        needle_diameter_mm, needle_length_mm: 18 G, 200 mm (CLINIC: Jiang 2021; standard gauge table).
        clearance_mm: bore less needle. With 20 mm of guide 0.17 mm leave 0.49 degrees of play.
        guide_mm: least length of a bore; at least 15 mm.
        most_play_deg: clearance over length, as an angle.
        guide_wall_mm: around each bore; least_wall_mm: between two bores and anywhere around one.
        shell_mm, gap_mm: thickness of the shell, its distance from the skin.
        rim_mm: how far the shell reaches beyond the guides; where marks and balls find no room (steep skin), it is
            widened in steps of ``RIM_STEP_MM`` up to ``widest_rim_mm``.
        steepest_deg: the shell ends where the skin is steeper against the rig's plane.
        grip_mm: how much of a needle stays outside its guide for the applicator.
        ball_mm: diameter of the radio-opaque balls; balls: how many, at least three.
        engraved_mm: depth of lines; printer_mm: build space.
    """

    needle_diameter_mm: float = 1.27
    needle_length_mm: float = 200.0
    clearance_mm: float = 0.17
    guide_mm: float = 20.0
    most_play_deg: float = 0.5
    guide_wall_mm: float = 1.5
    least_wall_mm: float = 1.0
    shell_mm: float = 2.5
    gap_mm: float = 0.3
    rim_mm: float = 22.0
    widest_rim_mm: float = 42.0
    steepest_deg: float = 65.0
    grip_mm: float = 20.0
    ball_mm: float = 3.0
    balls: int = 4
    engraved_mm: float = 0.5
    printer_mm: tuple[float, float, float] = (200.0, 200.0, 200.0)

    @property
    def bore_mm(self) -> float:
        return self.needle_diameter_mm + self.clearance_mm

    @property
    def tube_mm(self) -> float:
        return self.bore_mm + 2.0 * self.guide_wall_mm

    def check(self) -> None:
        """Raises ``AskedWrongly`` when the dimensions don't fit together."""
        sizes = (self.needle_diameter_mm, self.clearance_mm, self.guide_wall_mm, self.shell_mm, self.ball_mm)
        if min(sizes) <= 0.0 or self.gap_mm < 0.0:
            raise AskedWrongly("template: diameters, clearance, walls and thickness must be positive.")
        if self.guide_mm < 15.0:
            raise AskedWrongly(f"template: guides of {self.guide_mm:g} mm; they are at least 15 mm long.")
        if self.balls < 3:
            raise AskedWrongly(f"template: {self.balls} fiducial balls; at least three are needed.")
        play = np.degrees(np.arctan(self.clearance_mm / self.guide_mm))
        if play > self.most_play_deg:
            raise AskedWrongly(
                f"template: {self.clearance_mm:g} mm of clearance in guides of {self.guide_mm:g} mm leave "
                f"{play:.2f} degrees of play, more than {self.most_play_deg:g}; lengthen the guides or narrow the bore."
            )


@dataclass(frozen=True, eq=False)
class Guide:
    """One needle's guide, in the rig frame.

    Attributes:
        needle, hole: names in the plan.
        top_mm: where the axis leaves the outer end of the tube; exit_mm: where it leaves the skin side.
        tip_mm: planned tip.
        direction: unit vector, from top to exit.
        length_mm: how far the bore is closed all around, less the funnel at its top.
        skin_angle_deg: between the needle and the skin's normal.
    """

    needle: str
    hole: str
    top_mm: Floats
    exit_mm: Floats
    tip_mm: Floats
    direction: Floats
    length_mm: float
    skin_angle_deg: float

    @property
    def top_to_tip_mm(self) -> float:
        return float(np.linalg.norm(self.tip_mm - self.top_mm))

    def play_deg(self, rules: TemplateRules) -> float:
        """Largest angle between needle and bore."""
        return float(np.degrees(np.arctan(rules.clearance_mm / self.length_mm)))

    def axes(self) -> Floats:
        """``(3, 3)``, columns: the guide's own x (as near to the rig's x as can be), y and direction."""
        x = unit(np.array([1.0, 0.0, 0.0]) - self.direction[0] * self.direction)
        return np.stack((x, np.cross(self.direction, x), self.direction), axis=1)


def guides_of(plan: Plan, rig_from_patient: RigidTransform, skin: Skin, rules: TemplateRules) -> list[Guide]:
    """Guides whose tops lie in one plane square to the rig's z, high enough that each has its length.

    Raises:
        AskedWrongly: an entry off the skin, skin unknown or too steep, guides too near to each other, a
            needle too short; the message names the needles.
    """
    contact = skin.bridged.outwards(rules.gap_mm)
    entries = rig_from_patient.apply([n.entry_mm for n in plan.needles])
    tips = rig_from_patient.apply([n.tip_mm for n in plan.needles])
    directions = unit(tips - entries)
    _check_skin(plan.needles, entries, directions, skin, rules)
    exits, spans = _exits(entries, directions, contact, rules)
    # The shallowest side of each bore, less the funnel, still has the whole length.
    top_z = float((exits[:, 2] - (rules.guide_mm + FUNNEL_MM + spans) * directions[:, 2]).min())
    along = (exits[:, 2] - top_z) / directions[:, 2]
    guides = []
    for n, needle in enumerate(plan.needles):
        normal = skin.bridged.normal_at(exits[n, :2])
        guides.append(
            Guide(
                needle.name,
                needle.hole,
                exits[n] - along[n] * directions[n],
                exits[n],
                tips[n],
                directions[n],
                float(along[n] - spans[n] - FUNNEL_MM),
                float(np.degrees(np.arccos(np.clip(normal @ directions[n], -1.0, 1.0)))),
            )
        )
    _check_apart(guides, rules)
    _check_lengths(guides, rules)
    return guides


def _check_skin(
    needles: tuple[PlannedNeedle, ...], entries: Floats, directions: Floats, skin: Skin, rules: TemplateRules
) -> None:
    against = [n.name for n, d in zip(needles, directions, strict=True) if d[2] < 0.5]
    if against:
        raise AskedWrongly(
            f"template: {_names(against)} go in more than 60 degrees off the rig's axis; "
            "one template can't guide them."
        )
    x, y = np.meshgrid(skin.surface.x_mm, skin.surface.y_mm)
    bad = ~skin.known | (skin.bridged.slope_deg() > rules.steepest_deg)
    off, bare = [], []
    for needle, entry in zip(needles, entries, strict=True):
        near = np.hypot(x - entry[0], y - entry[1]) <= PAD_MM
        distance = np.abs(skin.surface.z_mm[near] - entry[2]).min()
        if not near.any() or (bad & near).any():
            bare.append(needle.name)
        elif abs(skin.surface.at(entry[:2]).item() - entry[2]) > ENTRY_OFF_MM and distance > ENTRY_OFF_MM:
            off.append(needle.name)
    if bare:
        raise AskedWrongly(
            f"template: around the entry of {_names(bare)} the skin is not in the scan or steeper than "
            f"{rules.steepest_deg:g} degrees; plan entries farther inside or scan more."
        )
    if off:
        raise AskedWrongly(
            f"template: the entry of {_names(off)} lies more than {ENTRY_OFF_MM:g} mm from the skin that the CT "
            "shows; is this the CT the plan was made on?"
        )


def _exits(
    entries: Floats, directions: Floats, contact: HeightField, rules: TemplateRules
) -> tuple[Floats, Floats]:
    """Where each axis leaves the template ``(n, 3)``, and how much earlier the shallowest of its wall does."""
    exits, spans = np.empty_like(entries), np.empty(len(entries))
    for n, (entry, direction) in enumerate(zip(entries, directions, strict=True)):
        side = unit(np.cross(direction, [0.0, 1.0, 0.0]))
        other = np.cross(direction, side)
        ring = entry + (0.5 * rules.bore_mm + FUNNEL_WIDER_MM) * (RING[:, :1] * side + RING[:, 1:] * other)
        starts = np.vstack((entry, ring))
        t = np.arange(-40.0, 15.0, 0.1)
        points = starts[:, None] + t[:, None] * direction
        within = points[..., 2] >= contact.at(points[..., :2])
        first = t[np.argmax(within, axis=1)]
        exits[n] = entry + first[0] * direction
        spans[n] = max(0.0, float(first[0] - first[1:].min())) + 0.3  # steps, and lines between the lattice
    return exits, spans


def _check_apart(guides: list[Guide], rules: TemplateRules) -> None:
    least = rules.bore_mm + rules.least_wall_mm
    for n, one in enumerate(guides):
        for other in guides[n + 1 :]:
            ends = (one.top_mm, one.exit_mm, other.top_mm, other.exit_mm)
            apart = float(segment_distances_mm(*(end[None] for end in ends))[0])
            if apart < least - 1e-6:
                raise AskedWrongly(
                    f"template: needles {one.needle} ({one.hole}) and {other.needle} ({other.hole}) come within "
                    f"{apart:.2f} mm of each other in the template; their bores need {least:.2f} mm."
                )


def _check_lengths(guides: list[Guide], rules: TemplateRules) -> None:
    longest = rules.needle_length_mm - rules.grip_mm
    short = [guide.needle for guide in guides if guide.top_to_tip_mm > longest]
    if short:
        raise AskedWrongly(
            f"template: needles of {rules.needle_length_mm:g} mm are too short for {_names(short)}: from the top "
            f"of the guide to the tip there may be {longest:g} mm; shorten the guides or take longer needles."
        )
    x = np.array([guide.top_mm for guide in guides] + [guide.exit_mm for guide in guides])
    for axis, word in ((0, "x"), (1, "y"), (2, "z")):
        size = float(np.ptp(x[:, axis])) + rules.tube_mm
        if size > max(rules.printer_mm):
            ends = sorted(
                {guides[int(k) % len(guides)].needle for k in (x[:, axis].argmin(), x[:, axis].argmax())}
            )
            raise AskedWrongly(
                f"template: {_names(ends)} lie {size:.0f} mm apart along the rig's {word}; the printer takes "
                f"{max(rules.printer_mm):g} mm; plan two templates."
            )


def _names(names: list[str]) -> str:
    return ("needle " if len(names) == 1 else "needles ") + ", ".join(names)
