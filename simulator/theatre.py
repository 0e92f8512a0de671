"""The operating theatre around the devices: people's hands, and the CT scanner.

What no serial line carries: a person puts a needle into the carriage, the applicator onto a hub, a cartridge into the
applicator; a technician makes a CT. Requests and answers are JSON values, so that they also cross from another process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.dental import DentalMetal
from simulator.patient import Patient
from simulator.physics import ImpossibleByHandError, ImpossibleMotionError
from simulator.rig_mechanics import HOME_Z_MM, RigMechanics
from simulator.scanner import ScannerMode, ScanRequest, scan


class Theatre:
    """People and scanner of one simulated procedure; ``patient`` None: nobody lies on the couch (yet).

    People know what they have done: asked again after an interruption, they see that it is done.

    Args:
        fetch: makes the patient of a folder, for a planned pose of the rig; None: nobody can be fetched.
        lies_there: folder and pose of the patient who lies there from the beginning.
        scanner_mode: of CTs whose request names none: ``fast`` or ``faithful``.
    """

    def __init__(
        self,
        patient: Patient | None,
        rig: RigMechanics,
        applicator: ApplicatorMechanics,
        *,
        fetch: Callable[[Path, Any], Patient] | None = None,
        lies_there: tuple[str, Any] | None = None,
        scanner_mode: ScannerMode = "fast",
    ) -> None:
        self.scanner_mode: ScannerMode = scanner_mode
        self.patient = patient
        self._fetch, self._lies_there = fetch, lies_there
        self.rig = rig
        self._template = applicator.template
        self.applicator = applicator
        self._tips_at_delivery: dict[str, list[float]] = {}
        self._taken_out: set[str] = set()
        self._returned: int | None = None
        self._pushed_by_hand: set[int] = set()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; ``{"done": true, ...}`` or ``{"done": false, "why": sentence}``."""
        try:
            answer = self._do(request)
        except (ImpossibleByHandError, ImpossibleMotionError) as problem:
            return {"done": False, "why": str(problem)}
        return {"done": True, **(answer or {})}

    def _do(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self._is_done(request):
            return None
        match request["do"]:
            case "confirm_time_out" | "confirm_resume" | "free_grip" | "guide_needle":
                return None
            case "adapt_plan" | "judge_needles":
                return None  # decisions: there is nothing to be done by hand
            case "lay_patient":
                self._lay(str(request["case"]), request["patient_from_rig"])
            case "take_out_needle":
                self.rig.take_needle(str(request["needle"]))
            case "load_needle":
                self.rig.hand_needle(str(request["needle"]))
            case "set_guide":
                if str(request["needle"]) in self._template:
                    self._lead(str(request["needle"]), request["place_mm"])
            case "move_needle":
                self._lead(str(request["needle"]), request["place_mm"])
            case "slide_forward":
                self.applicator.draw_by_hand(0.0)
            case "draw_back":
                self.applicator.draw_by_hand(float(request["z_mm"]))
            case "push_seed":
                self.applicator.push_by_hand()
                self._pushed_by_hand.add(int(request["count"]))
            case "tell_pushed":
                if int(request["count"]) not in self._pushed_by_hand:
                    raise ImpossibleByHandError("it was not pushed")
            case "tell_kept":
                if int(request["count"]) in self._pushed_by_hand:
                    raise ImpossibleByHandError("it was pushed")
            case "couple_applicator":
                needle = str(request["needle"])
                scale_mm = float(request.get("z_mm") or 0.0)
                if (
                    scale_mm
                ):  # one that people draw back themselves, onto a needle that was drawn back already
                    self.applicator.draw_by_hand(scale_mm)
                self.applicator.couple(needle, scale_mm)
                if self.patient is not None:
                    self._tips_at_delivery[needle] = [
                        float(v) for v in self.patient.true_tip_patient_mm(needle)
                    ]
            case "uncouple_applicator":
                self.applicator.uncouple()
                self._template.take_out(str(request["needle"]))
                self._taken_out.add(str(request["needle"]))
            case "seat_cartridge":
                self.applicator.insert_cartridge(int(request["count"]))
            case "remove_cartridge":
                returned = self.applicator.remove_cartridge()
                if returned != int(request["returned"]):
                    raise ImpossibleByHandError(
                        f"the cartridge holds {returned} seeds, not {request['returned']}; count again"
                    )
                self._returned = returned
            case "open_estop" | "close_estop" as what:
                self.applicator.set_estop(what == "open_estop", int(request["now_ns"]))
            case "scan" | "truth" if self.patient is None:
                raise ImpossibleByHandError(
                    "nobody lies on the couch: start the bench with --plan, or let seedguide run fetch the patient"
                )
            case "scan":
                assert self.patient is not None
                folder = Path(request["folder"])
                scan(
                    self.patient,
                    folder,
                    ScanRequest(
                        number=int(request["number"]),
                        slice_thickness_mm=float(request["slice_mm"]),
                        z_low_mm=float(request["z_low_mm"]),
                        z_high_mm=float(request["z_high_mm"]),
                        when_iso=str(request["when"]),
                        seed=int(request["seed"]),
                        mode=request.get("mode", self.scanner_mode),
                        noise_times=float(request.get("noise_times", 1.0)),
                        dental=tuple(DentalMetal(**piece) for piece in request.get("dental", ())),
                    ),
                )
            case "truth":
                assert self.patient is not None
                return {
                    "tips_mm": {
                        name: [float(v) for v in self.patient.true_tip_patient_mm(name)]
                        for name in self.patient.needles
                    },
                    "verified_tips_mm": dict(self._tips_at_delivery),
                    "seeds_mm": [[float(v) for v in seed.centre_mm] for seed in self.patient.true_seeds],
                }
            case unknown:
                raise ImpossibleByHandError(f"nobody here can {unknown}")
        return None

    def _lead(self, needle: str, place_mm: Any) -> None:
        """A hand brings the needle to (x, y) of the template and its tip to depth z, mm by mm."""
        x_mm, y_mm, z_mm = (float(v) for v in place_mm)
        from_mm = min(HOME_Z_MM, z_mm)
        if needle in self._template:
            old = self._template.place_mm(needle)
            from_mm = old[2]
            self._template.grip(*old)
        steps = max(1, math.ceil(abs(z_mm - from_mm)))
        for step in range(1, steps + 1):
            self._template.hold(needle, x_mm, y_mm, from_mm + (z_mm - from_mm) * step / steps)
        self._template.release(needle, is_out=False)

    def _is_done(self, request: dict[str, Any]) -> bool:
        """It was done before, and stands so."""
        needle = str(request.get("needle"))
        match request["do"]:
            case "load_needle":
                return self.rig.in_jaw == needle
            case "couple_applicator":
                return self.applicator.coupled == needle
            case "uncouple_applicator":
                return needle in self._taken_out
            case "seat_cartridge":
                return self.applicator.cartridge is not None and self.applicator.cartridge == request["count"]
            case "push_seed":
                return request["count"] in self._pushed_by_hand
            case "remove_cartridge":
                return self.applicator.cartridge is None and self._returned == request["returned"]
        return False

    def _lay(self, case: str, patient_from_rig: Any) -> None:
        here = (str(Path(case).resolve()), [[float(v) for v in row] for row in patient_from_rig])
        if self._lies_there == here and self.patient is not None:
            if not self.patient.needles and not self._template.seeds_dropped:
                return
            raise ImpossibleByHandError(
                "needles or seeds of an earlier procedure are in the patient on the couch; start the bench again"
            )
        if self.patient is not None:
            raise ImpossibleByHandError(
                "another patient, or the same for another plan, lies on the couch; start the bench again"
            )
        if self._fetch is None:
            raise ImpossibleByHandError("no patient can be fetched")
        self.patient = self._template.tissue = self._fetch(Path(case), patient_from_rig)
        self._lies_there = here
