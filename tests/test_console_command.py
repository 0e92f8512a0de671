"""``seedguide console`` at other addresses: only with TLS and login; and what a stranger gets over real sockets."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.cli import main
from console.scene import Scene
from console.web_login import TRIES, People
from tests.page_room import PageRoom, ServedPage


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--host", "192.0.2.7"], "needs --cert, --key and --users"),
        (["--host", "192.0.2.7", "--cert", "c.pem", "--key", "k.pem"], "needs --cert, --key and --users"),
        (["--host", "0.0.0.0", "--cert", "c", "--key", "k", "--users", "u"], "say with --name"),
        (["--host", "console.example.org"], "give an IP address"),
        (["--cert", "c.pem"], "--cert and --key together"),
        (["--cert", "c.pem", "--key", "k.pem"], "c.pem: no such file"),
        (["--name", "evil.example/x"], "a host name"),
    ],
)
def test_what_would_be_open_to_others_is_refused(
    options: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["console", "--procedure", str(tmp_path), *options]) == 2
    told = capsys.readouterr().err
    assert why in told
    assert told.count("\n") == 1


@pytest.fixture(scope="module")
def page(
    page_scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServedPage, PageRoom]]:
    """A live procedure at its time-out, behind TLS and login."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    cert, key, users = folder / "cert.pem", folder / "key.pem", folder / "users.json"
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    people = People({}).with_person("An", "physician", "482913").with_person("Tu", "trainee", "135790")
    people.save(users)
    room = PageRoom(page_scene.plan, folder / "run", setup_mm=0.2, own_mm=0.2)
    served = ServedPage(room.folder, page_scene, users=users, tls=(cert, key))
    room.begin()
    yield served, room
    served.close()
    room.close()


def say(
    served: ServedPage, path: str, body: Any = None, *, cookie: str = "", origin: str | None = None
) -> tuple[int, http.client.HTTPMessage, Any]:
    """A request as curl would send it; the page's own headers unless told otherwise."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = http.client.HTTPSConnection("127.0.0.1", served.port, timeout=30, context=context)
    headers = {"Cookie": cookie} if cookie else {}
    if body is not None:
        headers |= {"X-Seedguide": "1", "Origin": origin or f"https://127.0.0.1:{served.port}"}
    link.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
    answer = link.getresponse()
    told = answer.read()
    link.close()
    return answer.status, answer.headers, json.loads(told) if told[:1] in b"{[" else told


def test_over_tls_the_cookie_is_secure_and_useless_once_left(page: tuple[ServedPage, PageRoom]) -> None:
    served, _ = page
    assert served.address.startswith("https://")
    assert say(served, "/api/state")[0] == 401
    status, headers, _ = say(served, "/api/login", {"name": "An", "pin": "482913"})
    assert status == 200
    made = headers["set-cookie"]
    assert all(part in made.lower() for part in ("secure", "httponly", "samesite=strict"))
    cookie = made.partition(";")[0]
    assert say(served, "/api/state", cookie=cookie)[0] == 200
    assert say(served, "/api/answer", {"number": 6, "answer": "confirm"}, cookie="seedguide=forged")[0] == 401
    foreign = say(served, "/api/stop", {}, cookie=cookie, origin="https://evil.example")
    assert foreign[0] == 403
    assert say(served, "/api/logout", {}, cookie=cookie)[0] == 200
    assert say(served, "/api/state", cookie=cookie)[0] == 401, "replayed"


def test_plain_http_gets_nothing(page: tuple[ServedPage, PageRoom]) -> None:
    link = http.client.HTTPConnection("127.0.0.1", page[0].port, timeout=30)
    link.request("GET", "/api/state")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        link.getresponse()
    link.close()


def test_a_confirmation_that_is_sent_again_counts_once(page: tuple[ServedPage, PageRoom]) -> None:
    served, room = page
    _, headers, _ = say(served, "/api/login", {"name": "An", "pin": "482913"})
    cookie = headers["set-cookie"].partition(";")[0]
    while not (state := say(served, "/api/state", cookie=cookie)[2]["state"]) or not state["ask"]:
        pass  # the follower has not heard yet
    number = state["ask"]["number"]
    said = {"number": number, "answer": "confirm"}
    assert say(served, "/api/answer", said, cookie=cookie)[0] == 202, "patient: by two"
    assert say(served, "/api/answer", said, cookie=cookie)[0] == 202
    assert [r for r in room.told() if r.body.get("event") == "OperatorConfirmed"] == []
    told = say(served, "/api/answer", {"number": number - 1, "answer": "confirm"}, cookie=cookie)
    assert told[0] == 409, "an earlier one"


def test_trying_pins_is_slowed_and_the_stop_is_not(page: tuple[ServedPage, PageRoom]) -> None:
    served, room = page
    wrong = [say(served, "/api/login", {"name": "Tu", "pin": f"00000{n}"}) for n in range(TRIES + 1)]
    assert [status for status, _, _ in wrong] == [401] * (TRIES + 1)
    assert "too many" in wrong[-1][2]["why"]
    right = say(served, "/api/login", {"name": "Tu", "pin": "135790"})
    assert right[0] == 401, "the right one too, for a minute"
    assert say(served, "/api/stop", {})[0] == 200
    assert room.ended.result(30.0) == "STOPPED"
