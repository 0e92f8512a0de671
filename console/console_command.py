"""``seedguide console``: the web page of one procedure, in a process of its own."""

from __future__ import annotations

import ipaddress
import re
import sys
from pathlib import Path
from typing import Any

import click

from planning.refusal import AskedWrongly

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@click.command(
    help="Serve the console of the procedure in DIR to a browser: one page, offline, with STOP. An ended run is "
    "played again (--speed). Other addresses than loopback need --cert, --key and --users. Research and training "
    "software, not a medical device."
)
@click.option("--procedure", "run", required=True, metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--case", metavar="CASE", type=click.Path(path_type=Path), help="The planning CT, if it has moved."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address to listen at.")
@click.option(
    "--port", default=8100, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option(
    "--name", metavar="NAME", help="By which browsers reach it, as in the certificate.  [default: --host]"
)
@click.option(
    "--users", type=click.Path(path_type=Path), help="People who may log in (seedguide console-user)."
)
@click.option("--cert", type=click.Path(path_type=Path), help="TLS certificate, PEM.")
@click.option("--key", type=click.Path(path_type=Path), help="Its key, PEM.")
@click.option(
    "--speed", type=click.FloatRange(0.1, 10_000), help="Play an ended run again so fast; else at once."
)
def console(run: Path, case: Path | None, host: str, port: int, **chosen: Any) -> int:
    """Check the address, read the run, serve."""
    import asyncio

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise AskedWrongly(f"--host {host}: give an IP address, such as 127.0.0.1.") from None
    is_loopback = address.is_loopback
    if address.is_unspecified and chosen["name"] is None:
        raise AskedWrongly(
            f"--host {host}: say with --name by which name browsers reach it, or give one address."
        )
    if chosen["name"] is not None and not _NAME.fullmatch(chosen["name"]):
        raise AskedWrongly(
            f"--name {chosen['name']}: a host name, such as console.example.org, without port."
        )
    if (chosen["cert"] is None) != (chosen["key"] is None):
        raise AskedWrongly("give --cert and --key together.")
    if not is_loopback and (chosen["cert"] is None or chosen["users"] is None):
        raise AskedWrongly(
            f"--host {host} is reached from other machines: that needs --cert, --key and --users."
        )
    for name in ("cert", "key"):
        if chosen[name] is not None and not chosen[name].is_file():
            raise AskedWrongly(f"--{name} {chosen[name]}: no such file.")
    from console.beside import end_with_parent
    from console.web_server import serve

    end_with_parent()
    asyncio.run(serve(run, case, host, port, told=lambda line: print(line, flush=True), **chosen))
    return 0


def console_arguments(run: Path, port: int) -> list[str]:
    """The command that serves the page of a run that is played here, for ``Beside``."""
    return ["console", "--procedure", str(run), "--port", str(port)]


@click.command(
    "console-user",
    help="Let NAME log in at the console; asks for a PIN, which is kept as an argon2 hash only.",
)
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(["physician", "physicist", "nurse", "trainee"]))
@click.option("--users", required=True, metavar="FILE", type=click.Path(path_type=Path))
def console_user(name: str, role: str, users: Path) -> int:
    """Add or replace one person."""
    from console.web_login import People

    people = People.load(users) if users.exists() else People({})
    if sys.stdin.isatty():
        pin = click.prompt("PIN", hide_input=True, confirmation_prompt=True)
    else:
        pin = sys.stdin.readline().rstrip("\n")
    people = people.with_person(name, role, pin)
    people.save(users)
    print(f"{name} ({role}) may log in; {users} names {', '.join(people.names())}.")
    return 0
