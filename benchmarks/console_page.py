"""The console's page in headless Chromium: how fast a CT of 512 x 512 x 100 scrolls, and how soon the page is there.

    python -m benchmarks.console_page

A volume of that size is made up and drawn by the page's own code; "end to end" is until the browser asks for the next
frame. The baseline is an empty frame (requestAnimationFrame with nothing drawn), which no drawing can beat.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.browser import CHROMIUM, DRIVER, browser, wait_for

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
FRAMES = 240

_MEASURE = """
const done = arguments[arguments.length - 1];
const frames = arguments[0];
const picture = window.seedguide.picture;
const next = () => new Promise((r) => requestAnimationFrame(r));
async function rate(act) {
  for (let i = 0; i < 10; i++) { act(i); await next(); }
  const from = performance.now();
  for (let i = 0; i < frames; i++) { act(i); await next(); }
  return (frames * 1000) / (performance.now() - from);
}
(async () => {
  const { Volume } = await import('/static/volume.js');
  const grid = { shape: [100, 512, 512], origin_mm: [-250, -250, -125], spacing_mm: [0.977, 0.977, 2.5] };
  const data = new Int16Array(100 * 512 * 512);
  for (let i = 0; i < data.length; i++) data[i] = ((i * 2654435761) >>> 20) - 1024;
  const volume = new Volume(grid, data);
  const scene = picture.scene;
  picture.shows.cursor = true;
  const empty = await rate(() => {});
  picture.scene = { ...scene, volume, cursor: volume.centre() };
  const [x, y] = volume.centre();
  const along = (axis, i) => volume.centreOf(axis, (i * (axis === 2 ? 1 : 5)) % volume.count[axis]);
  const views = picture.views;
  picture.views = [views[0]];
  picture.eye.hidden = true;
  const one = await rate((i) => picture.point([x, y, along(2, i)]));
  picture.views = views;
  const three = await rate((i) => picture.point([along(0, i), along(1, i), along(2, i)]));
  const windows = [];
  for (let i = 0; i < 40; i++) {
    await next();
    const from = performance.now();
    picture.window(40 + i, 400);
    await next();
    await next();
    windows.push(performance.now() - from);
  }
  windows.sort((a, b) => a - b);
  done({ empty, one, three, window: windows[20] });
})().catch((problem) => done({ problem: String(problem) }));
"""


@contextmanager
def served(run: Path) -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "console.cli",
        "console",
        "--procedure",
        str(run),
        "--case",
        str(EXAMPLE),
    ]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[1]
        server.terminate()


def measure(run: Path) -> dict[str, Any]:
    with served(run) as address, browser() as driver:
        driver.set_script_timeout(120)
        driver.get(address)  # the browser's own start is not the page's
        wait_for(driver, lambda d: d.execute_script("return document.body.dataset.ready") == "yes")
        from_s = time.perf_counter()
        driver.get(address)
        wait_for(driver, lambda d: d.execute_script("return document.body.dataset.ready") == "yes")
        ready_s = time.perf_counter() - from_s
        found = driver.execute_async_script(_MEASURE, FRAMES)
    if "problem" in found:
        raise RuntimeError(found["problem"])
    return {**found, "ready_s": ready_s}


def main() -> None:
    if CHROMIUM is None or DRIVER is None:
        print("chromium and chromium-driver are not installed: nothing can be measured.")
        return
    from tests.test_console_browser import make_run

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        make_run(run)
        found = measure(run)
        shutil.rmtree(run)
    rows = [
        ("empty frame (baseline)", found["empty"], "frames/s", ""),
        ("one plane", found["one"], "slices/s", ">= 55"),
        ("three linked planes", found["three"], "slices/s", ">= 40"),
        ("window change, median", found["window"], "ms", "< 50"),
        ("page ready", found["ready_s"], "s", "< 2"),
    ]
    print("| console, 512 x 512 x 100 | measured | | goal | of the baseline |")
    print("|---|---|---|---|---|")
    for name, value, unit, goal in rows:
        share = f"{value / found['empty']:.2f}" if unit.endswith("/s") else ""
        print(f"| {name} | {value:.1f} | {unit} | {goal} | {share} |")


if __name__ == "__main__":
    main()
