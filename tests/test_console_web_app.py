"""The web console's server: who may see, who may speak, and that nobody else can."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from console.news import News
from console.scene import Scene
from console.web_app import WebConsole
from console.web_login import Logins, People
from controller.journal import Record

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
ORIGIN = "http://127.0.0.1:8100"
OURS = {"origin": ORIGIN, "x-seedguide": "1"}


class FakeDoor:
    """Asks what it is told to, and remembers what it was told."""

    def __init__(self, *, is_simulated: bool = False) -> None:
        self.is_simulated = is_simulated
        self.ask: dict[str, Any] | None = {"number": 7, "text": "Needle N01 is in. Confirm."}
        self.proposal: dict[str, Any] | None = None
        self.heard: list[tuple[Any, ...]] = []
        self.refusal: str | None = None
        self.age = 0.0

    def state(self) -> dict[str, Any] | None:
        return {
            "snapshot": {"state": "INSERTING_SEED_NEEDLES"},
            "ask": self.ask,
            "proposal": self.proposal,
            "devices": {},
            "stop": {"pressed": False, "acknowledged": False},
        }

    def age_s(self) -> float:
        return self.age

    async def answer(
        self, number: int, who: str, is_yes: bool, reason: str, values: dict[str, Any], /
    ) -> str | None:
        self.heard.append((number, who, is_yes, reason, *([values] if values else [])))
        if self.ask is None or self.ask["number"] != number:
            return "answered already"
        if self.refusal is None:
            self.ask = None
        return self.refusal

    async def settle(self, number: int, who: str, is_yes: bool, reason: str, /) -> str | None:
        self.heard.append(("settle", number, who, is_yes, reason))
        return self.refusal

    async def decide(self, who: str, decision: dict[str, Any], /) -> str | None:
        self.heard.append((who, decision["kind"], decision["needle"], decision["because"]))
        return self.refusal

    async def stop(self, who: str, /) -> str | None:
        self.heard.append(("stop", who))
        return self.refusal


@pytest.fixture(scope="module")
def scene(page_scene: Scene) -> Scene:
    return page_scene


@pytest.fixture(scope="module")
def people() -> People:
    out = People({})
    for name, role, pin in (
        ("An", "physician", "482913"),
        ("Bo", "nurse", "775301"),
        ("Tu", "trainee", "135790"),
    ):
        out = out.with_person(name, role, pin)
    return out


def console(scene: Scene, door: FakeDoor, people: People | None, run: Path = Path("/nowhere")) -> TestClient:
    web = WebConsole(
        scene, News(scene.plan), door, run, None if people is None else Logins(people), frozenset({ORIGIN})
    )
    web.heard([Record(1, 0, "opened", {"plan": "ab", "settings": {}}, "", "")])
    return TestClient(web.app(), base_url=ORIGIN)


@pytest.fixture
def door() -> FakeDoor:
    return FakeDoor()


@pytest.fixture
def client(scene: Scene, people: People, door: FakeDoor) -> Iterator[TestClient]:
    with console(scene, door, people) as made:
        yield made


def enter(client: TestClient, name: str, pin: str) -> None:
    answer = client.post("/api/login", json={"name": name, "pin": pin}, headers=OURS)
    assert answer.status_code == 200, answer.text
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


LOOKING = (
    "/api/scene",
    "/api/structures/GTV",
    "/api/meshes/GTV",
    "/api/scans/0",
    "/api/scans/0/hu",
    "/api/dose/planned",
    "/api/dose-figures/planned",
    "/api/state",
    "/api/journal",
)


def test_nobody_sees_the_patient_without_a_session(client: TestClient) -> None:
    for path in LOOKING:
        assert client.get(path).status_code == 401, path
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://127.0.0.1:8100/api/live", headers=OURS) as socket,
    ):
        socket.receive_json()
    assert client.get("/api/me").json() == {"me": None}
    assert client.get("/").status_code == 200


def test_a_trainee_sees_all_and_confirms_nothing(client: TestClient, door: FakeDoor) -> None:
    enter(client, "Tu", "135790")
    for path in LOOKING:
        assert client.get(path).status_code == 200, path
    answer = client.post("/api/answer", json={"number": 7, "answer": "confirm"}, headers=OURS)
    assert answer.status_code == 403
    assert "only looks" in answer.json()["why"]
    assert door.heard == []


def test_the_name_of_who_confirms_reaches_the_door_and_the_second_is_told(
    client: TestClient, door: FakeDoor
) -> None:
    enter(client, "Bo", "775301")
    assert (
        client.post("/api/answer", json={"number": 7, "answer": "confirm"}, headers=OURS).status_code == 200
    )
    assert door.heard == [(7, "Bo", True, "")]
    late = client.post("/api/answer", json={"number": 7, "answer": "confirm"}, headers=OURS)
    assert late.status_code == 409
    assert "answered already" in late.json()["why"]
    assert len(door.heard) == 1


def test_a_no_needs_a_reason(client: TestClient, door: FakeDoor) -> None:
    enter(client, "Bo", "775301")
    bare = client.post("/api/answer", json={"number": 7, "answer": "decline", "reason": " "}, headers=OURS)
    assert bare.status_code == 400
    client.post("/api/answer", json={"number": 7, "answer": "decline", "reason": "bleeding"}, headers=OURS)
    assert door.heard == [(7, "Bo", False, "bleeding")]


def test_the_controllers_refusal_is_told(client: TestClient, door: FakeDoor) -> None:
    enter(client, "Bo", "775301")
    door.refusal = "somebody at the terminal was first"
    answer = client.post("/api/answer", json={"number": 7, "answer": "confirm"}, headers=OURS)
    assert (answer.status_code, answer.json()["why"]) == (409, door.refusal)


def test_two_persons_are_two_persons(client: TestClient, door: FakeDoor) -> None:
    door.ask = {"number": 8, "text": "Time-out.", "needs_two": True}
    enter(client, "An", "482913")
    first = client.post("/api/answer", json={"number": 8, "answer": "confirm"}, headers=OURS)
    assert first.status_code == 202
    assert client.get("/api/state").json()["state"]["ask"]["first_by"] == "An"
    again = client.post("/api/answer", json={"number": 8, "answer": "confirm"}, headers=OURS)
    assert "another person" in again.json()["told"]
    assert door.heard == []
    enter(client, "Bo", "775301")
    assert (
        client.post("/api/answer", json={"number": 8, "answer": "confirm"}, headers=OURS).status_code == 200
    )
    assert door.heard == [(8, "An and Bo", True, "")]


def test_overriding_a_hold_takes_two_of_whom_one_may_decide(
    scene: Scene, people: People, door: FakeDoor
) -> None:
    everybody = people.with_person("Cy", "nurse", "864209")
    door.ask = {"number": 0, "text": "It may go on?", "needs_two": True, "needs_decider": True}
    said = {"number": 0, "answer": "confirm"}
    with console(scene, door, everybody) as client:
        enter(client, "Bo", "775301")
        assert client.post("/api/answer", json=said, headers=OURS).status_code == 202
        enter(client, "Cy", "864209")
        assert "physician or physicist" in client.post("/api/answer", json=said, headers=OURS).json()["told"]
        assert door.heard == []
        enter(client, "An", "482913")
        assert client.post("/api/answer", json=said, headers=OURS).status_code == 200
    assert door.heard == [(0, "Bo and An", True, "")]


def test_what_was_proposed_from_outside_waits_for_who_may(client: TestClient, door: FakeDoor) -> None:
    said = {"number": 3, "answer": "confirm"}
    assert client.post("/api/proposal", json=said, headers=OURS).status_code == 401
    enter(client, "Bo", "775301")
    assert client.post("/api/proposal", json=said, headers=OURS).status_code == 409, "none waits"
    door.proposal = {"number": 3, "by": "Slicer", "kind": "pause"}
    assert client.post("/api/proposal", json=said, headers=OURS).status_code == 403, "a decision"
    door.proposal["kind"] = "answer"
    assert client.post("/api/proposal", json=said, headers=OURS).status_code == 200
    assert door.ask is not None
    door.ask["needs_two"] = True
    refused = client.post("/api/proposal", json=said, headers=OURS)
    assert "two persons" in refused.json()["why"]
    no = {"number": 3, "answer": "decline", "reason": "not now"}
    assert client.post("/api/proposal", json=no, headers=OURS).status_code == 200
    assert door.heard == [("settle", 3, "Bo", True, ""), ("settle", 3, "Bo", False, "not now")]


def test_what_was_measured_goes_with_the_answer(client: TestClient, door: FakeDoor) -> None:
    enter(client, "Bo", "775301")
    said = {"number": 7, "answer": "confirm", "values": {"batch": "B-17", "measured_mci": 0.66}}
    assert client.post("/api/answer", json={**said, "values": "B"}, headers=OURS).status_code == 400
    assert client.post("/api/answer", json=said, headers=OURS).status_code == 200
    assert door.heard == [(7, "Bo", True, "", {"batch": "B-17", "measured_mci": 0.66})]


def test_the_report_is_there_once_it_is_written(scene: Scene, people: People, tmp_path: Path) -> None:
    with console(scene, FakeDoor(), people, tmp_path) as client:
        assert client.get("/api/report.html").status_code == 401
        enter(client, "Tu", "135790")
        assert client.get("/api/report.html").status_code == 404
        (tmp_path / "report.html").write_text("<p>told</p>")
        assert client.get("/api/report.html").text == "<p>told</p>"
        for other in ("/api/report.sqlite", "/api/report.html%2f..%2fjournal.sqlite"):
            assert client.get(other).status_code == 404


def test_held_the_page_is_told_what_to_do(client: TestClient, door: FakeDoor) -> None:
    enter(client, "Tu", "135790")
    held = {"snapshot": {"state": "HELD", "message": "JAM"}, "ask": None, "devices": {}, "stop": {}}
    door.state = lambda: held  # type: ignore[method-assign]
    advice = client.get("/api/state").json()["state"]["advice"]
    assert advice["rule"] == 1
    assert "Count the seeds" in advice["text"]


def test_what_a_physician_decides_a_nurse_does_not(client: TestClient, door: FakeDoor) -> None:
    door.ask = {"number": 9, "text": "Override the hold?", "needs_decider": True}
    enter(client, "Bo", "775301")
    answer = client.post("/api/answer", json={"number": 9, "answer": "confirm"}, headers=OURS)
    assert answer.status_code == 403
    enter(client, "An", "482913")
    assert (
        client.post("/api/answer", json={"number": 9, "answer": "confirm"}, headers=OURS).status_code == 200
    )


def test_decisions_are_for_who_may_decide_and_reach_the_door(client: TestClient, door: FakeDoor) -> None:
    decision = {"kind": "abandon_needle", "needle": "N01", "because": "bleeding"}
    assert client.post("/api/decide", json=decision, headers=OURS).status_code == 401
    enter(client, "Bo", "775301")
    assert client.post("/api/decide", json=decision, headers=OURS).status_code == 403
    enter(client, "An", "482913")
    assert client.post("/api/decide", json=decision, headers=OURS).status_code == 200
    assert door.heard == [("An", "abandon_needle", "N01", "bleeding")]
    for wrong in ({}, {"kind": 7}, {"kind": "abort", "count": "1"}, {"kind": "abort", "because": None}):
        assert client.post("/api/decide", json=wrong, headers=OURS).status_code == 400
    door.refusal = "abort can't be decided now"
    assert client.post("/api/decide", json={"kind": "abort"}, headers=OURS).status_code == 409


def test_the_stop_needs_no_session_and_tells_when_it_was_not_handed_over(
    client: TestClient, door: FakeDoor
) -> None:
    assert client.post("/api/stop", json={}, headers=OURS).status_code == 200
    assert door.heard == [("stop", "somebody at the console")]
    door.refusal = "no contact with the controller"
    assert client.post("/api/stop", json={}, headers=OURS).status_code == 503


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": ORIGIN},
        {"x-seedguide": "1"},
        {"origin": "http://evil.example", "x-seedguide": "1"},
        {"origin": "null", "x-seedguide": "1"},
        {"origin": ORIGIN, "x-seedguide": "1", "host": "evil.example:8100"},
    ],
)
def test_requests_of_foreign_pages_are_refused(
    client: TestClient, door: FakeDoor, headers: dict[str, str]
) -> None:
    enter(client, "An", "482913")
    for path in ("/api/answer", "/api/stop", "/api/logout", "/api/login"):
        body = {"number": 7, "answer": "confirm", "name": "An", "pin": "482913"}
        assert client.post(path, json=body, headers=headers).status_code == 403, path
    assert door.heard == []
    foreign = {"origin": "http://evil.example"}
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://127.0.0.1:8100/api/live", headers=foreign) as socket,
    ):
        socket.receive_json()


def test_a_name_resolved_to_this_machine_sees_nothing(client: TestClient) -> None:
    enter(client, "An", "482913")
    for path in ("/", *LOOKING):
        assert client.get(path, headers={"host": "evil.example:8100"}).status_code == 403, path


def test_a_session_that_was_left_is_of_no_use(client: TestClient) -> None:
    enter(client, "An", "482913")
    token = client.cookies["seedguide"]
    client.post("/api/logout", json={}, headers=OURS)
    client.cookies.set("seedguide", token)
    assert client.get("/api/scene").status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[1]", 400),
        (b'{"number": "7", "answer": "confirm"}', 400),
        (b'{"number": true, "answer": "confirm"}', 400),
        (b'{"number": 7, "answer": "perhaps"}', 400),
        (b'{"number": 7}', 400),
        (b" " * 5000, 413),
    ],
)
def test_malformed_words_are_refused(client: TestClient, door: FakeDoor, body: bytes, status: int) -> None:
    enter(client, "An", "482913")
    assert client.post("/api/answer", content=body, headers=OURS).status_code == status
    assert door.heard == []


def test_without_people_only_simulated_devices_are_confirmed(scene: Scene) -> None:
    with console(scene, FakeDoor(is_simulated=False), None) as client:
        assert client.get("/api/scene").status_code == 401
        answer = client.post("/api/answer", json={"number": 7, "answer": "confirm"}, headers=OURS)
        assert answer.status_code == 401
    door = FakeDoor(is_simulated=True)
    with console(scene, door, None) as client:
        assert client.get("/api/me").json()["me"]["is_open"]
        assert (
            client.post("/api/answer", json={"number": 7, "answer": "confirm"}, headers=OURS).status_code
            == 200
        )
        assert door.heard == [(7, "console", True, "")]


def test_every_answer_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    for path in ("/", "/static/page.js", "/api/me", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_nobody_but_this_server() -> None:
    web = Path(__file__).parents[1] / "console" / "web"
    for path in web.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "http://" not in text.replace("http://www.w3.org", ""), path
            assert "https://" not in text, path


def test_voxels_are_those_of_the_case(client: TestClient, scene: Scene) -> None:
    enter(client, "Tu", "135790")
    ct = scene.case.ct
    told = client.get("/api/scans/0").json()
    hu = np.frombuffer(client.get("/api/scans/0/hu").content, "<i2").reshape(told["shape"])
    assert np.array_equal(hu, ct.hu)
    assert told["origin_mm"] == pytest.approx(ct.grid.origin_mm, abs=1e-5)
    for structure in client.get("/api/scene").json()["structures"]:
        data = client.get(f"/api/structures/{structure['name']}").content
        mask = np.frombuffer(data, np.uint8).reshape(structure["shape"])
        whole = {"GTV": scene.anatomy.gtv, "CTV": scene.anatomy.ctv, **scene.anatomy.organs}[
            structure["name"]
        ]
        assert mask.sum() == whole.sum(), "no voxel is cut off"
        first = np.argwhere(mask)[0]
        at = np.array(structure["origin_mm"]) + first[::-1] * np.array(structure["spacing_mm"])
        assert whole[tuple(np.round(ct.grid.index_of(at)).astype(int))]
    dose = client.get("/api/dose/planned").content
    assert len(dose) == 4 * scene.planned.dose_gy.size
    for path in ("/api/structures/None", "/api/meshes/None", "/api/scans/99", "/api/scans/99/hu"):
        assert client.get(path).status_code == 404, path


def test_meshes_are_small_and_lie_on_the_structure(client: TestClient, scene: Scene) -> None:
    enter(client, "Tu", "135790")
    for name, mask in (("Body", scene.anatomy.body), ("CTV", scene.anatomy.ctv)):
        mesh = client.get(f"/api/meshes/{name}").json()
        assert 100 < len(mesh["triangles"]) <= 8000
        points = np.array(mesh["points_mm"])
        inside = scene.anatomy.grid.point_of(np.argwhere(mask))
        reach = 6.0 * np.array(scene.anatomy.grid.spacing_mm)
        assert np.all(points.min(axis=0) >= inside.min(axis=0) - reach)
        assert np.all(points.max(axis=0) <= inside.max(axis=0) + reach)


def test_the_live_feed_gives_the_log_once_and_the_state_on_every_change(
    client: TestClient, door: FakeDoor
) -> None:
    enter(client, "Bo", "775301")
    with client.websocket_connect("ws://127.0.0.1:8100/api/live?since=0", headers=OURS) as socket:
        first = socket.receive_json()
        assert first["kind"] == "journal"
        assert [record["number"] for record in first["records"]] == [1]
        state = socket.receive_json()["state"]
        assert state["ask"]["number"] == 7
        door.ask = {"number": 10, "text": "x", "needs_two": True}
        client.post("/api/answer", json={"number": 10, "answer": "confirm"}, headers=OURS)
        while (heard := socket.receive_json())["kind"] != "state":
            pass
        assert heard["state"]["ask"]["first_by"] == "Bo"
    with client.websocket_connect("ws://127.0.0.1:8100/api/live?since=1", headers=OURS) as socket:
        assert socket.receive_json()["kind"] == "state", "nothing of the log is told twice"


def test_a_scan_label_can_not_lead_out_of_the_run(scene: Scene, tmp_path: Path) -> None:
    news = News(scene.plan)
    body = {
        "event": "ScanAnalysed",
        "number": 1,
        "folder": "../../etc",
        "findings": {
            "kind": "needles",
            "registration": {"succeeded": True, "plan_from_scan": np.eye(4).tolist()},
            "needles": [],
            "seeds": [],
        },
    }
    news.take(Record(1, 0, "event", body, "", ""))
    assert news.scans
    assert news.folder_of(1, tmp_path) is None


def test_the_api_is_described_call_by_call(client: TestClient, scene: Scene) -> None:
    described = client.get("/api/openapi.json").json()["paths"]
    web = WebConsole(scene, News(scene.plan), FakeDoor(), Path("/nowhere"), None, frozenset({ORIGIN}))
    served = {
        re.sub(r":\w+", "", str(route.path))
        for route in web.routes()
        if route.path.startswith("/api/") and route.path != "/api/openapi.json"
    }
    assert served == set(described)
    assert client.get("/api").status_code == 200
