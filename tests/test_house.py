"""The rules of the house: who may import whom, types, style, and what the README promises."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.cli import rehearse
from console.goals import ExitStatus

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"] if "." not in name]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OTHER_FOLDERS = {"benchmarks", "docs", "examples", "firmware", "tests"}
"""Top-level folders that are no import package; a new folder must be entered here or among the packages."""

OUTSIDE_WORLD = {
    "time",
    "random",
    "socket",
    "threading",
    "asyncio",
    "secrets",
    "multiprocessing",
    "selectors",
}
MAY_TOUCH_IT = {
    "controller/door.py": {"time", "socket", "threading"},  # other processes
    "controller/door_visitors.py": {"socket", "threading", "selectors"},  # their sockets
    "controller/door_files.py": {"socket", "secrets"},  # its address; a token nobody can guess
    "console/door_client.py": {"socket"},  # the other end of it
    "controller/worker.py": {"multiprocessing", "threading"},  # waits for another process
    "controller/ports.py": {"time", "threading"},  # real devices live in real time
    "simulator/doors.py": {"time", "socket", "threading", "selectors"},
    "simulator/bench.py": {"time", "socket", "threading", "selectors"},
    "simulator/rehearsal/bench_process.py": {"time", "socket"},  # the way to the bench
    "simulator/rehearsal/paced_transport.py": {"time"},  # a simulated room that people can follow
    "console/train_command.py": {"time", "datetime.now"},  # how long a trainee thinks; the date of the run
    "console/cli.py": {"time"},  # wall time of the report
    "imaging/receiver.py": {"time", "threading"},  # a scanner's link lives in real time
    "imaging/peer_socket.py": {"time", "socket"},  # its peers may be slow
    "console/scan_news.py": {"threading"},  # peers are served in threads of their own
    "console/scans_command.py": {"time"},  # waits between two looks at a watched folder
    "console/live.py": {"time"},  # wall time per step
    "console/console_command.py": {"asyncio"},  # the page's server
    "console/web_app.py": {"asyncio", "time"},  # pages are many and slow; sessions end
    "console/live_run.py": {"asyncio", "threading"},  # follows the door beside the page's server
    "console/beside.py": {"threading"},  # hears what the processes beside say
    "console/igtl/server.py": {"socket", "selectors", "time"},  # its clients
    "console/web_server.py": {"asyncio", "socket", "time"},
    "console/web_login.py": {"secrets"},  # session tokens nobody can guess
    "console/plan_command.py": {"time"},  # the time limit a person gave
    "console/bench_check_report.py": {"datetime.now"},  # the date on the report
    "console/device_choice.py": {"secrets"},  # session ids that no earlier run had
    "console/run_command.py": {"datetime.now"},  # names the folder of a run
    "console/keyboard.py": {"threading"},  # a person may never type
    "controller/aftermath.py": {"time"},  # wall time per step
    "controller/requests.py": {"time", "datetime.now"},  # waits for people and scanner in a folder
    "simulator/rehearsal/campaign/workers.py": {
        "multiprocessing",
        "time",  # whether the work left is worth more processes
    },  # all cores; a parent that is killed
    "simulator/requests.py": {"time", "selectors", "datetime.now"},  # the same folder, from the other side
    "simulator/caretaker.py": {"time", "selectors"},  # what a person types at the bench
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "core", "manager", "misc"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(modules())


def imported(tree: ast.Module) -> set[str]:
    """First names of all modules that are imported anywhere in the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def called(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def folders() -> set[str]:
    """The top-level folders that hold something of ours."""
    return {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT} - {".ci"}


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_contracts() -> None:
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert lint is not None, "import-linter is not installed beside this Python"
    run(lint)


def test_types() -> None:
    run(sys.executable, "-m", "mypy")


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_style(command: list[str]) -> None:
    run(sys.executable, "-m", "ruff", *command, ".")


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_in_this_checkout(package: str) -> None:
    """The names are common words: another distribution's ``controller`` must not be imported by mistake."""
    assert Path(str(importlib.import_module(package).__file__)).parent == ROOT / package


def test_every_folder_stands_in_the_lists() -> None:
    inits = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in tracked()
        if path.name == "__init__.py"
    }
    assert inits == set(PROJECT["tool"]["setuptools"]["packages"])
    contracts = PROJECT["tool"]["importlinter"]
    assert set(contracts["root_packages"]) == set(PACKAGES) == set(PROJECT["tool"]["mypy"]["packages"])
    assert folders() - OTHER_FOLDERS == set(PACKAGES)


def test_serial_ports_and_the_journal_have_one_door_each() -> None:
    assert {path for path, tree in MODULES.items() if "serial" in imported(tree)} == {"drivers/port.py"}
    assert (
        {path for path, tree in MODULES.items() if "sqlite3" in imported(tree)}
        == {
            "controller/journal.py",
            "console/training/training_record.py",  # results of many runs for learning curves: no procedure's record
        }
    )


@pytest.mark.parametrize("path", MODULES)
def test_time_chance_and_wires_come_in_as_arguments(path: str) -> None:
    tree = MODULES[path]
    assert imported(tree) & OUTSIDE_WORLD <= MAY_TOUCH_IT.get(path, set())
    for name, call in called(tree):
        if name not in MAY_TOUCH_IT.get(path, set()):
            assert not re.search(r"\b(datetime|date)\.(now|utcnow|today)$", name), (
                f"{path}: asks what time it is"
            )
        assert not re.search(r"\buuid[14]$|\burandom$", name), f"{path}: unseeded chance"
        if re.match(r"(np|numpy)\.random\.", name):
            assert name.endswith((".default_rng", ".Generator", ".SeedSequence", ".PCG64")), f"{path}: {name}"
        if name.endswith("default_rng"):
            assert call.args or call.keywords, f"{path}: an unseeded generator"
        if name.split(".")[-1] == "generate_uid":
            assert {"entropy_srcs"} <= {word.arg for word in call.keywords}, f"{path}: an unseeded UID"


def test_modules_have_telling_names() -> None:
    assert not {path for path in MODULES if Path(path).stem in VAGUE_NAMES}


def test_every_module_says_what_it_is() -> None:
    assert not [path for path, tree in MODULES.items() if tree.body and not ast.get_docstring(tree)]


def tracked() -> list[Path]:
    """Files under version control; without git, everything that could be."""
    listed: list[str] = []
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\0"
        )
    else:
        for name in (*PACKAGES, *OTHER_FOLDERS):
            listed += [path.relative_to(ROOT).as_posix() for path in (ROOT / name).rglob("*")]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    somewhere = re.compile(rb"(?<![\w.~-])/(home|work|root|Users)/[\w.]")
    assert not [str(path) for path in tracked() if somewhere.search(path.read_bytes())]


def test_the_readme_begins_with_what_this_is() -> None:
    first_screen = " ".join(README.split()[:150])
    assert "Research and training software, not a medical device, not for clinical use" in first_screen
    for folder in sorted(folders()):
        assert f"`{folder}/`" in README, f"{folder} is missing from the README's map"


def test_the_readmes_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    makes = re.findall(r"^(?:\$ )?make (\w+)", README, re.MULTILINE)
    assert {"rehearse", "test"} <= set(makes)
    for target in makes:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    options = {option for parameter in rehearse.params for option in parameter.opts}
    for line in re.findall(r"^(?:\$ )?\S*seedguide rehearse (.*)$", README, re.MULTILINE):
        assert set(re.findall(r"--[\w-]+", line)) <= options, line


def test_the_readme_lists_every_exit_status_and_shows_pictures_that_exist() -> None:
    for status in ExitStatus:
        assert re.search(rf"^\| {int(status)} \|", README, re.MULTILINE), f"exit status {int(status)}"
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README links to {target}"


def test_the_readme_names_functions_that_exist() -> None:
    """``package.module.name`` in the README is importable: the seed's journey stays true."""
    names = re.findall(rf"`((?:{'|'.join(PACKAGES)})\.[\w.]+)(?:\(\))?`", README)
    assert names
    for name in names:
        parts = name.split(".")
        thing: object = importlib.import_module(".".join(parts[:2]))
        for part in parts[2:]:
            thing = getattr(thing, part)


def test_compiled_code_uses_nothing_of_another_file() -> None:
    """Numba's cache notices changes of a compiled function's own file only: else a checkout goes on with old code."""
    for path, tree in modules():
        ours = {
            name.asname or name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
            for name in node.names
        }
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            if any("njit" in ast.unparse(decorator) for decorator in function.decorator_list):
                body = [node for line in function.body for node in ast.walk(line)]
                used = ours & {node.id for node in body if isinstance(node, ast.Name)}
                assert not used, f"{path}: {function.name} uses {used}"
