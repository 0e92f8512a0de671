"""The console: ``python -m benchmarks.console [--longest-s 20]``; about two minutes, in headless Chromium.

Each figure stands beside its goal and, as a ratio, beside a baseline of the same run: drawing beside a frame in which
nothing is drawn, the page beside the same server's plainest file, an event on the screen beside the same event at a
plain client of the door, the stop beside three busy consoles beside the stop without any.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.console_latency import event_latencies_ms
from benchmarks.console_page import EXAMPLE, page_figures
from benchmarks.console_stop import stop_rows
from controller.urgency import raise_priority
from planning.dicom import read_ct
from tests.browser import CHROMIUM, DRIVER
from tests.page_room import ended_run, page_plan


def _quantiles(times: list[float]) -> tuple[float, float, float]:
    middle, high, highest = (float(np.quantile(times, q, method="higher")) for q in (0.5, 0.99, 0.999))
    return middle, high, highest


def main() -> None:
    reader = argparse.ArgumentParser(
        description="The console's page, latency, and the stop beside busy consoles."
    )
    reader.add_argument("--longest-s", type=float, default=20.0, help="for each row of the stop")
    longest_s = reader.parse_args().longest_s
    if CHROMIUM is None or DRIVER is None:
        raise SystemExit("chromium and chromium-driver are not installed: nothing can be measured.")
    plan = page_plan(read_ct(EXAMPLE).frame_of_reference_uid)
    with tempfile.TemporaryDirectory() as made:
        page = page_figures(ended_run(Path(made) / "ended", plan))
        folder = Path(made) / "events"
        folder.mkdir()
        screen, client = event_latencies_ms(plan, folder)
        folder = Path(made) / "stop"
        folder.mkdir()
        given = raise_priority()  # as seedguide run asks for; last, because it is not given back
        stops = stop_rows(plan, folder, longest_s=longest_s)
    print("| page, CT of 512 x 512 x 100 | measured | goal | against its baseline |")
    print("|---|---|---|---|")
    empty = page["empty"]
    for name, value, goal in (
        ("a frame with nothing drawn (baseline)", empty, ""),
        ("one plane", page["one"], ">= 55"),
        ("three linked planes", page["three"], ">= 40"),
    ):
        print(f"| {name} | {value:.1f}/s | {goal} | {value / empty:.2f} |")
    print(f"| two frames with nothing drawn (baseline) | {page['idle']:.1f} ms | | 1.00 |")
    print(
        f"| window change, median | {page['window']:.1f} ms | < 50 ms | {page['window'] / page['idle']:.2f} |"
    )
    print(f"| a style sheet alone (baseline) | {page['plain_s']:.3f} s | | 1.0 |")
    print(f"| page ready | {page['ready_s']:.2f} s | < 2 s | {page['ready_s'] / page['plain_s']:.1f} |")
    print(
        "\n| event of the controller | events | median ms | 99 % | worst | goal | median against baseline |"
    )
    print("|---|---|---|---|---|---|---|")
    base = _quantiles(client)[0]
    for name, times, goal in (
        ("at a plain client of the door (baseline)", client, ""),
        ("on the screen", screen, "< 200"),
    ):
        middle, high, _ = _quantiles(times)
        print(
            f"| {name} | {len(times)} | {middle:.1f} | {high:.1f} | {times[-1]:.1f} | {goal} | {middle / base:.1f} |"
        )
    print(f"\nPrecedence as `seedguide run` asks for it: {given}.\n")
    print(
        "| stop to the axis at rest | stops | median ms | 99 % | 99.9 % | worst | median against baseline |"
    )
    print("|---|---|---|---|---|---|---|")
    alone = _quantiles(next(iter(stops.values())))[0]
    for name, times in stops.items():
        middle, high, highest = _quantiles(times)
        print(
            f"| {name} | {len(times)} | {middle:.2f} | {high:.2f} | {highest:.2f} | {max(times):.2f} "
            f"| {middle / alone:.1f} |"
        )


if __name__ == "__main__":
    main()
