"""``seedguide igtl``: OpenIGTLink beside one procedure, in a process of its own; and ``--igtl`` of others."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from planning.refusal import AskedWrongly

USUAL_PORT = 18944
"""IANA's for OpenIGTLink; what Slicer offers."""
_LOOPBACK = "127.0.0.1"
Function = TypeVar("Function", bound=Callable[..., Any])


def igtl_options(function: Function) -> Function:
    """``--igtl`` and ``--igtl-host``."""
    for option in (
        click.option(
            "--igtl-host", default=_LOOPBACK, show_default=True, help="IP address that --igtl listens at."
        ),
        click.option(
            "--igtl",
            "igtl_port",
            metavar="PORT",
            type=click.IntRange(0, 65535),
            help=f"Tell 3D Slicer and others of it by OpenIGTLink at this port (usual: {USUAL_PORT}; 0: any free "
            "one); console/IGTL.md.",
        ),
    ):
        function = option(function)
    return function


def igtl_arguments(run: Path, port: int | None, host: str) -> list[list[str]]:
    """The command that serves it, for ``Beside``; none without a port. AskedWrongly: no address."""
    if port is None:
        return []
    check_host(host, "--igtl-host")
    return [["igtl", "--procedure", str(run), "--port", str(port), "--host", host]]


def check_host(host: str, option: str) -> bool:
    """Whether only this machine reaches it. AskedWrongly: it is no IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise AskedWrongly(f"{option} {host}: give an IP address, such as {_LOOPBACK}.") from None


@click.command(
    help="Tell navigation software (3D Slicer and others) by OpenIGTLink of the procedure in DIR: planned and current "
    "needles, targets, seeds, status, messages; and speak the published robot protocol, where a motion asked for from "
    "outside must be confirmed at the console and STOP is obeyed at once. Research and training software, not a "
    "medical device."
)
@click.option("--procedure", "run", required=True, metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--port", default=USUAL_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option("--host", default=_LOOPBACK, show_default=True, help="IP address to listen at.")
def igtl(run: Path, port: int, host: str) -> int:
    """Serve until interrupted; the procedure goes on."""
    from console.beside import end_with_parent
    from console.igtl.server import IgtlServer
    from controller.order import PLAN_FILE
    from planning.plan import Plan

    is_loopback = check_host(host, "--host")
    if not (run / PLAN_FILE).is_file():
        raise AskedWrongly(f"{run}: no procedure has been here (no {PLAN_FILE}).")
    server = IgtlServer(
        run, Plan.load(run / PLAN_FILE), host, port, said=lambda line: print(line, flush=True)
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"OpenIGTLink: {shown}:{server.port}  (Ctrl-C ends it; the procedure goes on)", flush=True)
    if not is_loopback:
        print(
            "OpenIGTLink: WARNING: it knows no passwords and no secrecy; whoever reaches this address sees the plan, "
            "can propose, and can stop the devices. Only in a network where everybody may.",
            flush=True,
        )
    end_with_parent()
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return 0
