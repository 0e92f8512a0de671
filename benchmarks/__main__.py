"""All benchmarks, into one page: ``python -m benchmarks [--only NAME ...] [--list]``.

Each section is a module of this folder, run in a process of its own; what it prints goes into ``RESULTS.md`` between
two marks that name it, with the command, the machine and its load. Sections that were not run stay as they are. Exit
status 1 when a benchmark failed; its section then stays as it was.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("RESULTS.md")


@dataclass(frozen=True)
class Section:
    """One benchmark: its module, heading and usual arguments."""

    module: str
    heading: str
    arguments: tuple[str, ...] = ()


SECTIONS = (
    Section("dose", "Dose"),
    Section("plan_a_case", "Planning the example"),
    Section("loading", "Seed loading against yardsticks, and the proven gap"),
    Section("robustness", "Placement errors"),
    Section("campaign", "Campaigns"),
    Section("template", "Printed template"),
    Section("fuzz_dicom", "Damaged DICOM"),
    Section("scanner", "Simulated scanner"),
    Section("imaging_accuracy", "Needles, seeds and registration against truth"),
    Section("imaging_speed", "Imaging time on 512 x 512 x 100 voxels"),
    Section("receiver", "Receiving a series"),
    Section("rehearsal", "A whole rehearsal"),
    Section("kill_points", "The controller killed at every point"),
    Section("control_campaign", "The control part alone: people, CTs and kills by chance"),
    Section("fault_campaign", "Procedures under faults"),
    Section("console", "The console: page, latency, and the stop beside busy consoles"),
    Section("igtl", "OpenIGTLink"),
)


def with_section(page: str, section: Section, body: str) -> str:
    """The page with the section's text between its marks, or appended."""
    begin, end = f"<!-- begin {section.module} -->", f"<!-- end {section.module} -->"
    text = f"{begin}\n## {section.heading}\n\n{body}\n{end}"
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if marked.search(page):
        return marked.sub(lambda _: text, page)
    return page.rstrip("\n") + "\n\n" + text + "\n"


def run(section: Section) -> tuple[int, str]:
    """The exit status and the section's text."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", f"benchmarks.{section.module}", *section.arguments]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )  # progress is shown
    words = " ".join(["python", "-m", f"benchmarks.{section.module}", *section.arguments])
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} at the beginning"
    if done.returncode:
        print(done.stdout[-4000:], file=sys.stderr)
    return done.returncode, f"`{words}` ({where})\n\n```\n{done.stdout.strip()}\n```"


def main() -> int:
    names = [section.module for section in SECTIONS]

    def named(beginning: str) -> str:
        """The section that begins so."""
        fitting = [name for name in names if name == beginning] or [
            n for n in names if n.startswith(beginning)
        ]
        if len(fitting) != 1:
            raise argparse.ArgumentTypeError(f"{beginning} names {len(fitting)} of: {', '.join(names)}")
        return fitting[0]

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", type=named, metavar="NAME", help=f"or how it begins: {', '.join(names)}"
    )
    parser.add_argument("--list", action="store_true", help="name the sections and end")
    options = parser.parse_args()
    if options.list:
        for section in SECTIONS:
            print(f"{section.module:18s} {section.heading}")
        return 0
    failed = []
    for section in SECTIONS:
        if options.only and section.module not in options.only:
            continue
        print(f"{section.module} ...", flush=True)
        status, body = run(section)
        if status:
            failed.append(section.module)
            continue
        print(body, flush=True)
        page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Results of the benchmarks\n"
        PAGE.write_text(with_section(page, section, body), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
