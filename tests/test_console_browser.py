"""The page in a real browser, cut off from the network: a whole procedure by click, key and touch, then looked at.

Everything waits for what the page shows, never for time; the procedure behind it is played in virtual time.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from console.door_client import DoorClient
from console.scene import Scene
from console.web_login import People
from controller.journal import read_journal
from tests.browser import browser, complaints, needs_browser, wait_for
from tests.page_room import PageRoom, ServedPage

pytestmark = needs_browser
SHOTS = Path(os.environ.get("SEEDGUIDE_SCREENSHOTS", Path(__file__).parents[1] / "out" / "screenshots"))
TABLET = (1180, 820)
CONFIRM = "#confirm:not([disabled])"


@pytest.fixture(scope="module")
def scene(page_scene: Scene) -> Scene:
    return page_scene


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as made:
        yield made


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def opened(driver: Any, address: str) -> None:
    driver.get(address)
    wait_for(driver, lambda d: d.execute_script("return document.body.dataset.ready") == "yes")


def state(page: Any) -> dict[str, Any]:
    """What the page knows: protocol's state, number and task of the question."""
    script = (
        "const s = window.seedguide.state; return s && {state: s.snapshot.state, "
        "number: s.ask?.number ?? null, task: s.ask ? (s.ask.item ?? s.ask.task) : null}"
    )
    return dict(page.execute_script(script) or {})


def asked(page: Any, after: int | None) -> dict[str, Any]:
    """The next question with its button drawn, or the state in which nothing more is asked."""

    def is_new(d: Any) -> dict[str, Any] | None:
        now = state(d)
        if now.get("state") in ("HELD", "COMPLETED", "STOPPED") and now["number"] is None:
            return now if after != 0 or now["state"] != "HELD" else None  # 0: taken back a moment ago
        is_ready = now.get("number") not in (None, after) and d.find_elements("css selector", CONFIRM)
        return now if is_ready else None

    return dict(wait_for(page, is_new))


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.save_screenshot(str(SHOTS / f"{name}.png"))


def resized(page: Any, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


# --- one procedure, from the time-out to the last CT ----------------------------------------------------------


@dataclass
class Story:
    """What was seen on the way."""

    page: Any
    room: PageRoom
    tasks: list[str] = field(default_factory=list)
    scan_shown: str = ""
    rulings: list[str] = field(default_factory=list)
    proposed: str = ""
    proposal: str = ""
    proposed_by: int | str = ""
    corrected: list[str] = field(default_factory=list)
    held: str = ""
    took_back: list[str] = field(default_factory=list)
    ended: str = ""


@pytest.fixture(scope="module")
def story(driver: Any, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("run")
    room = PageRoom(scene.plan, folder, person_judges=True, setup_mm=3.0, own_mm=1.2, seed=1)
    room.gate = threading.Event()  # the first CT waits until its waiting has been seen
    served = ServedPage(folder, scene)
    room.begin()
    opened(driver, served.address)
    told = Story(driver, room)
    _play(told)
    yield told
    served.close()
    room.close()


def _play(told: Story) -> None:
    """By clicking what the page asks; one no, and the hold after it taken back at the page."""
    from selenium.webdriver.common.keys import Keys

    page, number, has_said_no = told.page, None, False
    while True:
        now = asked(page, number)
        number, task = now["number"], now["task"]
        told.tasks.append(task or now["state"])
        if told.tasks.count(told.tasks[-1]) == 1:
            shot(page, f"{len(set(told.tasks)):02d}-{told.tasks[-1]}")
        match task:
            case None if now["state"] == "HELD":
                told.held = f"{find(page, '#next').text}"
                find(page, "#decide button[type=submit]").click()
            case None:
                told.ended = told.room.ended.result(30.0)
                return
            case "patient":
                find(page, "body").send_keys(Keys.ENTER)
            case "seeds":
                find(page, "#batch").send_keys("B-17")
                find(page, "#measured").send_keys("0.66")
                find(page, "#confirm").click()
            case "judge_needles":
                told.rulings.append(find(page, "#confirm").text)
                told.proposed = told.proposed or find(page, "#ruling select").text
                told.corrected += [
                    s.get_attribute("data-needle")
                    for s in page.find_elements("css selector", "#ruling select")
                    if s.get_attribute("value") == "correct"
                ]
                find(page, "#confirm").click()
            case "cartridges":
                with DoorClient(told.room.folder, "3D Slicer") as outside:
                    told.proposed_by = outside.propose("answer", "target set", number=number)
                    wait_for(page, lambda d: find(d, "#proposal-confirm").is_enabled())
                    told.proposal = find(page, "#proposal").text
                    shot(page, "proposal")
                    find(page, "#proposal-confirm").click()
                    wait_for(page, lambda d: not find(d, "#proposal").is_displayed())
            case "couple_applicator" if not has_said_no:
                has_said_no = True
                find(page, "#decline").click()
                find(page, "#reason").send_keys("hub is bent")
                find(page, "#why button[type=submit]").click()
            case "confirm_resume":
                told.took_back.append(find(page, "#next").text)
                find(page, "#confirm").click()
            case _:
                find(page, "#confirm").click()
        if told.tasks.count("load_needle") == 2 and not told.scan_shown:
            wait_for(page, lambda d: state(d)["state"] == "AWAITING_REFERENCE_SCAN")
            told.scan_shown = wait_for(page, lambda d: find(d, "#working").text)
            shot(page, "ct-awaited")
            told.room.gate.set()


def test_a_whole_procedure_is_confirmed_at_the_page(story: Story) -> None:
    assert story.ended == "COMPLETED"
    assert story.tasks[:4] == ["patient", "plan", "seeds", "cartridges"]
    assert {"load_needle", "judge_needles", "couple_applicator", "seat_cartridge"} <= set(story.tasks)
    assert sum(story.room.template.seeds_dropped.values()) == 4
    told = [r.body for r in read_journal(story.room.folder / "journal.sqlite") if r.kind == "event"]
    batch = next(body["values"] for body in told if body.get("values"))
    assert batch == {"batch": "B-17", "measured_mci": 0.66}
    assert not complaints(story.page)


def test_while_the_machine_works_the_page_says_so_and_asks_nothing(story: Story) -> None:
    assert "CT 1" in story.scan_shown
    assert "Nothing to confirm" in story.scan_shown


def test_a_correction_is_shown_before_it_is_done(story: Story) -> None:
    assert "2 to correct" in story.rulings[0]
    assert story.corrected == ["N01", "N02"]
    assert "out and in again" in story.proposed
    assert "0 to correct" in story.rulings[-1]


def test_what_is_proposed_from_outside_waits_at_the_page_for_a_person(story: Story) -> None:
    assert story.proposed_by == 1
    assert "3D Slicer proposes: to go on with what is asked (target set)" in story.proposal
    told = [r.body for r in read_journal(story.room.folder / "journal.sqlite") if r.kind == "proposal"]
    assert [body.get("settled", body.get("by")) for body in told] == ["3D Slicer", "confirmed"]


def test_a_no_holds_and_the_hold_is_decided_at_the_page(story: Story) -> None:
    assert "hub is bent" in story.held
    assert "Nothing moves by itself" in story.held
    assert "Go on" in story.held
    assert len(story.took_back) == 1
    assert "it may go on" in story.took_back[0]


# --- looking at what has become of it -------------------------------------------------------------------------


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


def tab(page: Any, name: str) -> None:
    find(page, f"[data-tab={name}]").click()


def test_the_picture_stands_without_a_network(story: Story) -> None:
    page = story.page
    page.execute_script("const p = window.seedguide.picture; p.point(p.scene.volume.centre())")
    for canvas in ("axial", "coronal", "sagittal"):
        wait_for(page, lambda _d, name=canvas: greys(page, name) > 50)
    assert not complaints(page)


def test_every_card_shows_what_it_is_for(story: Story) -> None:
    page = story.page
    rows = page.find_elements("css selector", "#needles tbody tr")
    assert [row.text.split()[0] for row in rows] == ["N01", "N02"]
    assert all("within" in row.text and "±" in row.text for row in rows)
    assert "planned (" in find(page, "#chosen").text
    tab(page, "delivery")
    words = find(page, "#delivery").text
    for part in ("4 of 4", "Left in the cartridge", "✓ answers", "✓ clear", "Depth", "Force"):
        assert part in words, part
    tab(page, "dose")
    wait_for(page, lambda d: d.find_elements("css selector", "#dvh svg"))
    words = find(page, "#dose").text
    for part in ("D90", "V100", "V150", "V200", "Dmean", "✗"):
        assert part in words, part
    shot(page, "dose")
    tab(page, "log")
    assert "END: COMPLETED" in find(page, "#records").text
    find(page, "#search").send_keys("PASS")
    shown = [item.text for item in page.find_elements("css selector", "#records li") if item.is_displayed()]
    assert len(shown) == 4
    assert all("PASS" in text for text in shown)
    find(page, "#search").clear()
    tab(page, "space")
    wait_for(page, lambda d: d.find_elements("css selector", "#space canvas"), 60)
    tab(page, "eye")
    tab(page, "needles")
    assert not complaints(page)


def test_dose_lines_are_those_of_the_seeds_as_they_lie(story: Story) -> None:
    button = find(story.page, "[data-i18n=show_dose]")
    button.click()
    script = "return window.seedguide.picture.isodoses.map((d) => [d.percent, d.which])"
    shown = wait_for(story.page, lambda d: d.execute_script(script))
    assert shown == [[50, "now"], [100, "now"], [150, "now"]]
    button.click()


def test_the_slice_follows_keys_and_a_chosen_needle_in_all_planes(story: Story) -> None:
    from selenium.webdriver.common.keys import Keys

    page = story.page

    def cursor() -> list[float]:
        return [float(v) for v in page.execute_script("return window.seedguide.picture.scene.cursor")]

    page.execute_script("const p = window.seedguide.picture; p.point(p.scene.volume.centre())")
    before = cursor()
    find(page, "#axial").send_keys(Keys.ARROW_DOWN)
    stepped = cursor()
    assert stepped[:2] == before[:2]
    assert stepped[2] != before[2]
    assert page.execute_script(
        "return window.seedguide.picture.views.every((v) => v.scene === v.scene && "
        "v.scene.cursor === window.seedguide.picture.scene.cursor)"
    )
    find(page, "#needles tbody tr:nth-child(2)").click()
    found = page.execute_script("return window.seedguide.state.found.needles.N02.tip_mm")
    assert cursor() == pytest.approx(found, abs=1e-6)  # this room's CTs lie in the plan's frame


def test_a_finger_steps_through_the_slices(story: Story) -> None:
    from selenium.webdriver import ActionChains

    page = story.page
    script = "const s = window.seedguide.picture.scene; return s.volume.sliceAt(2, s.cursor[2]) + 0"
    page.execute_script("const p = window.seedguide.picture; p.point(p.scene.volume.centre())")
    before = page.execute_script(script)
    axial = find(page, "#axial")
    size = axial.size
    chain = ActionChains(page)
    chain.move_to_element_with_offset(
        axial, size["width"] // 2 - 27, size["height"] // 2 - 27
    ).click().perform()
    assert page.execute_script(script) == before + 1
    chain.move_to_element_with_offset(
        axial, size["width"] // 2 - 27, size["height"] // 2 - 77
    ).click().perform()
    assert page.execute_script(script) == before


def test_window_by_preset_and_by_drag(story: Story) -> None:
    from selenium.webdriver import ActionChains

    page = story.page
    script = "const p = window.seedguide.picture; return [p.level, p.width]"
    page.execute_script(
        "const s = document.getElementById('window'); s.value = '500,2000'; s.dispatchEvent(new Event('change'))"
    )
    assert page.execute_script(script) == [500, 2000]
    chain = ActionChains(page).move_to_element(find(page, "#axial"))
    chain.w3c_actions.pointer_action.pointer_down(button=2)
    chain.w3c_actions.pointer_action.move_by(30, 10)
    chain.w3c_actions.pointer_action.pointer_up(button=2)
    chain.perform()
    level, width = page.execute_script(script)
    assert width > 2000
    assert level < 500
    page.execute_script("window.seedguide.picture.window(40, 400)")


def test_it_speaks_chinese_too(story: Story) -> None:
    page = story.page
    find(page, "#language").click()
    wait_for(page, lambda d: "停止" in find(d, "#stop").text)
    shot(page, "zh")
    words = find(page, "body").text
    assert "不是医疗器械" in words
    english = set(re.findall(r"[A-Za-z]{4,}", words)) - {"live", "COMPLETED", "English", "Made", "MADE"}
    assert english <= {"seeds", "seen"}, "only the controller's last sentence stays as it wrote it"
    find(page, "#language").click()
    wait_for(page, lambda d: "STOP" in find(d, "#stop").text)


def test_nothing_stands_in_the_way_of_people_who_see_or_move_badly(story: Story) -> None:
    from axe_selenium_python import Axe

    axe = Axe(story.page)
    axe.inject()
    found = axe.run(options={"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}})
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found["violations"]] == []


def test_on_a_tablet_nothing_lies_on_anything_and_fingers_find_everything(story: Story) -> None:
    resized(story.page, *TABLET)
    shot(story.page, "tablet")
    script = """
        const seen = [...document.querySelectorAll('button, select, canvas')].filter((e) => e.checkVisibility());
        const boxes = seen.map((e) => [e.id || e.textContent, e.getBoundingClientRect()]);
        const bad = [];
        for (const [name, b] of boxes) {
          if (b.right > innerWidth + 1 || b.left < -1) bad.push(name + ' leaves the screen');
          if (b.height < 40) bad.push(name + ' is too small for a finger');
        }
        for (const [i, [one, a]] of boxes.entries()) for (const [other, b] of boxes.slice(i + 1)) {
          const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
          const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
          if (wide > 1 && high > 1) bad.push(one + ' lies on ' + other);
        }
        return bad;
    """
    assert story.page.execute_script(script) == []
    resized(story.page, *reversed(TABLET))
    shot(story.page, "tablet-on-end")
    below = "return ['next', 'picture'].map((i) => document.getElementById(i).getBoundingClientRect().top)"
    next_action, picture = story.page.execute_script(below)
    assert next_action < picture < TABLET[0], "on end the next action stands first"
    resized(story.page, 1920, 1080)


# --- people, stop, and what becomes of a page that is cut off -------------------------------------------------


@pytest.fixture
def two(driver: Any, scene: Scene, tmp_path: Path) -> Iterator[tuple[Any, PageRoom, ServedPage]]:
    """A procedure at its time-out, and people with PINs."""
    users = tmp_path / "users.json"
    people = People({}).with_person("An", "physician", "482913").with_person("Bo", "nurse", "775301")
    people.save(users)
    room = PageRoom(scene.plan, tmp_path / "run", setup_mm=0.2, own_mm=0.2)
    served = ServedPage(room.folder, scene, users=users)
    room.begin()
    driver.get(served.address)
    yield driver, room, served
    served.close()
    room.close()


def enter(page: Any, name: str, pin: str) -> None:
    wait_for(page, lambda d: find(d, "#login").is_displayed())
    find(page, "#login-name").send_keys(name)
    find(page, "#login-pin").send_keys(pin)
    find(page, "#login button[type=submit]").click()
    wait_for(page, lambda d: d.execute_script("return document.body.dataset.ready") == "yes")


def test_two_people_stop_by_key_in_one_of_three_windows_and_a_crash(
    two: tuple[Any, PageRoom, ServedPage], scene: Scene
) -> None:
    page, room, served = two
    shot(page, "login")
    enter(page, "An", "482913")
    wait_for(page, lambda d: d.find_elements("css selector", CONFIRM))
    find(page, "#confirm").click()
    wait_for(page, lambda d: "second person" in find(d, "#second").text)
    find(page, "#leave").click()
    enter(page, "Bo", "775301")
    wait_for(page, lambda d: d.find_elements("css selector", CONFIRM))
    find(page, "#confirm").click()
    wait_for(page, lambda d: state(d).get("task") == "plan")
    assert [r.body["who"] for r in room.told() if r.body.get("event") == "OperatorConfirmed"] == ["An and Bo"]

    first = page.current_window_handle
    for _ in range(2):  # three windows of the same procedure
        page.switch_to.new_window("tab")
        opened(page, served.address)
    records = len(room.told())

    served.close()  # as a crash
    wait_for(page, lambda d: "NO CONTACT" in find(d, "#link").text)
    assert "is-stale" in find(page, "body").get_attribute("class")
    shot(page, "no-contact")
    again = ServedPage(room.folder, scene, served.port, users=room.folder.parent / "users.json")
    try:
        page.get(again.address)  # the sessions went with the server
        enter(page, "An", "482913")
        assert "live" in find(page, "#link").text
        assert len(room.told()) == records, "nothing has happened"
        find(page, "[data-tab=log]").send_keys(" ")
        wait_for(page, lambda d: "acknowledged: the devices have stopped" in find(d, "#stop-told").text)
        shot(page, "stopped")
        assert room.ended.result(30.0) == "STOPPED"
        told = [r.body for r in read_journal(room.folder / "journal.sqlite") if r.kind == "event"]
        assert {"event": "StopPressed", "who": "An"} in told
    finally:
        for handle in [h for h in page.window_handles if h != first]:
            page.switch_to.window(handle)
            page.close()
        page.switch_to.window(first)
        again.close()


def test_the_stop_needs_no_login_and_says_when_nobody_acknowledges(
    two: tuple[Any, PageRoom, ServedPage],
) -> None:
    page, room, _ = two
    wait_for(page, lambda d: find(d, "#login").is_displayed())
    room.close()  # nobody is behind the door any more
    find(page, "#login-name").send_keys("\ue00c")
    wait_for(page, lambda d: "NOT ACKNOWLEDGED" in find(d, "#stop-told").text)
