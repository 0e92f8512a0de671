"""``seedguide bench-check`` and ``seedguide devices``: what is asked, refused, shown and returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_room import ApplicatorOnBench, RigOnBench

import console.bench_check_command as command
import console.device_choice as choice
from console.bench_check_report import write_report
from console.bench_person import AutomaticPerson, TerminalPerson
from console.cli import main
from controller.commands import AskOperator
from controller.requests import BenchHands, RequestFolder
from drivers.bench_check import Finding
from drivers.identify import Seen
from simulator.benchtop import Benchtop
from simulator.standalone import devices_toml
from simulator.theatre import Theatre

MICK = Seen("applicator", "SG-MICK/1042", True, "100")
REAL_MICK = Seen("applicator", "SG-MICK/7", False, "100")
RIG = Seen("rig", "SIM-RIG-1007", True, "Grbl 1.1h")


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Seen]:
    """What answers where; and the tests themselves are made in virtual time."""
    seen: dict[str, Seen] = {}
    monkeypatch.setattr(choice, "look_at", lambda urls: {url: seen.get(url, Seen("silent")) for url in urls})

    def test(device: str, _url: str, person: Any, _devices: Any, _chosen: Any, told: Any) -> list[Finding]:
        room: Any = ApplicatorOnBench() if device == "applicator" else RigOnBench()
        room.bench.person, room.bench.told = person, told
        room.run()
        return list(room.bench.findings)

    monkeypatch.setattr(command, "_test", test)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(devices_toml(1.0), encoding="utf-8")  # beside the ports
    (tmp_path / "fast.toml").write_text(devices_toml(20.0), encoding="utf-8")
    return seen


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["bench-check", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_both_simulated_devices_pass_with_a_table_and_a_report(
    ports: dict[str, Seen], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ports |= {"a": MICK, "r": RIG}
    status, out, _ = told(capsys, "--applicator", "a", "--rig", "r", "--yes", "--out", "o")
    assert status == 0
    assert "0 failed" in out
    assert "watchdog" in out
    (page,) = (tmp_path / "o").glob("bench-check-*.html")
    text = page.read_text(encoding="utf-8")
    assert "SG-MICK/1042" in text
    assert "SIM-RIG-1007" in text
    assert "http" not in text.replace("http-equiv", "")
    told(capsys, "--rig", "r", "--yes", "--out", "o")
    assert len(list((tmp_path / "o").glob("*.html"))) == 2  # an earlier report is never replaced


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs --applicator URL, --rig URL"),
        (["--rig", "a"], "was given as the rig, but the simulated applicator SG-MICK/1042 answers there"),
        (["--applicator", "m", "--yes"], "--yes is for simulated devices only"),
        (["--applicator", "nothing", "--yes"], "--yes is for simulated devices only"),
        (["--applicator", "a", "--hands", "x"], "--hands is for simulated devices"),
        (["--applicator", "a", "--yes", "--hands", "x"], "no such folder"),
        (["--rig", "r", "--with-seeds"], "--with-seeds needs --applicator"),
        (["--rig", "r", "--applicator", "r"], "given for both devices"),
        (["--applicator", "auto:nowhere"], "no such folder"),
        (["--applicator", "a", "--devices", "none.toml"], "there is no such file"),
        (["--applicator", "sub/a", "--yes"], "there is no default"),
        (["--applicator", "a", "--yes", "--devices", "fast.toml"], "runs 20 times faster than life"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(
    ports: dict[str, Seen], capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    ports |= {"a": MICK, "m": REAL_MICK, "r": RIG, "sub/a": MICK}
    status, out, err = told(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_auto_takes_the_one_that_answers_and_refuses_none(
    ports: dict[str, Seen], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "places", lambda _folder: ["p1", "p2"])
    ports |= {"p1": MICK}
    status, out, _ = told(capsys, "--applicator", "auto", "--yes")
    assert status == 0
    assert "applicator: p1" in out
    status, _, err = told(capsys, "--rig", "auto", "--yes")
    assert status == 2
    assert "no rig was found (p1: the simulated applicator SG-MICK/1042; p2: nothing answers)" in err
    ports |= {"p2": MICK}
    status, _, err = told(capsys, "--applicator", "auto", "--yes")
    assert status == 2
    assert "2 devices answer as applicator" in err


def test_a_person_who_says_no_gives_status_3_and_nothing_moves(
    ports: dict[str, Seen], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports |= {"a": REAL_MICK}
    asked: list[str] = []

    def no(question: str) -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr("builtins.input", no)
    status, out, _ = told(capsys, "--applicator", "a")
    assert status == 3
    assert len(asked) == 1
    assert "not tested" in out


def test_exit_status_4_when_a_test_failed_even_if_a_person_said_no() -> None:
    good = Finding("rig", "a", "pass")
    skipped = Finding("rig", "b", "not tested", words="only --with-seeds")
    declined = Finding("rig", "c", "not tested", words="the person said no to: x")
    bad = Finding("rig", "d", "fail", remedy="mend it")
    assert command.exit_status([good, skipped]) == 0
    assert command.exit_status([good, declined]) == 3
    assert command.exit_status([good, declined, bad]) == 4


def test_the_report_escapes_what_a_device_says_and_shows_what_to_do(tmp_path: Path) -> None:
    finding = Finding("rig", "identity", "fail", words="it calls itself '<script>'", remedy="Mend <it>")
    text = write_report([finding], {"rig": "x"}, "someone", tmp_path).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "Mend &lt;it&gt;" in text
    assert "1 failed" in text


def test_a_person_at_the_terminal_answers_plainly() -> None:
    typed = iter(["perhaps", "Y", "no", "", "s"])
    person = TerminalPerson(lambda _question: next(typed))
    assert person.agrees("x?")
    assert not person.agrees("x?")
    assert person.does("seat_cartridge", "Seat it")
    assert not person.does("seat_cartridge", "Seat it")

    def closed(_question: str) -> str:
        raise EOFError

    assert not TerminalPerson(closed).agrees("x?")
    assert AutomaticPerson(None).agrees("x?")
    assert not AutomaticPerson(None).does("open_estop", "Press it")


def test_simulated_hands_press_and_release_the_emergency_stop(tmp_path: Path) -> None:
    bench = Benchtop(1)
    theatre = Theatre(None, bench.rig_mechanics, bench.applicator_mechanics)

    class Hands(BenchHands):
        def help(self, command: AskOperator) -> str | None:
            answer = theatre.handle({"do": command.task, "now_ns": 0})
            return None if answer["done"] else str(answer["why"])

    person = AutomaticPerson(Hands(RequestFolder(tmp_path)))
    for task, is_open in (("open_estop", True), ("close_estop", False)):
        assert person.does(task, "Do it")
        assert bench.applicator_mechanics.is_estop_open is is_open
    assert not person.does("repair_the_motor", "Mend it")


def test_devices_lists_what_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "look_at", lambda urls: dict.fromkeys(urls, RIG))
    assert main(["devices", "socket://127.0.0.1:9"]) == 0
    assert "the simulated rig SIM-RIG-1007, firmware Grbl 1.1h" in capsys.readouterr().out
    monkeypatch.setattr(choice, "look_at", lambda urls: dict.fromkeys(urls, Seen("silent")))
    assert main(["devices", "socket://127.0.0.1:9"]) == 4
    assert main(["devices", "nowhere"]) == 2
    monkeypatch.setattr(choice, "ports_present", list)
    assert main(["devices"]) == 4


def test_two_devices_behind_terminals_are_found_in_their_folder(tmp_path: Path) -> None:
    """The whole way, with the clock on the wall: about a second."""
    import selectors
    import threading

    from simulator.benchtop import Benchtop
    from simulator.doors import PseudoTerminal, serve

    class Ending:
        is_over = False

        def register(self, selector: selectors.BaseSelector) -> None: ...

        def ready(self, *_: Any) -> bool:
            return True

        def turn(self, _selector: selectors.BaseSelector, _now_ns: int) -> bool:
            return not self.is_over

        def nap_s(self) -> float:
            return 0.01

        def close(self) -> None: ...

    bench, ending = Benchtop(1), Ending()
    doors = {name: (bench.cables[name], PseudoTerminal(tmp_path / name)) for name in ("rig", "applicator")}
    thread = threading.Thread(target=serve, args=(doors, None, dict), kwargs={"visitors": [ending]})
    thread.start()
    try:
        ports, seen = choice.chosen_ports(rig=f"auto:{tmp_path}", applicator=f"auto:{tmp_path}")
    finally:
        ending.is_over = True
        thread.join()
    assert ports == {name: str(tmp_path / name) for name in ("rig", "applicator")}
    assert seen == {"rig": RIG, "applicator": MICK}
