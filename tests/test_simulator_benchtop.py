"""Faults in words, from a file and at the keyboard, and requests as files."""

from __future__ import annotations

import json
import selectors
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.benchtop import HELP, Benchtop, Plug
from simulator.faults import FaultError
from simulator.grbl_kind import OBLIQUE
from simulator.physics import ImpossibleMotionError, Template
from simulator.requests import RequestFolder
from simulator.rig_mechanics import OBLIQUE as FIVE_AXES
from simulator.rig_mechanics import RigMechanics
from simulator.standalone import encoder_on
from simulator.theatre import Theatre

ARGUMENTS = {"DEVICE": "rig", "AXIS": "z", "MM": "0.5", "SHARE": "0.01", "N": "-1", "MS": "20"}


def _with_arguments(fault: str) -> str:
    return " ".join(ARGUMENTS.get(word, word) for word in fault.split())


@pytest.mark.parametrize("fault", HELP)
def test_every_fault_that_is_listed_is_understood(fault: str) -> None:
    plug = Benchtop(1).do(_with_arguments(fault), 0)
    assert (plug is None) == (fault.split()[0] not in ("unplug", "plug", "refuse"))


@pytest.mark.parametrize(
    "words", ["", "dance", "lose rig z", "lose rig z far", "noise rig 2", "lose rig z nan"]
)
def test_what_is_no_fault_is_refused_in_words(words: str) -> None:
    with pytest.raises(FaultError, match=r"\.$"):
        Benchtop(1).do(words, 0)


def test_faults_do_to_the_devices_what_they_say() -> None:
    bench = Benchtop(1)
    assert bench.applicator is not None
    boot = bench.applicator
    bench.do("estop", 0)
    bench.cables["applicator"].wake(1_000_000)
    assert bench.applicator.board.latch == "ESTOP"
    z_mm = bench.rig_mechanics.carriage_mm[2]
    bench.do("lose rig z -2", 0)
    assert bench.rig_mechanics.carriage_mm[2] == pytest.approx(z_mm + 2.0)
    bench.do("reset applicator", 2_000_000)
    assert bench.applicator is None
    bench.cables["applicator"].wake(100_000_000)
    assert bench.applicator is not None
    assert bench.applicator is not boot
    bench.do("silence rig", 0)
    assert bench.cables["rig"].up.is_cut
    bench.do("mend rig", 0)
    assert not bench.cables["rig"].up.is_cut
    assert bench.do("unplug rig", 0) == Plug("rig", "unplug")


def _asked(folder: Path, requests: RequestFolder, name: str, request: Any) -> dict[str, Any]:
    (folder / f"{name}.request.json").write_text(json.dumps(request), encoding="utf-8")
    with selectors.DefaultSelector() as selector:
        for _ in range(1000):
            requests._next_look_s = 0.0
            assert requests.turn(selector, 0)
            if (folder / f"{name}.answer.json").exists():
                break
    answer: dict[str, Any] = json.loads((folder / f"{name}.answer.json").read_text(encoding="utf-8"))
    return answer


def test_hands_and_scanner_answer_requests_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "0001-old.request.json").write_text('{"do": "load_needle"}', encoding="utf-8")
    bench = Benchtop(1)
    theatre = Theatre(None, bench.rig_mechanics, bench.applicator_mechanics)
    requests = RequestFolder(tmp_path, theatre.handle, seed=1, told=lambda _line: None)
    assert _asked(tmp_path, requests, "0002-seat", {"do": "seat_cartridge", "count": 3}) == {"done": True}
    assert bench.applicator_mechanics.cartridge == 3
    scan = _asked(tmp_path, requests, "0003-needles", {"do": "scan", "number": 1, "folder": "0003-needles"})
    assert not scan["done"]
    assert "nobody lies on the couch" in scan["why"]
    assert not _asked(tmp_path, requests, "0004-scan", {"do": "scan", "folder": "../else"})["done"]
    assert not _asked(tmp_path, requests, "0005-x", ["nothing"])["done"]
    assert not (tmp_path / "0001-old.answer.json").exists()


class _NoNeedleInside:
    """A patient in whom no needle stands, though the template thinks so."""

    def insert(self, *_place: object) -> None:
        pass

    def true_tip_patient_mm(self, needle: str) -> list[float]:
        raise ImpossibleMotionError(f"there is no needle {needle}")

    def retract(self, needle: str, _distance_mm: float) -> None:
        raise ImpossibleMotionError(f"there is no needle {needle}")


@pytest.mark.parametrize("what", ["couple_applicator", "uncouple_applicator"])
def test_what_matter_forbids_is_answered_in_a_sentence(what: str) -> None:
    patient: Any = _NoNeedleInside()
    template = Template(patient)
    bench = Benchtop(1, applicator=ApplicatorMechanics(np.random.default_rng(1), template))
    template.hold("N1", 0.0, 0.0, 60.0)
    theatre = Theatre(patient, bench.rig_mechanics, bench.applicator_mechanics)
    answer = theatre.handle({"do": what, "needle": "N1"})
    assert answer == {"done": False, "why": "there is no needle N1"}


class _Air:
    """Tissue that a needle never reached: it knows of none."""

    def insert(self, *_: object) -> None: ...

    def release(self) -> None: ...

    def retract(self, needle: str, _distance_mm: float) -> None:
        raise ImpossibleMotionError(f"there is no needle {needle}")

    def grip(self, *_: object) -> None:
        return None


def test_people_take_out_a_needle_that_was_let_go_before_the_skin() -> None:
    bench = Benchtop(1)
    bench.rig_mechanics.template.tissue = _Air()  # type: ignore[assignment]
    bench.rig_mechanics.template.hold("N01", 0.0, 0.0, 5.0)
    theatre = Theatre(None, bench.rig_mechanics, bench.applicator_mechanics)
    for _ in range(2):  # asked again, it is done
        assert theatre.handle({"do": "take_out_needle", "needle": "N01"}) == {"done": True}
    assert "N01" not in bench.rig_mechanics.template
    assert theatre.handle({"do": "free_grip", "needle": "N01"}) == {"done": True}


def test_people_see_what_they_have_done_before() -> None:
    bench = Benchtop(1)
    theatre = Theatre(None, bench.rig_mechanics, bench.applicator_mechanics)
    seat = {"do": "seat_cartridge", "count": 3}
    assert [theatre.handle(seat)["done"] for _ in range(2)] == [True, True]
    assert not theatre.handle({**seat, "count": 4})["done"]
    out = {"do": "remove_cartridge", "returned": 3}
    assert [theatre.handle(out)["done"] for _ in range(2)] == [True, True]
    assert not theatre.handle({"do": "lay_patient", "case": "nowhere", "patient_from_rig": [[1.0]]})["done"]


def test_a_bench_may_have_an_oblique_rig() -> None:
    air = RigMechanics(np.random.default_rng(1), parameters=FIVE_AXES)
    bench = Benchtop(1, air, kind=OBLIQUE)
    bench.cables["rig"].receive(b"$I\n", 0)
    bench.cables["rig"].wake(1_000_000)
    assert b"[AXS:5:XYZAB]" in bench.cables["rig"].take()


def test_the_bench_s_depth_encoder_sees_the_carriage_and_not_what_grbl_counts() -> None:
    bench = Benchtop(1)
    encoder = encoder_on(bench.rig_mechanics)
    assert encoder.counts == 0
    before_mm = float(bench.rig_mechanics.carriage_mm[2])
    bench.do("lose rig z 1.5", 0)
    slipped_mm = float(bench.rig_mechanics.carriage_mm[2]) - before_mm
    assert abs(slipped_mm) == pytest.approx(1.5)
    assert encoder.counts == round(slipped_mm * 20.0)
