"""``seedguide train``: a trainee decides, a simulated room answers, and the truth comes at the end."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from console.training.debrief import Debriefed
    from controller.door import Door

CONSOLE_SPEED = 10.0
"""Times faster than life that devices move while nobody is asked; while the trainee thinks a second is a second."""
_EXIT_STATUSES = """\b
Exit status:
    0  over, every pass mark reached
    1  internal fault: one line here, the traceback in DIR/fault.txt
    2  bad input: one line that says what, where and what to do
    4  over, but a pass mark was missed (see the debrief)
  130  interrupted (Ctrl-C); the journal stays, there is no debrief
"""


def train_command(player: Callable[[], ModuleType]) -> click.Command:
    """The command; ``player`` imports ``simulator.rehearsal.training``, which the console does not know."""

    @click.command(
        "train",
        help="Play SCENARIO, a file as in examples/scenarios, or a folder of them: then the one that you have played "
        "least, its name untold until the end. After each CT you say of every needle: accept, correct, abandon, or "
        "another CT; you decide when to deliver and how to answer faults. Truth is hidden until the debrief. "
        "simulator/SCENARIOS.md.\n\nResearch and training software, not a medical device, not for clinical use.",
        epilog=_EXIT_STATUSES,
    )
    @click.argument("scenario", type=click.Path(path_type=Path))
    @click.option(
        "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the run."
    )
    @click.option("--terminal", "how", flag_value="terminal", default=True, help="Decide here.  [default]")
    @click.option(
        "--console", "how", flag_value="console", help="Decide on a web page; its address is printed."
    )
    @click.option(
        "--script", metavar="FILE", type=click.Path(path_type=Path), help="Decide by the rules in a file."
    )
    @click.option("--trainee", metavar="NAME", help="Who is trained.  [default: you]")
    @click.option(
        "--record",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Learning curves are kept there.  [default: training.sqlite beside DIR]",
    )
    @click.option("--seed", type=click.IntRange(0), help="Of chance.  [default: the scenario's]")
    @click.option(
        "--console-port", default=8100, show_default=True, type=click.IntRange(0, 65535), help="0: any."
    )
    @click.option("--quiet", is_flag=True, help="With --script: show the debrief only.")
    @click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
    def train(scenario: Path, out: Path, **chosen: Any) -> int:
        """Read everything, play, debrief."""
        return _train(player(), scenario, out, chosen)

    return train


def _train(training: ModuleType, path: Path, out: Path, chosen: dict[str, Any]) -> int:
    from console.delivered_rt import write_delivered
    from console.endings import kept_once_begun
    from console.live import ProcedureView, Screen
    from console.output_folder import OutputFolder
    from console.training.debrief import print_debrief, write_debrief
    from console.training.script import read_script
    from console.training.training_record import TrainingRecord
    from controller.order import JOURNAL_FILE

    script = None if chosen["script"] is None else read_script(chosen["script"])
    trainee = str(chosen["trainee"] or (getpass.getuser() if script is None else script.name))
    record_file = chosen["record"] or out.absolute().parent / "training.sqlite"
    if not record_file.parent.is_dir():
        raise AskedWrongly(f"{record_file.parent}: no such folder; the record of the runs would be there.")
    record = TrainingRecord(record_file)
    scenario_file, is_told = _chosen(training, path, record.times_played(trainee))
    scenario = training.scenario_of(scenario_file, seed=chosen["seed"])
    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    with (
        kept_once_begun(
            OutputFolder.take(out, overwrite=chosen["overwrite"], case=Path(scenario.case)), JOURNAL_FILE
        ) as folder,
        ExitStack() as stack,
    ):
        view = stack.enter_context(
            ProcedureView(screen, quiet=chosen["quiet"] or (script is None and chosen["how"] == "terminal"))
        )
        where = scenario_file if is_told else path
        screen.print(f"{scenario.title if is_told else 'A scenario'}, level {scenario.level}", style="bold")
        screen.print(scenario.briefing.strip() if is_told else "What it is about is told at the end.")
        ready = training.prepare(scenario, where, view)
        played = _play(training, ready, folder.path, script, trainee, screen, view, chosen, stack)
        write_delivered(played[0].result, folder.path, folder.path / JOURNAL_FILE, None)
        told = debriefed(ready, folder.path, played, record, trainee)
        page = write_debrief(told, folder.path)
    print_debrief(screen, told, page)
    return 0 if told.passed else 4


def _chosen(training: ModuleType, path: Path, played: dict[str, int]) -> tuple[Path, bool]:
    """The file, and whether the trainee may know which: of a folder, the one played least, by level then name."""
    if not path.is_dir():
        return path, True
    files = sorted(path.glob("*.toml"))
    if not files:
        raise AskedWrongly(f"{path}: holds no scenario (*.toml); name a file, or another folder.")
    scenarios = {file: training.scenario_of(file) for file in files}
    return min(
        files, key=lambda file: (played.get(scenarios[file].digest, 0), scenarios[file].level, file)
    ), False


def _play(
    training: ModuleType,
    ready: Any,
    out: Path,
    script: Any,
    trainee: str,
    screen: Any,
    view: Any,
    chosen: dict[str, Any],
    stack: ExitStack,
) -> Any:
    from console.beside import Beside
    from console.console_command import console_arguments
    from console.keyboard import Keyboard
    from console.training.at_door import DoorTrainee
    from console.training.script import ScriptedTrainee
    from console.training.terminal import TerminalTrainee
    from controller.door import Door

    if script is not None:
        who = ScriptedTrainee(script)
        return training.train(ready, out, who, view), tuple(who.told)
    if chosen["how"] == "terminal":
        person = TerminalTrainee(trainee, Keyboard().ask, screen, time.monotonic)
        news = _StateLines(screen)
        return training.train(ready, out, person, news), ()
    commands = [console_arguments(out, chosen["console_port"])]
    page = Beside(commands, lambda line: print(line, flush=True))
    stack.callback(page.end)
    door: Door = Door(out, is_simulated=True)
    at_door = DoorTrainee(trainee, door, time.monotonic)
    listener = page.begun_with(view)
    return training.train(ready, out, at_door, listener, door=door, speed=CONSOLE_SPEED), ()


class _StateLines:
    """At the terminal: a line when the protocol goes on to another state."""

    def __init__(self, screen: Any) -> None:
        self._screen, self._state = screen, ""

    def __call__(self, progress: Any) -> None:
        if progress.snapshot is not None and progress.snapshot.state != self._state:
            self._state = progress.snapshot.state
            minutes = progress.snapshot.virtual_time_s / 60.0
            self._screen.print(f"{minutes:6.1f} min  {self._state.replace('_', ' ').lower()}", style="dim")


def debriefed(ready: Any, out: Path, played: Any, record: Any, trainee: str) -> Debriefed:
    import numpy as np

    from console.training.debrief import Debriefed
    from console.training.dose_cost import dose_score
    from console.training.mark import marks_of
    from console.training.needle_motion import BodyTissue, motion_of, together
    from console.training.reference import percentiles, reference_runs
    from console.training.score import score_of
    from console.training.training_record import Run
    from controller.journal import read_journal
    from controller.order import JOURNAL_FILE

    trained, remarks = played
    result, truth, scenario = trained.result, trained.truth, ready.scenario
    tissue = BodyTissue(ready.anatomy.body, ready.anatomy.grid)
    motions = {}
    for needle in sorted({pose.needle for pose in truth.poses}):
        own = [pose for pose in truth.poses if pose.needle == needle]
        motions[needle] = motion_of(
            np.array([pose.t_ns / 1e9 for pose in own]),
            np.array([pose.patient_from_needle for pose in own]),
            tissue,
        )
    all_together = together(list(motions.values()), result.final.virtual_time_s)
    dose = dose_score(result.plan, truth, result.planned, result.delivered, ready.anatomy, trained.source)
    records = list(read_journal(out / JOURNAL_FILE))
    score = score_of(records, result, truth, trained.final_state, motions, all_together, dose)
    words = scenario.model_dump(mode="json", by_alias=True)
    marks = marks_of(score.figures(), words["pass"])
    references = reference_runs(scenario.digest, result.plan.content_hash)
    record.add(
        Run(
            trainee=trainee,
            scenario=scenario.digest,
            title=scenario.title,
            level=scenario.level,
            played=datetime.now().isoformat(sep=" ", timespec="minutes"),
            passed=all(mark.met for mark in marks),
            journal=result.digest,
            figures=score.figures(),
        )
    )
    return Debriefed(
        trainee=trainee,
        scenario=words,
        score=score,
        marks=marks,
        result=result,
        truth=truth,
        records=records,
        earlier=record.runs(trainee),
        percentiles=percentiles(score.figures(), references),
        references=len(references),
        remarks=remarks,
    )
