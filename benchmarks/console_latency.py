"""From a controller's event to the screen: a door in this process, ``seedguide console``, the page in Chromium.

The controller shows a new snapshot; the page notes when its words stand in the document and when the next frame is
drawn. Baseline: the same snapshot at a plain client of the door, without console and browser.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.console_page import open_page, served
from console.door_client import DoorClient
from controller.door import Door
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from planning.plan import Plan
from tests.browser import browser, wait_for

EVENTS = 60
EVERY_S = 0.12
_WATCH = """
window.seenAt = {};
new MutationObserver(() => {
  const text = document.getElementById('working').textContent;
  const found = text.match(/event (\\d+)/);
  if (found && !(found[1] in window.seenAt)) {
    window.seenAt[found[1]] = null;
    requestAnimationFrame(() => { window.seenAt[found[1]] = Date.now() / 1000; });
  }
}).observe(document.getElementById('working'), { childList: true, subtree: true, characterData: true });
"""


def event_latencies_ms(plan: Plan, folder: Path) -> tuple[list[float], list[float]]:
    """At the screen, and at a plain client of the door, sorted."""
    plan.save(folder / "plan.json")
    door = Door(folder, is_simulated=True)
    picture = replace(Procedure(plan, ProcedureSettings()).snapshot(0), state="INSERTING_SEED_NEEDLES")
    shown: dict[int, float] = {}
    heard: dict[int, float] = {}
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(0.1):
            door.stop_pressed()  # the loop looks in

    def follow() -> None:
        with DoorClient(folder, "baseline") as client:
            client.follow()
            while not is_over.is_set():
                news = client.news(0.2)
                words = "" if news is None else news.get("snapshot", {}).get("waiting_for", "")
                if words.startswith("event "):
                    heard.setdefault(int(words.split()[1]), time.time())

    threads = [threading.Thread(target=what, daemon=True) for what in (beat, follow)]
    for thread in threads:
        thread.start()
    door.show(picture)
    try:
        with served(folder) as address, browser() as driver:
            open_page(driver, address)
            driver.execute_script(_WATCH)
            for number in range(EVENTS):
                shown[number] = time.time()
                door.show(replace(picture, waiting_for=f"event {number}"))
                time.sleep(EVERY_S)
            last = str(EVENTS - 1)
            seen = wait_for(driver, lambda d: (s := d.execute_script("return window.seenAt")).get(last) and s)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        door.close()
    at_screen = [(at - shown[int(n)]) * 1000.0 for n, at in seen.items() if at is not None]
    at_client = [(at - shown[n]) * 1000.0 for n, at in heard.items()]
    return sorted(at_screen), sorted(at_client)
