"""What is where in the patient: target, body and organs as voxels, and which of them needles must avoid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planning.dicom import Case, Structure
from planning.distance import box_of, distance_mm, grown
from planning.frame import Floats
from planning.mask import Mask, mask_of
from planning.outline import airway_of, body_of, bone_of, skin_of
from planning.refusal import AskedWrongly
from planning.site_protocol import DerivedRules, SiteProtocol, matches
from planning.target import check_slices, find_target, target_mask
from planning.volume import CtVolume, Grid

__all__ = ["Anatomy", "box_of", "build_anatomy", "couch_direction", "distance_mm", "find_target", "mask_of"]

# RT ROI Interpreted Types (PS3.3 C.8.8.8.1) that are aids of planning, not parts of the patient.
HELPER_TYPES = frozenset(
    {
        "EXTERNAL",
        "PTV",
        "CTV",
        "GTV",
        "TREATED_VOLUME",
        "IRRAD_VOLUME",
        "BOLUS",
        "MARKER",
        "REGISTRATION",
        "ISOCENTER",
        "CONTROL",
        "SUPPORT",
        "FIXATION",
        "DOSE_REGION",
        "DOSE_MEASUREMENT",
        "CONTRAST_AGENT",
        "BRACHY_CHANNEL",
        "BRACHY_ACCESSORY",
        "BRACHY_SRC_APP",
        "BRACHY_CHNL_SHLD",
    }
)
MAX_MARGIN_MM = 30.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The patient in voxels; every mask is ``bool (nz, ny, nx)`` on ``ct.grid``.

    Attributes:
        gtv, ctv, body: target, target with margin (inside the body), the patient's outline filled.
        organs: name -> mask, of every drawn structure that is neither target nor planning aid, and of
            Bone, Airway, Skin where these were not drawn (their names are in ``derived``).
        forbidden: name in ``organs`` -> smallest distance (mm) a needle's axis must keep.
        dose_limited: names in ``organs`` a needle may pass.
        target_name: name of the structure that is the GTV.
        couch: unit vector, patient frame, from the patient towards the couch.
        target: the GTV as it was drawn, and ``drawn`` the organs likewise, by name; for figures finer than voxels.
        margin_mm: CTV = GTV grown by this, inside ``ctv_within`` (body without airway) or the GTV itself.
    """

    ct: CtVolume
    gtv: Mask
    ctv: Mask
    body: Mask
    organs: dict[str, Mask]
    forbidden: dict[str, float]
    dose_limited: tuple[str, ...]
    derived: tuple[str, ...]
    target_name: str
    couch: Floats
    target: Structure | None = None
    drawn: dict[str, Structure] = field(default_factory=dict)
    margin_mm: float = 0.0
    ctv_within: Mask | None = None

    @property
    def grid(self) -> Grid:
        return self.ct.grid


def build_anatomy(case: Case, protocol: SiteProtocol, *, target: str | None, margin_mm: float) -> Anatomy:
    """Voxels of everything a plan needs.

    Args:
        target: name of the structure that is the GTV; None takes the one named GTV, or of type GTV.
        margin_mm: CTV = GTV grown by this in three dimensions, cut to the body.

    Raises:
        AskedWrongly: no such target (the message names the structures there are), an empty one, one that
            leaves the scan or the body, or a CTV that leaves the scanned slices.
    """
    if not 0.0 <= margin_mm <= MAX_MARGIN_MM:
        raise AskedWrongly(f"margin {margin_mm:g} mm: give a margin between 0 and {MAX_MARGIN_MM:g} mm.")
    ct, grid, rules = case.ct, case.ct.grid, protocol.derived
    chosen = find_target(case.structures, target)
    gtv = target_mask(chosen, grid)
    check_slices(chosen.name, gtv, grid, margin_mm)

    outline = _drawn_body(case, protocol)
    from_ct = body_of(ct, rules.body_threshold_hu, holding=gtv)
    body = mask_of(outline, grid) if outline is not None else from_ct
    if np.count_nonzero(gtv & body) < 0.5 * np.count_nonzero(gtv):
        where = f"the outline '{outline.name}'" if outline is not None else "the body seen in the CT"
        raise AskedWrongly(f"target '{chosen.name}': more than half of it lies outside {where}.")

    organs, forbidden, passable = {}, {}, []
    drawn: dict[str, Structure] = {}  # by name in ``organs``

    def add(name: str, rule_name: str, mask: Mask) -> None:
        rule = protocol.rule_for(rule_name)
        organs[name] = mask
        if rule.role == "forbidden":
            forbidden[name] = rule.clearance_mm
        else:
            passable.append(name)

    for structure in case.structures:
        if structure is chosen or structure is outline or not structure.contours:
            continue
        role = protocol.rule_for(structure.name).role
        if role == "ignore" or (role != "forbidden" and structure.interpreted_type in HELPER_TYPES):
            continue
        mask = mask_of(structure, grid)
        # Some centres call the whole body "skin"; the dose of a shell is what a skin limit means.
        whole_body = matches(structure.name, rules.skin_names) and mask.sum() > 0.5 * body.sum()
        if mask.any() and not whole_body:
            name = _unused(structure.name, organs)
            drawn[name] = structure
            add(name, structure.name, mask)

    derived = []
    for kind, names in (
        ("Bone", rules.bone_names),
        ("Airway", rules.airway_names),
        ("Skin", rules.skin_names),
    ):
        if not any(matches(other.name, names) for other in drawn.values()):
            mask = _derived(kind, ct, body, from_ct, rules)
            if mask.any():
                derived.append(_unused(kind, organs))
                add(derived[-1], kind, mask)

    within = body.copy()
    if rules.ctv_excludes_airway:
        for name, mask in organs.items():
            if matches(name, rules.airway_names) or (name in derived and name.startswith("Airway")):
                within &= ~mask
    ctv = (grown(chosen, gtv, grid, margin_mm) & within) | gtv
    couch = couch_direction(str(ct.attributes.get("PatientPosition", "")))
    return Anatomy(
        ct,
        gtv,
        ctv,
        body,
        organs,
        forbidden,
        tuple(passable),
        tuple(derived),
        chosen.name,
        couch,
        target=chosen,
        drawn=drawn,
        margin_mm=margin_mm,
        ctv_within=within,
    )


def couch_direction(patient_position: str) -> Floats:
    """Unit vector (LPS) towards the couch, from DICOM's Patient Position; supine when it is not stated."""
    towards = {"P": (0, -1, 0), "DR": (-1, 0, 0), "DL": (1, 0, 0)}.get(patient_position[2:], (0, 1, 0))
    return np.array(towards, dtype=float)


def _drawn_body(case: Case, protocol: SiteProtocol) -> Structure | None:
    drawn = [s for s in case.structures if s.contours]
    for fits in (
        [s for s in drawn if s.interpreted_type == "EXTERNAL"],
        [s for s in drawn if matches(s.name, protocol.derived.body_names)],
    ):
        if fits:
            return fits[0]
    return None


def _derived(kind: str, ct: CtVolume, body: Mask, from_ct: Mask, rules: DerivedRules) -> Mask:
    if kind == "Bone":
        return bone_of(ct, body, rules.bone_threshold_hu, rules.bone_min_cc)
    if kind == "Airway":
        # Air counts where the CT itself shows the body around it: a drawn outline may stand off the skin.
        return airway_of(ct, body & from_ct, rules.airway_threshold_hu, rules.airway_min_cc)
    return skin_of(body, ct.grid, rules.skin_thickness_mm)


def _unused(name: str, taken: dict[str, Mask]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
