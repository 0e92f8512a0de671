"""The console's HTTP and WebSocket side: pictures and news out, a person's word in. API.md describes it.

Runs in its own process and owns nothing: what it is told to do it says at the controller's door, and shows what
comes back. It may crash, be reloaded or opened three times without the procedure noticing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from console.news import News
from console.scene import DoseFigures, ScanShelf, Scene, grid_words
from console.web_login import Logins, Person, TwoPersons, person_words
from controller.advice import rule_of, what_to_do
from planning.refusal import AskedWrongly

COOKIE = "seedguide"
BEAT_S = 1.0
"""At least so often the page hears something, so that silence means a broken connection."""
LOOK_S = 0.02
MAX_BODY = 4096
_FOR_DECIDERS = "this is for a physician or physicist"
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Door(Protocol):
    """The controller as the console sees it. Every call returns at once."""

    is_simulated: bool

    def state(self) -> dict[str, Any] | None:
        """``snapshot``, ``ask`` (or None), ``devices``, ``stop``; None as long as nothing has come."""

    def age_s(self) -> float:
        """Since the last word of the controller."""

    def answer(
        self, number: int, who: str, is_yes: bool, reason: str, values: dict[str, Any], /
    ) -> Awaitable[str | None]:
        """The controller's refusal in words, or None. ``values``: what the answer carries beside a yes."""

    def settle(self, number: int, who: str, is_yes: bool, reason: str, /) -> Awaitable[str | None]:
        """A person's word on a proposal from outside; as ``answer``."""

    def decide(self, who: str, decision: dict[str, Any], /) -> Awaitable[str | None]:
        """``kind`` (of the snapshot's ``may_decide``, or ``go_on``, ``leave``) with what it needs; as ``answer``."""

    def stop(self, who: str, /) -> Awaitable[str | None]:
        """Why the stop could not be handed over, or None."""


class WebConsole:
    """One procedure's console.

    Args:
        run: the run's folder.
        logins: None: nobody logs in and everybody may confirm; only for simulated devices.
        origins: what a page's Origin may be, e.g. ``http://127.0.0.1:8100``.
    """

    def __init__(
        self,
        scene: Scene,
        news: News,
        door: Door,
        run: Path,
        logins: Logins | None,
        origins: frozenset[str],
        *,
        is_secure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scene, self.news, self.door, self.run = scene, news, door, run
        self._logins, self._origins, self._is_secure, self._clock = logins, origins, is_secure, clock
        self._shelf = ScanShelf(scene.case.ct)
        self._two = TwoPersons()
        self._log: list[dict[str, Any]] = []
        self._version = 0
        self._dose_now: tuple[int, DoseFigures] | None = None
        self._dose_lock = asyncio.Lock()

    # --- from the door ----------------------------------------------------------------------------------

    def heard(self, records: list[Any]) -> None:
        """Journal records, in order; on the server's own thread."""
        for record in records:
            self._log.append(self.news.take(record))
        self._version += 1

    def changed(self) -> None:
        """The state is another one."""
        self._two.asked_now(_question((self.door.state() or {}).get("ask")))
        self._version += 1

    # --- who --------------------------------------------------------------------------------------------

    def _person(self, connection: HTTPConnection, *, is_active: bool) -> Person | None:
        if self._logins is None:
            # Without people there are no secrets to keep, and nothing but simulated devices behind the door.
            return Person("console", "physician", "") if self.door.is_simulated else None
        token = connection.cookies.get(COOKIE)
        return self._logins.person(token, self._clock(), is_active=is_active)

    def _looker(self, connection: HTTPConnection) -> Person:
        self._check_host(connection)
        person = self._person(connection, is_active=False)
        if person is None:
            raise HTTPException(401, "log in first")
        return person

    def _check_host(self, connection: HTTPConnection) -> None:
        """A name that a foreign page had resolved to this machine is not ours (DNS rebinding)."""
        scheme = "https" if self._is_secure else "http"
        if f"{scheme}://{connection.headers.get('host', '')}" not in self._origins:
            raise HTTPException(403, "this console does not answer under that name")

    async def _said(self, request: Request) -> dict[str, Any]:
        """The body of a request that changes something, once it is certain that our own page sent it."""
        self._check_host(request)
        if request.headers.get("origin") not in self._origins or request.headers.get("x-seedguide") != "1":
            raise HTTPException(403, "not sent by the console's own page")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise HTTPException(413, "too long")
        try:
            said = json.loads(body or b"{}")
        except ValueError:
            raise HTTPException(400, "not JSON") from None
        if not isinstance(said, dict):
            raise HTTPException(400, "not a JSON object")
        return said

    # --- pages ------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        self._check_host(request)
        return HTMLResponse(_web_file("index.html"))

    async def plotly(self, _request: Request) -> Response:
        return Response(_plotly(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

    async def api_page(self, request: Request) -> Response:
        self._check_host(request)
        return HTMLResponse(_web_file("api.html"))

    async def openapi(self, request: Request) -> Response:
        self._check_host(request)
        return Response(_web_file("openapi.json"), media_type="application/json")

    # --- the scene --------------------------------------------------------------------------------------

    async def summary(self, request: Request) -> Response:
        self._looker(request)
        return JSONResponse(self.scene.summary())

    async def structure(self, request: Request) -> Response:
        self._looker(request)
        try:
            return _voxels(self.scene.structure_bytes(request.path_params["name"]))
        except KeyError:
            raise HTTPException(404, "no such structure") from None

    async def mesh(self, request: Request) -> Response:
        self._looker(request)
        try:
            return JSONResponse(await run_in_threadpool(self.scene.mesh, request.path_params["name"]))
        except KeyError:
            raise HTTPException(404, "no such structure") from None

    async def _volume(self, request: Request) -> Any:
        self._looker(request)
        number = request.path_params["number"]
        folder = None if number == 0 else self.news.folder_of(number, self.run)
        if number != 0 and folder is None:
            raise HTTPException(404, f"there is no CT {number}")
        try:
            return await run_in_threadpool(self._shelf.volume, folder)
        except AskedWrongly as problem:
            raise HTTPException(404, str(problem)) from None

    async def scan(self, request: Request) -> Response:
        volume = await self._volume(request)
        return JSONResponse({"number": request.path_params["number"], **grid_words(volume.grid)})

    async def hu(self, request: Request) -> Response:
        volume = await self._volume(request)
        return _voxels(np.ascontiguousarray(volume.hu, dtype="<i2").tobytes())

    async def _figures(self, which: str) -> DoseFigures:
        if which == "planned":
            return self.scene.planned
        async with self._dose_lock:  # three consoles ask at once; one computes
            version = self.news.seeds_changed
            if self._dose_now is None or self._dose_now[0] != version:
                centres, axes = self.news.seed_arrays()
                self._dose_now = version, await run_in_threadpool(self.scene.dose, centres, axes)
            return self._dose_now[1]

    async def dose(self, request: Request) -> Response:
        self._looker(request)
        figures = await self._figures(request.path_params["which"])
        return _voxels(np.ascontiguousarray(figures.dose_gy, dtype="<f4").tobytes())

    async def dose_figures(self, request: Request) -> Response:
        self._looker(request)
        figures = await self._figures(request.path_params["which"])
        return JSONResponse(await run_in_threadpool(self.scene.dose_words, figures))

    def _report(self, kind: str) -> Path:
        return self.run / f"report.{kind}"

    async def report(self, request: Request) -> Response:
        """The report of a run that is over."""
        self._looker(request)
        kind = request.path_params["kind"]
        if kind not in ("html", "pdf") or not self._report(kind).is_file():
            raise HTTPException(404, "there is no report yet")
        return FileResponse(self._report(kind))

    # --- news -------------------------------------------------------------------------------------------

    def state_words(self) -> dict[str, Any] | None:
        """The whole state for the page; None before the controller has said anything."""
        state = self.door.state()
        if state is None:
            return None
        ask = state.get("ask")
        if ask is not None:
            ask = {**ask, "first_by": self._two.first_by(_question(ask))}
        held = state["snapshot"]
        advice = None
        if held["state"] in ("HELD", "STOPPED"):
            reason = str(held.get("message", ""))
            advice = {"rule": rule_of(reason), "text": what_to_do(reason)}
        has_report = self._report("html").is_file()
        return {**state, "ask": ask, "advice": advice, "has_report": has_report, **self.news.words()}

    async def state(self, request: Request) -> Response:
        self._looker(request)
        return JSONResponse({"age_s": round(self.door.age_s(), 3), "state": self.state_words()})

    async def journal(self, request: Request) -> Response:
        self._looker(request)
        since = _whole(request.query_params.get("since", "0"))
        return JSONResponse({"records": self._log[since : since + 1000]})

    async def live(self, socket: WebSocket) -> None:
        """State on every change, new records, and a beat while the controller is heard."""
        try:
            self._looker(socket)
            if socket.headers.get("origin") not in self._origins:
                raise HTTPException(403)
            since = _whole(socket.query_params.get("since", "0"))
        except HTTPException:
            await socket.close(1008)
            return
        await socket.accept()
        reader = asyncio.ensure_future(_until_closed(socket))
        shown, beat = -1, 0.0
        try:
            while not reader.done():
                now = self._clock()
                if shown != self._version:
                    shown, beat = self._version, now
                    fresh = self._log[since:]
                    since += len(fresh)
                    if fresh:
                        await socket.send_json({"kind": "journal", "records": fresh})
                    if (state := self.state_words()) is not None:
                        await socket.send_json({"kind": "state", "state": state})
                elif now - beat >= BEAT_S and self.door.age_s() < 2 * BEAT_S:
                    # A console that hears nothing from the controller keeps silent: the page goes grey.
                    beat = now
                    await socket.send_json({"kind": "beat", "has_report": self._report("html").is_file()})
                await asyncio.sleep(LOOK_S)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            reader.cancel()

    # --- a person's word --------------------------------------------------------------------------------

    async def me(self, request: Request) -> Response:
        self._check_host(request)
        words = person_words(self._person(request, is_active=False))
        if words is not None:
            words["is_open"] = self._logins is None
        return JSONResponse({"me": words})

    async def login(self, request: Request) -> Response:
        said = await self._said(request)
        if self._logins is None:
            raise HTTPException(404, "nobody logs in here")
        try:
            token, person = await run_in_threadpool(
                self._logins.enter, str(said.get("name", "")), str(said.get("pin", "")), self._clock()
            )
        except AskedWrongly as problem:
            return JSONResponse({"why": str(problem)}, 401)
        answer = JSONResponse({"me": person_words(person)})
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=self._is_secure, path="/")
        return answer

    async def logout(self, request: Request) -> Response:
        await self._said(request)
        if self._logins is not None:
            self._logins.leave(request.cookies.get(COOKIE))
        answer = JSONResponse({})
        answer.delete_cookie(COOKIE, path="/")
        return answer

    async def answer(self, request: Request) -> Response:
        said = await self._said(request)
        person = self._person(request, is_active=True)
        if person is None:
            return JSONResponse({"why": "log in first"}, 401)
        if not person.may("confirm"):
            return JSONResponse({"why": f"a {person.role} only looks"}, 403)
        number, word = said.get("number"), said.get("answer")
        if type(number) is not int or word not in ("confirm", "decline"):
            raise HTTPException(400, "say which command is answered, and how")
        ask = (self.door.state() or {}).get("ask")
        if ask is None or ask["number"] != number:
            return JSONResponse({"why": "that was answered already, or is no longer asked"}, 409)
        needs_two = bool(ask.get("needs_two")) and self._logins is not None
        needs_decider = bool(ask.get("needs_decider"))
        if needs_decider and not needs_two and not person.may("decide"):
            return JSONResponse({"why": _FOR_DECIDERS}, 403)
        values = said.get("values", {})
        if not isinstance(values, dict):
            raise HTTPException(400, "values: an object")
        reason = str(said.get("reason", ""))[:200]
        if word == "decline":
            if not reason.strip():
                return JSONResponse({"why": "say why not"}, 400)
            return _told(await self.door.answer(number, person.name, False, reason, {}))
        names: str | None = person.name
        if needs_two:
            names, told = self._two.word((number, str(ask["text"])), person, needs_decider)
        if names is None:
            self._version += 1
            return JSONResponse({"told": told}, 202)
        return _told(await self.door.answer(number, names, True, "", values))

    async def proposal(self, request: Request) -> Response:
        """A person's word on what was proposed from outside: as on the same answer or decision of their own."""
        said = await self._said(request)
        person = self._person(request, is_active=True)
        if person is None:
            return JSONResponse({"why": "log in first"}, 401)
        number, word = said.get("number"), said.get("answer")
        if type(number) is not int or word not in ("confirm", "decline"):
            raise HTTPException(400, "say which proposal is answered, and how")
        state = self.door.state() or {}
        waiting, ask = state.get("proposal"), state.get("ask") or {}
        if waiting is None or waiting["number"] != number:
            return JSONResponse({"why": "that proposal does not wait any more"}, 409)
        is_answer = waiting["kind"] == "answer"
        if not person.may("confirm"):
            return JSONResponse({"why": f"a {person.role} only looks"}, 403)
        if (not is_answer or ask.get("needs_decider")) and not person.may("decide"):
            return JSONResponse({"why": _FOR_DECIDERS}, 403)
        if word == "confirm" and is_answer and ask.get("needs_two") and self._logins is not None:
            return JSONResponse({"why": "two persons confirm this: answer the question itself"}, 403)
        reason = str(said.get("reason", ""))[:200]
        return _told(await self.door.settle(number, person.name, word == "confirm", reason))

    async def decide(self, request: Request) -> Response:
        said = await self._said(request)
        person = self._person(request, is_active=True)
        if person is None:
            return JSONResponse({"why": "log in first"}, 401)
        if not person.may("decide"):
            return JSONResponse({"why": _FOR_DECIDERS}, 403)
        decision = {
            "kind": said.get("kind"),
            "because": said.get("because", ""),
            "needle": said.get("needle"),
            "count": said.get("count", 0),
            "where": said.get("where", ""),
        }
        kinds = {"kind": str, "because": str, "needle": str | None, "count": int, "where": str}
        if (
            any(not isinstance(decision[name], kind) for name, kind in kinds.items())
            or decision["count"] is True
        ):
            raise HTTPException(400, "say what is decided: kind, because, needle, count, where")
        decision["because"] = decision["because"][:200]
        return _told(await self.door.decide(person.name, decision))

    async def stop(self, request: Request) -> Response:
        """Anybody at this page, logged in or not."""
        await self._said(request)
        person = self._person(request, is_active=False)
        return _told(await self.door.stop("somebody at the console" if person is None else person.name), 503)

    def routes(self) -> list[Any]:
        """Every path and what serves it."""
        return [
            Route("/", self.page),
            Route("/static/plotly.js", self.plotly),
            Mount("/static", StaticFiles(directory=str(_WEB))),
            Route("/api", self.api_page),
            Route("/api/openapi.json", self.openapi),
            Route("/api/scene", self.summary),
            Route("/api/structures/{name}", self.structure),
            Route("/api/meshes/{name}", self.mesh),
            Route("/api/scans/{number:int}", self.scan),
            Route("/api/scans/{number:int}/hu", self.hu),
            Route("/api/dose/{which}", self.dose),
            Route("/api/dose-figures/{which}", self.dose_figures),
            Route("/api/state", self.state),
            Route("/api/journal", self.journal),
            WebSocketRoute("/api/live", self.live),
            Route("/api/me", self.me),
            Route("/api/login", self.login, methods=["POST"]),
            Route("/api/logout", self.logout, methods=["POST"]),
            Route("/api/answer", self.answer, methods=["POST"]),
            Route("/api/decide", self.decide, methods=["POST"]),
            Route("/api/proposal", self.proposal, methods=["POST"]),
            Route("/api/report.{kind}", self.report),
            Route("/api/stop", self.stop, methods=["POST"]),
        ]

    def app(self) -> Any:
        """The application for an ASGI server."""
        app = Starlette(routes=self.routes(), exception_handlers={HTTPException: _refused})
        return _with_headers(app)


_WEB = Path(str(files("console"))) / "web"


def _web_file(name: str) -> bytes:
    return (_WEB / name).read_bytes()


@lru_cache(maxsize=1)
def _plotly() -> bytes:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()


def _voxels(data: bytes) -> Response:
    return Response(data, media_type="application/octet-stream")


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise HTTPException(400, "not a number")
    return int(text)


def _question(ask: dict[str, Any] | None) -> tuple[int, str] | None:
    """Number and text: after a hold the same number is asked again."""
    return None if ask is None else (int(ask["number"]), str(ask["text"]))


def _told(refusal: str | None, status: int = 409) -> Response:
    return JSONResponse({}) if refusal is None else JSONResponse({"why": refusal}, status)


def _refused(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return JSONResponse({"why": problem.detail}, problem.status_code)


async def _until_closed(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _with_headers(app: Any) -> Any:
    """Every answer forbids what the page does not need."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in _SECURITY.items()
                    if name.lower().encode() not in named
                ]
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return wrapped
