"""The file of faults: what it may say, what is refused, and when each fault happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.cli import main
from simulator.faults import HELP, Fault, FaultError, checked_words, read_faults
from simulator.faults_director import Director
from simulator.standalone import main as standalone

ROOT = Path(__file__).parents[1]
S = 1_000_000_000


def _file(folder: Path, text: str) -> Path:
    file = folder / "faults.toml"
    file.write_text(text, encoding="utf-8")
    return file


def _director(*faults: Fault) -> Director:
    return Director(faults, lambda _words, _now_ns: None)


def test_a_file_tells_triggers_and_words(tmp_path: Path) -> None:
    text = (
        '[[fault]]\nat_s = 9\ndo = "Reset RIG"\n'
        '[[fault]]\nat_command = "MoveDepth"\nnth = 3\nafter_s = 0.4\nfor_s = 2.0\ndo = "silence rig"\n'
        '[[fault]]\nper_hour = 6\nseed = 4\ndo = "scan hides N01"\n'
    )
    assert read_faults(_file(tmp_path, text)) == [
        Fault("reset rig", at_s=9),
        Fault("silence rig", at_command="MoveDepth", nth=3, after_s=0.4, for_s=2.0),
        Fault("scan hides N01", per_hour=6, seed=4),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no [[fault]] table"),
        ("=[", "TOML"),
        ("[other]\nx = 1", "'other' is unknown"),
        ("[[fault]]\nat_s = 1", "says not what to do"),
        ('[[fault]]\nat_s = -1\ndo = "jam"', "at_s is a number"),
        ('[[fault]]\nat_s = nan\ndo = "jam"', "at_s is a number"),
        ('[[fault]]\nat_s = true\ndo = "jam"', "at_s is a number"),
        ('[[fault]]\nat_s = 1\ndo = "dance"', "'dance' is no fault"),
        ('[[fault]]\nat_s = 1\ndo = "noise rig 2"', "from 0 to 1"),
        ('[[fault]]\nat_s = 1\nat_seed = 1\ndo = "jam"', "exactly one trigger"),
        ('[[fault]]\ndo = "jam"', "exactly one trigger"),
        ('[[fault]]\nat_s = 1\nnth = 2\ndo = "jam"', "nth goes with"),
        ('[[fault]]\nat_s = 1\nfor_s = 2\ndo = "jam"', "happens once"),
        ('[[fault]]\nat_s = 1\nfro_s = 2\ndo = "jam"', "'fro_s' is unknown"),
        ('[[fault]]\nat_state = "NOWHERE"\ndo = "jam"', "NOWHERE is no state"),
        ('[[fault]]\nper_hour = 1e9\ndo = "jam"', "at most"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence_that_names_the_place(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(FaultError, match=r"faults\.toml: ") as refused:
        read_faults(_file(tmp_path, text), {"READY": ""})
    assert says in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="can't be read"):
        read_faults(tmp_path / "none.toml")


@pytest.mark.parametrize("form", HELP)
def test_every_fault_stands_in_the_document(form: str) -> None:
    assert f"`{form}`" in (ROOT / "simulator" / "FAULTS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "faults").glob("*.toml")), ids=lambda p: p.stem)
def test_every_example_can_be_read(path: Path) -> None:
    assert read_faults(path)


def test_a_fault_comes_at_its_time_its_state_its_command_and_its_seed() -> None:
    director = _director(
        Fault("jam", at_s=3.0),
        Fault("empty", at_state="DELIVERING_SEEDS"),
        Fault("double", at_command="MoveDepth", nth=2, after_s=0.5),
        Fault("blind", at_seed=7, for_s=1.0),
    )
    assert director.next_wake() == 3 * S
    director.told("intention", {"command": "MoveDepth"}, 0)
    director.told("decision", {"from": "X", "to": "DELIVERING_SEEDS"}, 1 * S)
    director.told("intention", {"command": "MoveDepth"}, 2 * S)
    director.told("intention", {"command": "DropSeed", "seed": 6}, 2 * S)
    while (due := director.next_wake()) is not None:
        director.wake(due)
    director.told("intention", {"command": "DropSeed", "seed": 7}, 4 * S)
    director.told("intention", {"command": "MoveDepth"}, 4 * S)
    director.wake(9 * S)
    assert director.happened == [(1.0, "empty"), (2.5, "double"), (3.0, "jam"), (4.0, "blind"), (9.0, "sees")]


def test_chance_is_the_same_for_the_same_seed_and_about_as_often_as_asked() -> None:
    def played(seed: int) -> list[tuple[float, str]]:
        director = _director(Fault("jam", per_hour=60.0, seed=seed))
        while (due := director.next_wake()) is not None and due < 10 * 3600 * S:
            director.wake(due)
        return director.happened

    assert played(1) == played(1) != played(2)
    assert 500 < len(played(1)) < 700  # Poisson, mean 600, sigma 24


def test_people_and_scanner_do_wrong_once_when_they_are_asked_next() -> None:
    director = _director(
        Fault("scan old", at_s=0), Fault("operator twice", at_s=0), Fault("operator stop", at_s=0)
    )
    director.wake(0)
    assert [director.for_scanner(), director.for_scanner()] == ["old", None]
    assert [director.for_operator(), director.for_operator()] == ["twice", None]
    assert [director.stop_pressed(), director.stop_pressed()] == ["the file of faults", None]


def test_what_lasts_names_its_end() -> None:
    ends = {
        "silence rig": "mend rig",
        "stall rig z": "free rig z",
        "press rig x": "release rig x",
        "break rig y": "repair rig y",
        "unplug applicator": "plug applicator",
        "stick applicator": "free applicator",
        "estop": "estop off",
        "blind": "sees",
    }
    for words, end in ends.items():
        assert Fault(words, at_s=0).ends_by == end
        assert checked_words(end)
    assert Fault("estop off", at_s=0).ends_by is None
    assert Fault("jam", at_s=0).ends_by is None


def _rehearse(folder: Path, *more: str) -> int:
    case = str(ROOT / "examples" / "hn-recurrence")
    return main(["rehearse", case, "--out", str(folder / "out"), "--quiet", *more])


def test_a_bad_file_ends_a_rehearsal_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, '[[fault]]\nat_command = "Dance"\ndo = "jam"\n')
    assert _rehearse(tmp_path, "--faults", str(file)) == 2
    assert "Dance is no command" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert _rehearse(tmp_path, "--faults", str(file), "--door", "ports") == 2
    assert "seedguide simulate --faults" in capsys.readouterr().err


def test_a_bench_alone_refuses_faults_of_people_and_scanner(tmp_path: Path) -> None:
    file = _file(tmp_path, '[[fault]]\nat_s = 1\ndo = "scan old"\n')
    spec = {"faults": str(file), "link": str(tmp_path / "bench"), "seed": 1}
    with pytest.raises(FaultError, match="needs a procedure"):
        standalone(spec)
