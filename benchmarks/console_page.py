"""The console's page in headless Chromium: how fast a CT of 512 x 512 x 100 scrolls, and how soon the page is there.

A volume of that size is made up and drawn by the page's own code; "end to end" is until the browser asks for the next
frame. The baseline is an empty frame (requestAnimationFrame with nothing drawn), which no drawing can beat.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.browser import browser, wait_for

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
  const idle = [];
  for (let i = 0; i < 40; i++) {
    await next();
    const from = performance.now();
    await next();
    await next();
    idle.push(performance.now() - from);
  }
  const middle = (list) => list.sort((a, b) => a - b)[list.length / 2];
  done({ empty, one, three, window: middle(windows), idle: middle(idle) });
})().catch((problem) => done({ problem: String(problem) }));
"""


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of that run's page, served by a process of its own."""
    command = [sys.executable, "-m", "console.cli", "console", "--procedure", str(run)]
    with subprocess.Popen(
        [*command, "--case", str(EXAMPLE), "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[1]
        server.terminate()


def open_page(driver: Any, address: str) -> float:
    """Seconds until the page says that it is ready."""
    from_s = time.perf_counter()
    driver.get(address)
    wait_for(driver, lambda d: d.execute_script("return document.body.dataset.ready") == "yes")
    return time.perf_counter() - from_s


def open_plain(driver: Any, address: str) -> float:
    """Seconds until the same server's plainest page is there: the baseline."""
    from_s = time.perf_counter()
    driver.get(f"{address}static/api.css")
    return time.perf_counter() - from_s


def page_figures(run: Path) -> dict[str, float]:
    """Frames and slices per second, ms of a window change, s until the page is ready, and each one's baseline."""
    with served(run) as address, browser() as driver:
        driver.set_script_timeout(120)
        open_page(driver, address)  # the browser's own start is not the page's
        plain = min(open_plain(driver, address) for _ in range(3))
        ready = sorted(open_page(driver, address) for _ in range(3))[1]
        found = driver.execute_async_script(_MEASURE, FRAMES)
    if "problem" in found:
        raise RuntimeError(found["problem"])
    return {**found, "ready_s": ready, "plain_s": plain}
