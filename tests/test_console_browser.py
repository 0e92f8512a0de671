"""The page in a real browser, cut off from the network: a run is looked at, by hand, key and touch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planning.dicom import read_ct
from tests.browser import browser, complaints, needs_browser, wait_for
from tests.made_plan import made_plan
from tests.plain_room import Room

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
pytestmark = [
    needs_browser,
    pytest.mark.skipif(
        "SEEDGUIDE_BROWSER" not in os.environ,
        reason="asked for by SEEDGUIDE_BROWSER=1: two cores can be too few",
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def make_run(folder: Path) -> Path:
    """A procedure of two needles, whose CTs are all the planning CT."""
    plan = replace(
        made_plan(2, 1, 2),
        frame_of_reference_uid=read_ct(EXAMPLE).frame_of_reference_uid,
        site_protocol="head-and-neck",
    )
    plan.save(folder / "plan.json")
    room = Room(plan, setup_mm=3.0, own_mm=1.2, seed=1)
    session = room.session(folder)
    room.journal.append(0, "opened", {"plan": plan.content_hash, "settings": vars(room.settings)})
    session.run()
    assert session.procedure.state == "COMPLETED"
    for number in range(1, session.procedure.known.scans + 1):
        shutil.copytree(EXAMPLE, folder / "scans" / str(number), symlinks=True)
    room.journal.close()
    return folder


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "console.cli", "console", "--procedure", str(run)]
    with subprocess.Popen(
        [*command, "--case", str(EXAMPLE), "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("console: http://127.0.0.1:"), line
            yield line.split()[1]
        finally:
            server.kill()  # leaving the block waits for it


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    with browser() as driver:
        driver.get(address)
        wait_for(driver, lambda d: d.execute_script("return document.body.dataset.ready") == "yes")
        yield driver


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def greys(page: Any, canvas: str) -> int:
    """How many different values stand in the canvas: 1 when nothing is drawn."""
    return int(
        page.execute_script(
            "const c = document.getElementById(arguments[0]); const p = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
            "for (let i = 0; i < p.length; i += 4) s.add(p[i]); return s.size",
            canvas,
        )
    )


def test_the_page_stands_without_a_network(page: Any) -> None:
    assert "Completed" in find(page, "#state").text
    assert "live" in find(page, "#link").text
    for canvas in ("axial", "coronal", "sagittal", "eye"):
        wait_for(page, lambda _d, name=canvas: greys(page, name) > 50)
    assert not complaints(page)


def test_every_card_shows_what_it_is_for(page: Any) -> None:
    rows = page.find_elements("css selector", "#needles tbody tr")
    assert [row.text.split()[0] for row in rows] == ["N01", "N02"]
    assert all("within" in row.text for row in rows)
    find(page, "[data-tab=delivery]").click()
    assert "4 of 4" in find(page, "#delivery").text
    find(page, "[data-tab=dose]").click()
    wait_for(page, lambda d: d.find_elements("css selector", "#dvh svg"))
    assert "D90" in find(page, "#figures").text
    find(page, "[data-tab=log]").click()
    assert "END: COMPLETED" in find(page, "#records").text
    find(page, "#search").send_keys("PASS")
    shown = [item.text for item in page.find_elements("css selector", "#records li") if item.is_displayed()]
    assert len(shown) == 4
    assert all("PASS" in text for text in shown)
    find(page, "#search").clear()
    find(page, "[data-tab=space]").click()
    wait_for(page, lambda d: d.find_elements("css selector", "#space canvas"), 60)
    find(page, "[data-tab=eye]").click()
    find(page, "[data-tab=needles]").click()
    assert not complaints(page)


def test_the_slice_follows_wheel_keys_and_a_chosen_needle(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def cursor() -> list[float]:
        return [float(v) for v in page.execute_script("return window.seedguide.picture.scene.cursor")]

    page.execute_script("const p = window.seedguide.picture; p.point(p.scene.volume.centre())")
    before = cursor()
    find(page, "#axial").send_keys(Keys.ARROW_DOWN)
    stepped = cursor()
    assert stepped[:2] == before[:2]
    assert stepped[2] != before[2]
    find(page, "#needles tbody tr:nth-child(2)").click()
    found = page.execute_script("return window.seedguide.state.found.needles.N02.tip_mm")
    scan = page.execute_script("return window.seedguide.state.scans.at(-1).scan_from_plan")
    expected = [sum(row[k] * found[k] for k in range(3)) + row[3] for row in scan[:3]]
    assert cursor() == pytest.approx(expected, abs=1e-6)


def test_a_window_changes_the_picture(page: Any) -> None:
    script = (
        "const c = document.getElementById('axial');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].reduce((a, b) => a + b, 0)"
    )
    soft = page.execute_script(script)
    page.execute_script("window.seedguide.picture.window(1000, 4000)")
    wait_for(page, lambda d: d.execute_script(script) < soft)
    page.execute_script("window.seedguide.picture.window(40, 400)")


def test_it_speaks_chinese_too(page: Any) -> None:
    find(page, "#language").click()
    wait_for(page, lambda d: "停止" in find(d, "#stop").text)
    assert "不是医疗器械" in find(page, "#disclaimer").text
    find(page, "#language").click()
    wait_for(page, lambda d: "STOP" in find(d, "#stop").text)


@pytest.mark.parametrize("key", [" ", "\ue00c"])
def test_space_and_escape_stop_from_anywhere(page: Any, key: str) -> None:
    page.execute_script("document.getElementById('stop-told').textContent = ''")
    find(page, "[data-tab=needles]").send_keys(key)
    told = wait_for(page, lambda d: find(d, "#stop-told").text)
    assert "NOT ACKNOWLEDGED" in told or "not yet" in told, "a run that is over acknowledges nothing"


def test_nothing_stands_in_the_way_of_people_who_see_or_move_badly(page: Any) -> None:
    from axe_selenium_python import Axe

    axe = Axe(page)
    axe.inject()
    found = axe.run(options={"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}})
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found["violations"]] == []
