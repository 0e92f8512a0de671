"""Everything of a run, written into a folder that 3D Slicer opens as it is (SLICER.md)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from console.news import News, ShownScan
from console.scene import Scene
from console.slicer.markups import ControlPoint, markup_text
from console.slicer.model import Surface, joined, needle_surface, ply_bytes, surface_of
from console.slicer.volume import nrrd_bytes, tfm_bytes
from controller.journal import read_journal
from controller.order import JOURNAL_FILE
from planning.dicom import read_ct
from planning.dicom_files import find_dicom
from planning.frame import Floats, RigidTransform
from planning.mask import Mask
from planning.refusal import AskedWrongly
from planning.template import make_template
from planning.template_file import read_stl
from planning.whole_file import write_whole

SHAFT_MM = 150.0
"""Length at which a needle is drawn (assumed; 18 G implant needles are 150 to 200 mm long)."""
SCRIPT = Path(__file__).parents[1] / "templates" / "open_in_slicer.py.txt"
_PLANNED, _FOUND, _DELIVERED = (0.35, 0.6, 1.0), (1.0, 0.75, 0.2), (0.3, 0.85, 0.4)


@dataclass(frozen=True)
class Exported:
    """What was written, in words, and what could not be."""

    told: tuple[str, ...]
    left_out: tuple[str, ...]


class SlicerFolder:
    """One run on its way into one folder.

    Args:
        run: the run's folder, or a plan's.
        case: the planning CT's folder.
        out: exists and is empty.
        progress: gets a line for each step.
    """

    def __init__(self, run: Path, case: Path, out: Path, progress: Callable[[str], None]) -> None:
        self._run, self._case, self._out, self._progress = run, case, out, progress
        self._scene = Scene.load(run / "plan.json", case)
        self._plan = self._scene.plan
        self._news = News(self._plan)
        if (run / JOURNAL_FILE).is_file():
            for record in read_journal(run / JOURNAL_FILE):
                self._news.take(record)
        self._left_out: list[str] = []

    def write(self) -> Exported:
        """All of it.

        Raises:
            AskedWrongly: a file of the run can't be read, or one of the folder's not be written.
        """
        told = [self._dicom(), self._volumes(), self._models(), self._markups()]
        shutil.copyfile(SCRIPT, self._out / "open_in_slicer.py")
        self._put("README.txt", _README.encode())
        return Exported(tuple(told), tuple(self._left_out))

    # --- DICOM ------------------------------------------------------------------------------------------

    def _dicom(self) -> str:
        self._progress("DICOM: planning CT, structures, RT objects, rescans")
        parts = {"planning": find_dicom(self._case)}
        objects = [self._run / name for name in ("rtstruct.dcm", "rtplan.dcm", "rtdose.dcm")]
        count = 0
        for name, files in parts.items():
            for file in files:
                self._copy(file.path, Path("dicom") / name / file.path.relative_to(self._case))
                count += 1
        for path in objects:
            if path.is_file():
                self._copy(path, Path("dicom") / "plan" / path.name)
                count += 1
        for scan, folder in self._scans():
            for file in find_dicom(folder):
                self._copy(file.path, Path("dicom") / _name(scan) / file.path.name)
                count += 1
            self._put(f"transforms/{_name(scan)}.tfm", tfm_bytes(scan.scan_from_plan))
        return f"{count} DICOM files"

    def _scans(self) -> list[tuple[ShownScan, Path]]:
        """Registered CTs that are there, the last of each number."""
        last = {scan.number: scan for scan in self._news.scans}
        found = []
        for number, scan in sorted(last.items()):
            folder = self._news.folder_of(number, self._run)
            if folder is None or not folder.is_dir():
                self._leave_out(f"CT {number}: its files are not in {self._run / scan.label}")
            else:
                found.append((scan, folder))
        return found

    # --- volumes ----------------------------------------------------------------------------------------

    def _volumes(self) -> str:
        ct, here = self._scene.case.ct, RigidTransform.identity()
        self._progress("Volume: planning CT")
        self._put("volumes/00-planning-ct.nrrd", nrrd_bytes(ct.hu, ct.grid, here, "planning CT, HU"))
        count = 1
        for scan, folder in self._scans():
            self._progress(f"Volume: CT {scan.number}")
            rescan = read_ct(folder)
            title = f"CT {scan.number} ({scan.kind}), HU, registered with the planning CT"
            content = nrrd_bytes(rescan.hu, rescan.grid, scan.scan_from_plan.inverse(), title)
            self._put(f"volumes/{_name(scan)}.nrrd", content)
            count += 1
        self._progress("Volume: dose")
        doses = {"planned": self._scene.planned}
        centres, axes = self._news.seed_arrays()
        if len(centres):
            doses["delivered"] = self._scene.dose(centres, axes)
        for name, dose in doses.items():
            voxels = np.asarray(dose.dose_gy, dtype=np.float32)
            self._put(
                f"volumes/dose-{name}.nrrd",
                nrrd_bytes(voxels, dose.grid, here, f"dose {name}, Gy to infinity"),
            )
        return f"{count + len(doses)} volumes"

    # --- models -----------------------------------------------------------------------------------------

    def _models(self) -> str:
        anatomy = self._scene.anatomy
        masks: dict[str, Mask] = {
            "skin": anatomy.body,
            "GTV": anatomy.gtv,
            "CTV": anatomy.ctv,
            **anatomy.organs,
        }
        models: dict[str, Surface] = {}
        for name, mask in masks.items():
            self._progress(f"Model: {name}")
            surface = surface_of(mask, anatomy.grid)
            if surface is None:
                self._leave_out(f"{name}: empty, no model")
            else:
                models[name] = surface
        models["needles-planned"] = joined(
            [_needle(np.asarray(needle.tip_mm), needle.direction) for needle in self._plan.needles]
        )
        if self._news.needles:
            models["needles-found"] = joined(
                [
                    _needle(np.array(n["tip_mm"]), np.array(n["direction"]))
                    for n in self._news.needles.values()
                ]
            )
        self._progress("Model: template")
        template = self._template()
        if template is not None:
            models["template"] = template
        for name, surface in models.items():
            self._put(f"models/{_safe(name)}.ply", ply_bytes(surface, "LPS", f"{_safe(name)}, mm"))
        own = ply_bytes(needle_surface(SHAFT_MM), "RAS", "needle in its own frame: tip at 0, shaft on -z, mm")
        self._put("models-to-move/needle.ply", own)
        return f"{len(models) + 1} models"

    def _template(self) -> Surface | None:
        """As printed, where the plan puts it: of the run's own file, or made anew from the same plan and skin."""
        file = self._run / "template.stl"
        try:
            if file.is_file():
                corners = read_stl(file.read_bytes(), str(file))
            else:
                anatomy = self._scene.anatomy
                corners = read_stl(make_template(self._plan, anatomy.body, anatomy.grid).stl, "template")
        except (AskedWrongly, OSError) as problem:
            self._leave_out(f"template: {problem}")
            return None
        points = corners.reshape(-1, 3)
        triangles = np.arange(len(points), dtype=np.int64).reshape(-1, 3)
        return Surface(points, triangles).moved(self._plan.planned_patient_from_rig())

    # --- markups ----------------------------------------------------------------------------------------

    def _markups(self) -> str:
        plan, news = self._plan, self._news
        self._progress("Markups")
        files: dict[str, str] = {}
        for needle in plan.needles:
            ends = [ControlPoint("entry", needle.entry_mm), ControlPoint("tip", needle.tip_mm)]
            files[f"needles-planned/{needle.name}"] = markup_text(
                "Line", f"{needle.name} planned", ends, _PLANNED
            )
            found = news.needles.get(needle.name)
            if found is not None:
                tip, axis = np.array(found["tip_mm"]), np.array(found["direction"])
                ends = [
                    ControlPoint("on the shaft", tip - axis * needle.depth_mm),
                    ControlPoint("tip", tip, f"sigma {found['sigma_mm']:.2f} mm"),
                ]
                files[f"needles-found/{needle.name}"] = markup_text(
                    "Line", f"{needle.name} found", ends, _FOUND
                )
        files["targets"] = markup_text(
            "Fiducial",
            "targets",
            [ControlPoint(n.name, n.tip_mm, f"hole {n.hole}") for n in plan.needles],
            _PLANNED,
        )
        seeds = [
            ControlPoint(f"{n.name}-{s.number}", s.centre_mm, f"drawn back {s.retraction_mm:.1f} mm")
            for n in plan.needles
            for s in n.seeds
        ]
        files["seeds-planned"] = markup_text("Fiducial", "seeds planned", seeds, _PLANNED, shows_labels=False)
        lying = news.seeds()
        if lying:
            is_found = all(seed["is_found"] for seed in lying)
            name = "seeds-found" if is_found else "seeds-delivered"
            about = "seen in the last CT" if is_found else "where its needle was when it was delivered"
            points = [ControlPoint(str(i), seed["centre_mm"], about) for i, seed in enumerate(lying, start=1)]
            files[name] = markup_text(
                "Fiducial", name.replace("-", " "), points, _DELIVERED, shows_labels=False
            )
        for file, text in files.items():
            self._put(f"markups/{file}.mrk.json", text.encode())
        return f"{len(files)} markups"

    # --- files ------------------------------------------------------------------------------------------

    def _leave_out(self, why: str) -> None:
        if why not in self._left_out:
            self._left_out.append(why)

    def _put(self, name: str, content: bytes) -> None:
        path = self._out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def _copy(self, source: Path, to: Path) -> None:
        path = self._out / to
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)


def _needle(tip_mm: Floats, direction: Floats) -> Surface:
    """In the patient: any two axes across, the needle is round."""
    across = np.cross(direction, [1.0, 0.0, 0.0] if abs(direction[0]) < 0.9 else [0.0, 1.0, 0.0])
    across = across / np.linalg.norm(across)
    axes = np.column_stack([across, np.cross(direction, across), direction])
    return needle_surface(SHAFT_MM).moved(RigidTransform(axes, tip_mm))


def _name(scan: ShownScan) -> str:
    return f"{scan.number:02d}-{_safe(scan.kind)}"


def _safe(name: str) -> str:
    """As a file's name."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name) or "-"


_README = """A run of seedguide for 3D Slicer. Research and training software, not a medical device.

  dicom/            load with "Add DICOM Data" (RT objects need the extension SlicerRT)
  volumes/          CTs in HU and doses in Gy, all registered with the planning CT (NRRD)
  models/           skin, structures, needles, template (PLY, LPS)
  models-to-move/   a needle in its own frame: put it under a transform N01 ... of OpenIGTLink
  markups/          needles as lines, tips and seeds as points (LPS, schema 1.0.3)
  transforms/       from the planning CT to each rescan: for the DICOM series as the scanner made it (ITK)
  open_in_slicer.py opens volumes, models and markups: Slicer --python-script open_in_slicer.py

Or drag volumes, models and markups onto Slicer's window. Everything but dicom/ is in the frame of the planning CT.
"""
