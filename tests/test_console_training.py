"""Training: sheets, scripts, score against the truth, marks, the record of the runs and their percentiles."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from console.training.dose_cost import DoseScore, NeedleCost
from console.training.mark import marks_of
from console.training.needle_motion import NeedleMotion
from console.training.reference import percentiles
from console.training.ruling_sheet import RulingSheet
from console.training.score import Score, SeedTruth, score_of
from console.training.script import Script, ScriptedTrainee, read_script
from console.training.terminal import TerminalTrainee
from console.training.training_record import Run, TrainingRecord
from controller import ruling
from controller.commands import AskOperator
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.journal import Record
from controller.snapshot import NeedleStatus, Snapshot
from controller.truth import TrueNeedles, TrueSeed, Truth
from imaging.deviation import deviation
from planning.dvh import StructureStatistics
from planning.refusal import AskedWrongly
from simulator.rehearsal.trainee import offered
from simulator.scenario import TraineeTable
from tests.made_plan import made_plan

ROOT = Path(__file__).parents[1]
PLAN = made_plan(columns=2, rows=2, seeds_per_needle=1)
NAMES = ("N01", "N02", "N03", "N04")
GY = StructureStatistics("CTV", 1.0, *([100.0] * 11))
STILL = NeedleMotion(0.0, 0.0, 0.0, 0.0, 0.0)


def status(name: str, off_mm: float, sigma_mm: float = 0.3) -> NeedleStatus:
    needle = PLAN.needle(name)
    found = deviation(
        needle.tip_mm,
        needle.direction,
        np.add(needle.tip_mm, (off_mm, 0, 0)),
        needle.direction,
        sigma_mm,
    )
    return NeedleStatus(name, needle.hole, False, "in place", 1, found, found, 1, 1)


NEEDLES = (status("N01", 1.0), status("N02", 1.9, 0.5), status("N03", 2.1, 0.5), status("N04", 5.0))
"""Within; can't tell, measured within; can't tell, measured beyond; beyond."""
ASKED = AskOperator(
    7,
    ruling.TASK,
    "Each needle after CT 4: ...",
    choices={
        "CT": ["again"],
        "N01": ["accept", "correct", "own", "abandon"],
        "N02": ["accept", "correct", "own", "abandon"],
        "N03": ["correct", "own", "abandon"],
        "N04": ["abandon"],
    },
    proposals_mm={"N01": [0.1, 0.0, 0.9], "N02": [0.0, 0.0, 1.9], "N03": [1.0, 1.0, 1.0]},
)


def snapshot(state: str = "CORRECTING_NEEDLES", message: str = "CT 4", may: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(state, 7, (), NEEDLES, 4, 4, None, "", "", "", 600.0, message, "", may)


# --- the sheet ------------------------------------------------------------------------------------------------


def test_a_sheet_is_filled_in_by_names_and_by_groups() -> None:
    sheet = RulingSheet(ASKED, NEEDLES)
    for line in ("accept within unsure", "correct n03 0.5 -1 2", "abandon rest because too far"):
        assert sheet.say(line) is None
    assert not sheet.missing
    assert sheet.answer == {
        "N01": "accept",
        "N02": "accept",
        "N03": "correct 0.5 -1 2",
        "N04": "abandon because too far",
    }
    assert ruling.why_not(ASKED, dict(sheet.answer)) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("accept N04", "accept can't be said of N04 now; of N04 can be: abandon"),
        ("accept N01 N03", "can't be said of N03"),
        ("accept N09", "there is no needle N09"),
        ("accept", "name needles"),
        ("abandon N04", "say why"),
        ("correct N01 1 2", "not three numbers"),
        ("correct N01 0 0 99", "0.1 to 15 mm"),
        ("accept N01 1 2 3", "takes no numbers"),
        ("leave N01", "is not understood"),
        ("", "is not understood; accept, correct, abandon, again"),
        ("accept beyond", "can't be said of N04"),
    ],
)
def test_what_a_sheet_does_not_take_is_told_and_changes_nothing(line: str, told: str) -> None:
    sheet = RulingSheet(ASKED, NEEDLES)
    assert told in str(sheet.say(line))
    assert sheet.words == {}


# --- terminal -------------------------------------------------------------------------------------------------


class Typist:
    """Types the lines, one a question; nobody is there after the last. Each takes ten seconds."""

    def __init__(self, *lines: str) -> None:
        self._lines, self.now_s = list(lines), 0.0

    def ask(self, _prompt: str) -> str:
        self.now_s += 10.0
        if not self._lines:
            raise EOFError
        return self._lines.pop(0)

    def trainee(self) -> TerminalTrainee:
        self.screen = Console(record=True, width=140, file=io.StringIO())
        return TerminalTrainee("ann", self.ask, self.screen, lambda: self.now_s)


def test_a_person_at_the_terminal_judges_needle_by_needle() -> None:
    typist = Typist(
        "go", "accept N03", "accept within unsure", "correct N03", "abandon N04 because far", "go"
    )
    answer, took_ns = typist.trainee().answer(ASKED, snapshot())
    assert isinstance(answer, OperatorConfirmed)
    assert answer.values["N03"] == "correct"
    assert took_ns == 60_000_000_000
    shown = typist.screen.export_text()
    assert "Nothing is said of N01, N02, N03, N04 yet" in shown
    assert "accept can't be said of N03 now" in shown
    assert "+1.0 +1.0 +1.0" in shown


@pytest.mark.parametrize(
    ("lines", "values", "reason"),
    [
        (("again",), {"CT": "again"}, ""),
        (("hold because I must think",), None, "I must think"),
        (("stop",), None, "stop pressed"),
        ((), None, "nobody is at the terminal"),
    ],
)
def test_other_words_at_the_needles(
    lines: tuple[str, ...], values: dict[str, str] | None, reason: str
) -> None:
    trainee = Typist(*lines).trainee()
    answer, _ = trainee.answer(ASKED, snapshot())
    if values is not None:
        assert isinstance(answer, OperatorConfirmed)
        assert answer.values == values
    else:
        assert isinstance(answer, OperatorDeclined)
        assert answer.reason == reason
    assert (trainee.stop_pressed() == "ann") == (reason == "stop pressed")
    assert trainee.stop_pressed() is None


class Hold:
    """A held run that writes down what is decided."""

    def __init__(self, message: str, *may: str) -> None:
        self.why_not, self.told = "", "1 taken out of the path by hand"
        self.snapshot = snapshot("HELD", message, may)
        self.decided: list[Any] = []

    def decide(self, event: Any, thought_ns: int) -> str:
        self.decided.append((event, thought_ns))
        return "noted"


def test_a_hold_is_answered_by_decisions_and_then_goes_on() -> None:
    typist = Typist("seed_is nowhere", "seed_is cartridge", "grant_attempts N01 2", "go")
    run = Hold("seed 3: NOPASS", "seed_is", "abort")
    goes_on, took_ns = typist.trainee().held(run)
    assert goes_on is True
    assert [event.kind for event, _ in run.decided] == ["seed_is"]
    assert run.decided[0][1] == 20_000_000_000
    assert took_ns == 20_000_000_000
    assert "can't be decided now" in typist.screen.export_text()
    assert Typist().trainee().held(Hold("x"))[0] is False
    gives_up, _ = Typist("abort because enough").trainee().held(Hold("x", "abort"))
    assert getattr(gives_up, "kind", "") == "abort"


# --- scripts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "trainees").glob("*.toml")), ids=lambda p: p.stem
)
def test_the_scripts_that_ship_answer_every_needle(path: Path) -> None:
    trainee = ScriptedTrainee(read_script(path))
    for _ in range(3):
        answer, _ = trainee.answer(ASKED, snapshot())
        assert isinstance(answer, OperatorConfirmed)
        assert ruling.why_not(ASKED, answer.values) is None
    assert trainee.told == []
    assert trainee.held(Hold("seed 3 in needle N01: NOPASS", "seed_is"))[0] is True


THICK = replace(
    ASKED, choices={**(ASKED.choices or {}), "CT": ["again 1.25", "again", "again 5"]}, text="after CT 4: ..."
)


@pytest.mark.parametrize("typed", ["again 1.25", "AGAIN 1.250 mm"])
def test_thinner_slices_are_asked_for_at_the_terminal(typed: str) -> None:
    typist = Typist("again 3", "again thin", typed)
    answer, _ = typist.trainee().answer(THICK, snapshot())
    assert getattr(answer, "values", {}) == {"CT": "again 1.25"}
    shown = typist.screen.export_text()
    assert "again 1.25 or 5: with slices of so many mm" in shown.replace("\n", " ")
    assert shown.count("That CT is not to be had; can be: again 1.25, again, again 5") == 2


def test_a_script_asks_for_thinner_slices_where_they_are_proposed() -> None:
    trainee = ScriptedTrainee(read_script(ROOT / "examples" / "trainees" / "careful.toml"))
    asked = [THICK, ASKED, ASKED]
    values = [getattr(trainee.answer(command, snapshot())[0], "values", {}) for command in asked]
    assert values[:2] == [{"CT": "again 1.25"}, {"CT": "again"}]
    assert "N01" in values[2]


def test_an_amount_of_ones_own_is_offered_only_where_it_may_be_said() -> None:
    kept = offered(ASKED, TraineeTable(may=("accept", "correct", "abandon")))
    assert kept.choices == {
        "CT": [],
        "N01": ["accept", "correct", "abandon"],
        "N02": ["accept", "correct", "abandon"],
        "N03": ["correct", "abandon"],
        "N04": ["abandon"],
    }
    told = RulingSheet(kept, NEEDLES).say("correct N01 0 0 1")
    assert told == "correct 0 0 1 can't be said of N01 now; of N01 can be: accept, correct, abandon"
    trainee = Typist("again", "stop").trainee()
    trainee.answer(kept, snapshot())
    assert "another CT is not left to you" in trainee._screen.export_text()


def test_a_script_says_its_own_words_at_its_ct_and_tells_which_it_could_not(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(
        'version = 1\nname = "x"\n[[say]]\nscan = 4\nwords = "correct N01 0 0 2"\n[[say]]\nscan = 4\n'
        'words = "accept N04"\n[[say]]\nscan = 5\nwords = "again"\n',
        encoding="utf-8",
    )
    trainee = ScriptedTrainee(read_script(path))
    answer, _ = trainee.answer(ASKED, snapshot())
    assert isinstance(answer, OperatorConfirmed)
    assert answer.values["N01"] == "correct 0 0 2"
    assert "accept can't be said of N04" in trainee.told[0]
    fifth, _ = trainee.answer(replace(ASKED, text="Each needle after CT 5: ..."), snapshot())
    assert isinstance(fifth, OperatorConfirmed)
    assert fifth.values == {"CT": "again"}


def test_a_patient_who_was_seen_to_move_is_scanned_again_once() -> None:
    trainee = ScriptedTrainee(Script(1, "x"))
    trainee.noticed("the patient has moved")
    first, second = (trainee.answer(ASKED, snapshot())[0] for _ in range(2))
    assert getattr(first, "values", {}) == {"CT": "again"}
    assert "N01" in getattr(second, "values", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = 1", "'name' is missing"),
        ('version = 1\nname = "x"\n[needles]\nwithin = "hope"', "within"),
        ('version = 1\nname = "x"\n[[held]]\nreason = "("', "is no expression"),
        (
            'version = 1\nname = "x"\n[[held]]\nreason = "x"\ndecide = ["seed_is nowhere"]',
            "seed_is says where",
        ),
        ('version = 1\nname = "x"\n[[held]]\nreason = "x"\nthen = "jump"', "is no decision"),
        ("version", "can't be read as TOML"),
    ],
)
def test_a_script_that_is_none_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AskedWrongly, match=told.replace("(", r"\(")):
        read_script(path)


# --- score ----------------------------------------------------------------------------------------------------


def truth_at(offsets_mm: dict[str, float], seeds: int = 4) -> Truth:
    tips = {
        name: tuple(np.add(PLAN.needle(name).tip_mm, (0.0, off_mm, 0.0)))
        for name, off_mm in offsets_mm.items()
    }
    lying = tuple(TrueSeed("N01", (0.0, 0.0, float(i)), (0.0, 0.0, 1.0)) for i in range(seeds))
    return Truth((TrueNeedles(4, tips),), tips, lying, (), {"N01": 2, "N02": 1}, (), 3.0)  # type: ignore[arg-type]


def record(number_: int, t_s: float, kind_: Any, /, **body: Any) -> Record:
    return Record(number_, round(t_s * 1e9), kind_, body, "", "")


JOURNAL = [
    record(1, 10.0, "intention", command="RequestScan", scan=4, kind="needles", number=1),
    record(2, 100.0, "intention", command="AskOperator", task=ruling.TASK, number=2),
    record(
        3,
        160.0,
        "event",
        event="OperatorConfirmed",
        number=2,
        values={"N01": "accept", "N02": "accept", "N03": "correct 0 0 1", "N04": "abandon because far"},
    ),
    record(4, 200.0, "decision", to="HELD", because="the e-stop is pressed"),
    record(5, 230.0, "event", event="OperatorDecided", kind="grant_attempts", needle="N03"),
    record(6, 240.0, "recovery", says="", may_go_on=True),
    record(7, 300.0, "decision", to="HELD", because="again"),
]


class Result:
    """As much of a result as a score looks at."""

    plan = PLAN
    rounds = ()
    delivered = None
    final = snapshot()


def score(**offsets_mm: float) -> Score:
    return score_of(JOURNAL, Result(), truth_at(offsets_mm), "HELD", {}, STILL, None)  # type: ignore[arg-type]


def test_decisions_are_judged_by_where_the_tips_truly_stood() -> None:
    told = score(N01=2.5, N02=1.0, N03=0.5, N04=0.1)
    assert [word.judged for word in told.words] == ["missed", "right", "not needed", "given up"]
    assert [word.word for word in told.words] == ["accept", "accept", "own", "abandon"]
    assert (told.missed, told.unneeded, told.corrections, told.delivered_beyond) == (1, 1, 1, 1)
    right = score(N01=2.0, N02=1.0, N03=2.5, N04=0.1)
    assert (right.missed, right.unneeded) == (0, 0)  # exactly 2 mm is within


def test_alarms_are_timed_to_the_first_thing_a_person_does() -> None:
    told = score(N01=0.0)
    assert [(a.t_s, a.answered_after_s, a.answer) for a in told.alarms] == [
        (200.0, 30.0, "grant attempts N03"),
        (300.0, None, ""),
    ]
    figures = told.figures()
    assert (figures["alarms"], figures["alarms_unanswered"], figures["slowest_alarm_s"]) == (2, 1, 30.0)
    assert told.thought_s == 60.0 + 30.0


def test_a_loading_that_was_taken_or_not_is_told_with_what_was_expected_of_both() -> None:
    kept = {
        "CTV": {"d90_gy": 101.0},
        "GTV": {"d90_gy": 150.0},
        "CORD": {"d2cc_gy": 20.0},
        "EYE": {"d2cc_gy": 3.0},
    }
    taken = {
        "CTV": {"d90_gy": 118.5},
        "GTV": {"d90_gy": 155.0},
        "CORD": {"d2cc_gy": 20.5},
        "EYE": {"d2cc_gy": 6.0},
    }
    records = []
    for at, answer in enumerate(("OperatorConfirmed", "OperatorDeclined")):
        records += [
            record(3 * at + 1, 10.0, "event", event="NeedlesEvaluated", number=5, now=kept, then=taken),
            record(3 * at + 2, 11.0, "intention", command="AskOperator", task="adapt_plan", number=6 + at),
            record(3 * at + 3, 20.0, "event", event=answer, number=6 + at),
        ]
    told = score_of(records, Result(), truth_at({}), "HELD", {}, STILL, None)  # type: ignore[arg-type]
    assert [(word.is_taken, word.ctv_d90_gy) for word in told.plan_words] == [
        (True, (101.0, 118.5)),
        (False, (101.0, 118.5)),
    ]
    assert (told.plan_words[0].organ, told.plan_words[0].organ_d2cc_gy) == ("EYE", (3.0, 6.0))


def test_what_a_needle_cost_stands_beside_the_last_word_about_it() -> None:
    words = [*JOURNAL[:3]]
    words.append(record(4, 170.0, "intention", command="AskOperator", task=ruling.TASK, number=3))
    words.append(record(5, 190.0, "event", event="OperatorConfirmed", number=3, values={"N03": "accept"}))
    costs = tuple(NeedleCost(name, 0.5, 1.5, "CORD", 0.2, 1, 1) for name in NAMES)
    dose = DoseScore({}, {"GTV": GY, "CTV": GY}, None, costs, None)  # type: ignore[arg-type]
    told = score_of(words, Result(), truth_at({}), "HELD", {}, STILL, dose)  # type: ignore[arg-type]
    with_cost = [(word.needle, word.word) for word in told.words if word.cost is not None]
    assert with_cost == [("N01", "accept"), ("N02", "accept"), ("N04", "abandon"), ("N03", "accept")]
    assert told.words[0].cost == costs[0]


def test_what_a_person_holds_on_purpose_is_no_alarm() -> None:
    held = [
        record(1, 10.0, "decision", to="HELD", because="declined by ann: I must think"),
        record(2, 90.0, "recovery", says="", may_go_on=True),
        record(3, 100.0, "decision", to="HELD", because="declined by ann: nobody answered for 600 s"),
        record(4, 130.0, "recovery", says="", may_go_on=True),
    ]
    told = score_of(held, Result(), truth_at({}), "HELD", {}, STILL, None)  # type: ignore[arg-type]
    assert [(alarm.t_s, alarm.answered_after_s) for alarm in told.alarms] == [(100.0, 30.0)]


def test_seeds_are_counted_against_the_truth() -> None:
    told = score_of(JOURNAL, Result(), truth_at({}, seeds=3), "HELD", {}, STILL, None)  # type: ignore[arg-type]
    assert told.seeds == SeedTruth(4, 4, 3, None)
    assert told.seeds.unaccounted == 1
    assert (told.cts, told.punctures) == (1, 3)


def test_marks_tell_what_was_wanted_and_reached() -> None:
    asked = {
        "ends": ["COMPLETED"],
        "missed_at_most": 1,
        "cts_at_most": None,
        "minutes_at_most": 5,
        "alarms_answered_within_s": 60,
        "ctv_d90_gy_at_least": 90,
    }
    marks = {mark.name: mark for mark in marks_of(score(N01=2.5).figures(), asked)}
    assert [mark.met for mark in marks.values()] == [False, True, False, False, False]
    assert marks["Every alarm answered"].reached == "one nobody answered"
    assert marks["CTV D90, true, Gy"].reached == "no seed in the patient"


# --- the record of the runs -----------------------------------------------------------------------------------


def run(trainee: str, journal: str, scenario: str = "s", **figures: float) -> Run:
    return Run(trainee, scenario, "Title", 2, "2026-01-02 03:04", True, journal, figures)


def test_runs_are_kept_by_trainee_in_order_and_once(tmp_path: Path) -> None:
    path = tmp_path / "training.sqlite"
    kept = TrainingRecord(path)
    for one in (
        run("ann", "a", missed=2),
        run("bob", "b"),
        run("ann", "c", "other", missed=0),
        run("ann", "a"),
    ):
        kept.add(one)
    again = TrainingRecord(path)
    assert [it.journal for it in again.runs("ann")] == ["a", "c"]
    assert again.runs("ann")[0].figures == {"missed": 2}
    assert again.times_played("ann") == {"s": 1, "other": 1}
    assert again.runs("nobody") == []


def test_another_file_is_no_training_record(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and long enough to be no database" * 40, encoding="utf-8")
    with pytest.raises(AskedWrongly, match="can't be used as a training record"):
        TrainingRecord(path)
    with pytest.raises(AskedWrongly, match="can't be used as a training record"):
        TrainingRecord(tmp_path / "nowhere" / "training.sqlite")


def test_a_percentile_is_the_share_that_was_worse_with_ties_half() -> None:
    others = [{"cts": 5, "ctv_d90_gy": 100.0}, {"cts": 7, "ctv_d90_gy": 110.0}, {"cts": 6}, {"cts": 6}]
    told = {it.words: it for it in percentiles({"cts": 6, "ctv_d90_gy": 105.0, "missed": 1}, others)}
    assert told["CTs"].pct == pytest.approx(100.0 * (1 + 1) / 4)
    assert told["CTV D90, Gy"].pct == pytest.approx(50.0)
    assert set(told) == {"CTs", "CTV D90, Gy"}
    assert percentiles({"cts": 6}, others[:2]) == []  # too few to tell
