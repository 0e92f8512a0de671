"""Runs the web console: reads the run, listens, and joins the door's news with the page's server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn

from console.door_client import ADDRESS_FILE
from console.live_run import LiveRun
from console.news import News
from console.played_run import PlayedRun
from console.scene import Scene
from console.web_app import WebConsole
from console.web_login import Logins, People
from controller.journal import Record, read_journal
from controller.order import JOURNAL_FILE, ORDER_FILE, PLAN_FILE, read_order
from planning.case_link import case_of
from planning.refusal import AskedWrongly

_LOOK_S = 0.05


async def serve(
    run: Path,
    case: Path | None,
    host: str,
    port: int,
    *,
    name: str | None = None,
    users: Path | None,
    cert: Path | None,
    key: Path | None,
    speed: float | None,
    told: Callable[[str], None],
    scene: Scene | None = None,
    begun: Callable[[uvicorn.Server], None] = lambda _server: None,
) -> None:
    """Until interrupted.

    Args:
        name: by which browsers reach it beside the address.
        scene: of the plan in ``run``, where it is known already; None: read.
        begun: gets the server; its ``should_exit`` ends it.

    Raises:
        AskedWrongly: no run there, another patient's case, an address that is taken.
    """
    is_live = (run / ADDRESS_FILE).is_file()
    if not is_live and not (run / JOURNAL_FILE).is_file():
        raise AskedWrongly(f"{run}: no procedure has been here (no {JOURNAL_FILE}).")
    if scene is None:
        scene = Scene.load(run / PLAN_FILE, case_of_run(run) if case is None else case)
    listening = _listen(host, port)
    port = int(listening.getsockname()[1])
    scheme = "http" if cert is None else "https"
    shown = f"[{host}]" if ":" in host else host
    names = {shown, "localhost"} if shown in ("127.0.0.1", "[::1]") else {shown}
    if name is not None:
        names.add(name)
        shown = name
    door: LiveRun | PlayedRun
    loop = asyncio.get_running_loop()
    if is_live:

        def heard(record: Record) -> None:
            loop.call_soon_threadsafe(console.heard, [record])

        def changed() -> None:
            loop.call_soon_threadsafe(console.changed)

        door = LiveRun(run, heard, changed, time.monotonic)
    else:
        door = PlayedRun(list(read_journal(run / JOURNAL_FILE)), scene.plan, speed, time.monotonic)
    console = WebConsole(
        scene,
        News(scene.plan),
        door,
        run,
        None if users is None else Logins(People.load(users)),
        frozenset(origin for at in names for origin in _origins(scheme, at, port)),
        is_secure=cert is not None,
    )
    feeding = None
    if isinstance(door, LiveRun):
        door.start()
    else:
        feeding = asyncio.ensure_future(_play(door, console))
    config = uvicorn.Config(
        console.app(),
        log_level="warning",
        access_log=False,
        ssl_certfile=None if cert is None else str(cert),
        ssl_keyfile=None if key is None else str(key),
        ws_max_size=4096,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    begun(server)
    told(f"console: {scheme}://{shown}:{port}/  (Ctrl-C ends it; the procedure goes on)")
    try:
        await server.serve(sockets=[listening])
    finally:
        if feeding is not None:
            feeding.cancel()
        if isinstance(door, LiveRun):
            door.close()


def _origins(scheme: str, name: str, port: int) -> tuple[str, ...]:
    """As browsers write it: without the port where it is the scheme's own."""
    usual = {"http": 80, "https": 443}[scheme]
    return (f"{scheme}://{name}:{port}", *([f"{scheme}://{name}"] if port == usual else []))


def case_of_run(run: Path) -> Path:
    """The patient's folder that a run was made on: in its order, or noted beside its plan."""
    if (run / ORDER_FILE).is_file():
        return Path(read_order(run)[0].case)
    return case_of(run / PLAN_FILE)


async def _play(door: PlayedRun, console: WebConsole) -> None:
    while not door.is_over:
        if records := door.due():
            console.heard(records)
        await asyncio.sleep(_LOOK_S)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # before its address is told: who comes at once waits instead of being refused
    except OSError as problem:
        listening.close()
        raise AskedWrongly(
            f"{host}:{port} can't be listened at ({problem.strerror}); choose --port."
        ) from problem
    return listening
