"""A training run as a whole, on a made patient: who decides, what stays hidden, and what the debrief finds."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import PlannedCase
from made_dicom import make_case

from console.cli import main
from console.played_run import PlayedRun
from console.training.debrief import MOTION_NAMES
from console.training.script import HeldRule, NeedleRules, Script, ScriptedTrainee
from console.training.training_record import TrainingRecord
from console.training.transform_recording import read_sequence, read_xml
from controller import ruling
from controller.commands import AskOperator
from controller.journal import read_journal, verify
from controller.replay import replay
from controller.snapshot import Snapshot
from imaging import registration
from planning.plan import Plan
from planning.refusal import AskedWrongly
from simulator.rehearsal.training import Prepared, Trained, prepare, scenario_of, train
from simulator.scenario import Scenario

HIDDEN = (b"setup_", b"population", b"patient moves", b"scan stranger", b"bend", b"_mean_mm", b"at_seed")
"""Words of the scenario that would give it away."""


@dataclass
class Watching(ScriptedTrainee):
    """Looks into the run's folder, as a trainee might, each time that a word is asked for."""

    folder: Path = Path()
    asked: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    gave_away: set[bytes] = field(default_factory=set)

    def answer(self, command: AskOperator, snapshot: Snapshot) -> Any:
        self.asked.append(command.task)
        for path in self.folder.rglob("*"):
            if path.is_file() and path.suffix != ".dcm":
                self.gave_away |= {word for word in HIDDEN if word in path.read_bytes()}
        return super().answer(command, snapshot)

    def noticed(self, what: str) -> None:
        self.seen.append(what)
        super().noticed(what)


@dataclass(frozen=True, eq=False)
class Played:
    ready: Prepared
    trained: Trained
    trainee: Watching
    out: Path


def scenario(patient_folder: Path, plan_file: Path, /, **more: Any) -> Scenario:
    least = {"version": 1, "title": "Made", "level": 1, "briefing": "Go.", "lesson": "Gone."}
    return Scenario.model_validate({**least, "case": str(patient_folder), "plan": str(plan_file), **more})


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, phantom_plan: PlannedCase) -> Played:
    """The phantom's reference needles alone; a stranger's CT, a patient who moves, a jam."""
    folder = tmp_path_factory.mktemp("training")
    patient = make_case(folder / "patient").folder
    whole = phantom_plan.result.plan
    few = [needle for needle in whole.needles if needle.is_reference]
    seeds = iter(range(1, 99))
    few = [replace(n, seeds=tuple(replace(s, number=next(seeds)) for s in n.seeds[:2])) for n in few]
    replace(whole, needles=tuple(few)).save(folder / "plan.json")
    mild = {"entry_mean_mm": 0.3, "depth_mean_mm": 0.3, "angle_mean_deg": 0.3, "bend_radius_mm": None}
    wanted = scenario(
        patient,
        folder / "plan.json",
        needles=mild,
        patient={
            "setup_shift_mm": 2.0,
            "motion": [{"at_state": "CORRECTING_NEEDLES", "nth": 1, "shift_mm": [3.0, 0.0, 0.0]}],
        },
        fault=[
            {"at_command": "RequestScan", "nth": 1, "do": "scan stranger"},
            {"at_seed": 2, "do": "jam"},
        ],
        trainee={"max_attempts": 8},
    )
    held = (
        {"reason": "NOPASS", "decide": ("seed_is cartridge because in the hand",)},
        {"reason": "patient", "times": 2},
    )
    out = folder / "out"
    out.mkdir()
    rules = NeedleRules(cannot_tell="accept")
    script = Script(1, "made", needles=rules, held=tuple(HeldRule(**rule) for rule in held))
    trainee = Watching(script, folder=out)
    ready = prepare(wanted, folder / "scenario.toml", lambda _news: None)
    with (
        pytest.MonkeyPatch.context() as patched
    ):  # a quarter of the points: how well it registers is tested elsewhere
        sparse = tuple((blur, count // 4, iterations) for blur, count, iterations in registration.LEVELS)
        patched.setattr(registration, "LEVELS", sparse)
        return Played(ready, train(ready, out, trainee, lambda _news: None), trainee, out)


def test_a_run_with_a_stranger_a_motion_and_a_jam_ends_as_planned(played: Played) -> None:
    assert played.trained.final_state == "COMPLETED", played.trained.result.reason
    assert played.trainee.seen == ["the patient has moved"]
    assert ruling.TASK in played.trainee.asked
    assert set(played.trainee.asked) <= {"confirm_time_out", ruling.TASK, "adapt_plan", "confirm_resume"}
    happened = [what for _, what in played.trained.truth.happened]
    assert happened == ["scan stranger", "patient moves 3 0 0", "jam"]
    assert len(played.trained.truth.seeds) == len(played.ready.plan.seeds)


def test_nothing_in_the_folder_tells_the_truth_before_the_end(played: Played) -> None:
    assert played.trainee.gave_away == set()


def test_the_motion_is_in_the_truth_and_the_next_ct_shows_it(played: Played) -> None:
    truth, plan = played.trained.truth, played.ready.plan
    rounds = {scan.scan_number: dict(scan.deviations) for scan in played.trained.result.rounds}
    first = min(scan for scan, found in rounds.items() if len(found) == len(plan.needles))
    name = plan.needles[0].name
    stood = truth.deviation_mm(plan, name, first, at_reference=False)
    assert stood is not None
    assert stood > rounds[first][name].total_mm + 1.0  # when the word was asked for, the patient had moved
    tips = played.trained.truth.at_delivery_mm
    away = [np.linalg.norm(np.subtract(tip, plan.needle(needle).tip_mm)) for needle, tip in tips.items()]
    assert max(away) < 2.5


def test_the_journal_is_whole_and_plays_to_the_same_again(played: Played) -> None:
    journal = played.out / "journal.sqlite"
    assert verify(journal) is None
    assert replay(journal, Plan.load(played.out / "plan.json")).procedure.state == "COMPLETED"
    says = [record.body["says"] for record in read_journal(journal) if record.kind == "room"]
    assert says[0] == "the patient has moved"
    assert "1 taken out of the applicator's path by hand" in says[1]


def test_a_run_that_is_over_is_played_again_at_any_speed(played: Played) -> None:
    records, plan = list(read_journal(played.out / "journal.sqlite")), Plan.load(played.out / "plan.json")
    now_s = [0.0]
    again = PlayedRun(records, plan, 100.0, lambda: now_s[0])
    shown, states = 0, []
    while not again.is_over:
        now_s[0] += 1.0
        shown += len(again.due())
        states.append(again.state()["snapshot"]["state"])
    assert shown == len(records)
    assert states[-1] == "COMPLETED"
    assert again.state()["is_replay"]
    assert "HELD" in states or "CORRECTING_NEEDLES" in states
    assert now_s[0] == pytest.approx(records[-1].t_ns / 1e11, abs=1.01)


def test_the_command_leaves_a_debrief_with_recordings_and_records_that_can_be_read(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simulator.rehearsal import training

    out = tmp_path / "out"

    def again(_ready: Prepared, folder: Path, *_: Any) -> Trained:
        shutil.copytree(played.out, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("scans"))
        return played.trained

    monkeypatch.setattr(training, "scenario_of", lambda *_, **__: played.ready.scenario)
    monkeypatch.setattr(training, "prepare", lambda *_: played.ready)
    monkeypatch.setattr(training, "train", again)
    script = tmp_path / "made.toml"
    script.write_text('version = 1\nname = "made"\n', encoding="utf-8")
    asked = ["train", str(tmp_path / "any.toml"), "--out", str(out), "--script", str(script), "--quiet"]
    assert main(asked) == 0
    assert "✓ passed" in capsys.readouterr().out
    record, page, tmp_path = TrainingRecord(tmp_path / "training.sqlite"), out / "debrief.html", out
    measures = json.loads((out / "debrief.json").read_text(encoding="utf-8"))["motion"]
    for name in ("needles.xml", "needles.seq.mha"):
        assert main(["motion", str(out / name), played.ready.scenario.case]) == 0
        rows = {row.split()[0]: row.split()[1:] for row in capsys.readouterr().out.splitlines()[1:]}
        for needle, measured in measures.items():
            told = [float(value) for value in rows[f"{needle}ToRAS"]]
            assert told == pytest.approx([measured[key] for key in MOTION_NAMES], rel=1e-3, abs=0.2), name
    treated = pydicom.dcmread(out / "rtrecord.dcm")
    setups = treated.TreatmentSessionApplicationSetupSequence
    assert {setup.TreatmentTerminationStatus for setup in setups} == {"NORMAL"}
    assert (out / "rtdose_delivered.dcm").is_file()
    assert "What each needle cost" in page.read_text(encoding="utf-8")
    saved = json.loads((tmp_path / "debrief.json").read_text(encoding="utf-8"))
    assert saved["ends"] == "COMPLETED"
    assert [alarm["answer"] for alarm in saved["alarms"]] == ["taken back", "seed is"]
    assert saved["figures"]["seeds_unaccounted"] == 0
    planned, true = (saved["dose"][which]["CTV"]["d90_gy"] for which in ("planned", "true"))
    assert 0.2 * planned < true < 2.0 * planned
    poses = [pose for pose in played.trained.truth.poses if pose.needle == "N01"]
    for recording in (read_xml(tmp_path / "needles.xml"), read_sequence(tmp_path / "needles.seq.mha")):
        t_s, matrices = recording.of("N01ToRAS")
        assert len(t_s) > 10
        last = poses[-1].patient_from_needle[:3, 3]
        assert np.allclose(matrices[-1][:3, 3], last * (-1, -1, 1), atol=1e-4)
    assert record.runs("made")[0].figures == saved["figures"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"needles": {"bent": [{"needle": "X9", "radius_mm": 500}]}}, "the plan has no needle X9"),
        ({"fault": [{"at_state": "NOWHERE", "do": "jam"}]}, "at_state NOWHERE is no state"),
        ({"fault": [{"at_command": "Jump", "do": "jam"}]}, "at_command Jump is no command"),
        ({"plan": "nowhere.json"}, "no such file; name a plan.json"),
    ],
)
def test_what_the_plan_does_not_have_is_told_before_anything_begins(
    played: Played, more: dict[str, Any], told: str
) -> None:
    wanted = scenario(Path(played.ready.scenario.case), played.out / "plan.json", **more)
    with pytest.raises(AskedWrongly, match=told):
        prepare(wanted, Path("scenario.toml"), lambda _news: None)


def test_a_scenario_that_is_none_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="can't be read as TOML"):
        scenario_of(tmp_path / "nowhere.toml")
