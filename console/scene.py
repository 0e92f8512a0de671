"""What there is to look at: CT volumes, structures, doses, needles and seeds, as numbers that a page can draw.

Everything is in the plan's patient frame (DICOM LPS, mm) but the rescans' voxels: those stay as the scanner made
them, and ``scan_from_plan`` says where the plan lies in them. Reads files; knows no procedure and no network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from imaging.postplan import dose_of_the_day
from planning.anatomy import Anatomy, build_anatomy
from planning.dicom import Case, read_case, read_ct
from planning.dose_box import dose_box
from planning.dvh import StructureStatistics, dvh_curve
from planning.frame import Floats
from planning.goals import judge_goals
from planning.mask import Mask
from planning.plan import Plan
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol, load_site_protocol
from planning.sources import load_source
from planning.volume import CtVolume, Grid

ISODOSE_PCT = (50.0, 100.0, 150.0)
MESH_TRIANGLES = 8_000
"""More than this a page without a graphics card can't turn fluently."""
_TARGETS = {"GTV": "#ff4d4d", "CTV": "#ff9b3d"}
_ORGANS = ("#9ad0ff", "#c8a2ff", "#7fe0b0", "#ffd1e8", "#d8d8a0", "#a0e8e8", "#e0b080", "#b8c8ff")
_ISODOSES = {50.0: ("#4d9bff", [2, 3]), 100.0: ("#ffe600", []), 150.0: ("#ff5cf4", [7, 3])}
_DVH_POINTS = 121


@dataclass(frozen=True, eq=False)
class DoseFigures:
    """A dose with what is said of it."""

    dose_gy: NDArray[np.float32]
    grid: Grid
    statistics: dict[str, StructureStatistics]


class Scene:
    """One plan on its patient.

    Args:
        plan: the plan.
        case: planning CT and structures; another CT than the plan's is refused.
        protocol: its site protocol, for goals.
    """

    def __init__(self, plan: Plan, case: Case, protocol: SiteProtocol) -> None:
        if case.ct.frame_of_reference_uid != plan.frame_of_reference_uid:
            raise AskedWrongly("the CT is not the one that the plan was made on (frame of reference).")
        self.plan, self.case, self.protocol = plan, case, protocol
        self.anatomy: Anatomy = build_anatomy(case, protocol, target=plan.target, margin_mm=plan.margin_mm)
        self._source = load_source(plan.source_model)
        self._masks: dict[str, Mask] = {
            "GTV": self.anatomy.gtv,
            "CTV": self.anatomy.ctv,
            **self.anatomy.organs,
        }
        self.planned = self.dose(plan.seed_centres_mm(), plan.seed_directions())

    @staticmethod
    def load(plan: Path, case: Path) -> Scene:
        """Read ``plan.json`` and the case's folder.

        Raises:
            AskedWrongly: either is missing, damaged, or of another patient.
        """
        the_plan = Plan.load(plan)
        return Scene(the_plan, read_case(case), load_site_protocol(the_plan.site_protocol))

    # --- what is listed ---------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """Everything but voxels: what the page asks for first."""
        plan = self.plan
        return {
            "patient": {"id": plan.patient_id, "name": plan.patient_name},
            "plan": {
                "hash": plan.content_hash,
                "target": plan.target,
                "prescription_gy": plan.prescription_gy,
                "source": plan.source_model,
                "activity_mci": plan.activity_mci,
                "seeds": len(plan.seeds),
            },
            "ct": grid_words(self.case.ct.grid),
            "needles": [
                {
                    "name": needle.name,
                    "hole": needle.hole,
                    "is_reference": needle.is_reference,
                    "entry_mm": list(needle.entry_mm),
                    "tip_mm": list(needle.tip_mm),
                    "seeds": [
                        {"number": seed.number, "centre_mm": list(seed.centre_mm)} for seed in needle.seeds
                    ],
                    "direction": [round(float(v), 6) for v in needle.direction],
                }
                for needle in plan.needles
            ],
            "structures": [
                {"name": name, "colour": colour, "is_target": name in _TARGETS, **grid_words(self._box(name))}
                for name, colour in self._colours().items()
            ],
            "isodoses": [
                {
                    "percent": percent,
                    "level_gy": plan.prescription_gy * percent / 100.0,
                    "colour": _ISODOSES[percent][0],
                    "dash": _ISODOSES[percent][1],
                }
                for percent in ISODOSE_PCT
            ],
            "dose": grid_words(self.planned.grid),
            "template_mm": self._template(),
        }

    def _template(self) -> list[list[float]]:
        """The plate that holds the needles: four corners, 10 mm outside the outermost needles.

        It lies where the rig's depth is 0: square to the needles, in the plan's frame.
        """
        pose = self.plan.planned_patient_from_rig()
        tips = pose.inverse().apply(np.array([needle.tip_mm for needle in self.plan.needles]))
        low, high = tips[:, :2].min(axis=0) - 10.0, tips[:, :2].max(axis=0) + 10.0
        corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
        return [[round(float(v), 3) for v in pose.apply((x, y, 0.0))] for x, y in corners]

    def _colours(self) -> dict[str, str]:
        """The targets, then those organs that the dose reaches."""
        shown = [name for name in self.planned.statistics if name not in _TARGETS]
        organs = {name: _ORGANS[i % len(_ORGANS)] for i, name in enumerate(shown)}
        return {**_TARGETS, **organs}

    # --- voxels -----------------------------------------------------------------------------------------

    def structure_bytes(self, name: str) -> bytes:
        """The structure as 0 and 1, one byte a voxel, on the grid that ``summary`` gives for it.

        Raises:
            KeyError: no such structure.
        """
        mask = self._masks[name]
        return np.ascontiguousarray(mask[self._slices(name)], dtype=np.uint8).tobytes()

    @lru_cache(maxsize=64)  # noqa: B019  one scene lives as long as its process
    def _slices(self, name: str) -> tuple[slice, slice, slice]:
        """The box that holds the structure, with one empty voxel around it where the CT has one."""
        where = [np.flatnonzero(self._masks[name].any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        z, y, x = (
            slice(max(0, int(at[0]) - 1), min(count, int(at[-1]) + 2)) if len(at) else slice(0, 1)
            for at, count in zip(where, self._masks[name].shape, strict=True)
        )
        return z, y, x

    def _box(self, name: str) -> Grid:
        return self.anatomy.grid.cropped(self._slices(name))

    # --- dose -------------------------------------------------------------------------------------------

    def dose(self, centres_mm: Floats, directions: Floats) -> DoseFigures:
        """Of seeds wherever they are, each of the plan's strength."""
        plan = self.plan
        return DoseFigures(
            *dose_of_the_day(
                self._source,
                centres_mm,
                directions,
                plan.air_kerma_strength_u,
                self.anatomy,
                plan.prescription_gy,
            )
        )

    def dose_words(self, figures: DoseFigures) -> dict[str, Any]:
        """DVH curves, the figures of target and organs, and which goals are met."""
        rx = self.plan.prescription_gy
        levels = np.linspace(0.0, 3.0 * rx, _DVH_POINTS)
        box, stride = dose_box(self.anatomy)
        sampled = tuple(slice(b.start, b.stop, step) for b, step in zip(box, stride, strict=True))
        curves = [
            {
                "name": name,
                "colour": colour,
                "percent": [
                    round(float(v), 2)
                    for v in dvh_curve(
                        name, self._masks[name][sampled], figures.dose_gy, figures.grid, levels
                    )
                ],
            }
            for name, colour in self._colours().items()
        ]
        return {
            "levels_gy": [round(float(v), 2) for v in levels],
            "curves": curves,
            "statistics": {
                name: {
                    key: None if value is None else round(float(value), 2)
                    for key, value in asdict(found).items()
                    if key != "name"
                }
                for name, found in figures.statistics.items()
            },
            "goals": [
                {
                    "wanted": goal.wanted,
                    "value": round(goal.value, 2),
                    "unit": goal.unit,
                    "is_met": goal.met,
                    "source": goal.source,
                }
                for goal in judge_goals(self.protocol, figures.statistics, rx)
            ],
        }

    # --- three dimensions -------------------------------------------------------------------------------

    def mesh(self, name: str) -> dict[str, Any]:
        """Surface of a structure, or of ``Body`` (the skin), as triangles in mm.

        Sampled so coarsely that it has at most ``MESH_TRIANGLES``.

        Raises:
            KeyError: no such structure.
        """
        mask = self.anatomy.body if name == "Body" else self._masks[name]
        grid = self.anatomy.grid
        if name != "Body":
            mask, grid = mask[self._slices(name)], self._box(name)
        for step in range(1, 33):
            stride = (max(1, round(step * grid.spacing_mm[0] / grid.spacing_mm[2])), step, step)
            coarse = np.pad(mask[tuple(slice(None, None, s) for s in stride)].astype(np.float32), 1)
            if not (coarse.any() and coarse.shape[0] > 2):
                break
            points, triangles, _, _ = measure.marching_cubes(coarse, 0.5)  # type: ignore[no-untyped-call]
            if len(triangles) <= MESH_TRIANGLES:
                at = grid.point_of((points - 1.0) * np.asarray(stride))
                return {
                    "name": name,
                    "points_mm": np.round(at, 1).tolist(),
                    "triangles": triangles.tolist(),
                }
        return {"name": name, "points_mm": [], "triangles": []}


class ScanShelf:
    """The CTs of a run, read when somebody looks at them; the latest few are kept.

    Args:
        planning_ct: shown as scan 0, of which every plan coordinate is one of its own.
    """

    KEPT = 3

    def __init__(self, planning_ct: CtVolume) -> None:
        self._planning_ct = planning_ct
        self._kept: dict[Path, CtVolume] = {}

    def volume(self, folder: Path | None) -> CtVolume:
        """The CT in ``folder``; None: the planning CT.

        Raises:
            AskedWrongly: no CT series there.
        """
        if folder is None:
            return self._planning_ct
        if folder not in self._kept:
            while len(self._kept) >= self.KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[folder] = read_ct(folder)
        return self._kept[folder]


def grid_words(grid: Grid) -> dict[str, Any]:
    """A grid as the page wants it."""
    return {
        "shape": list(grid.shape),
        "origin_mm": [round(v, 6) for v in grid.origin_mm],
        "spacing_mm": [round(v, 6) for v in grid.spacing_mm],
    }
