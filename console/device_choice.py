"""Ports for the two devices: given by a person and checked, or found by what answers (``auto``, ``auto:DIR``)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from controller.devices_file import Devices
from controller.ports import PortTransport
from drivers.identify import Prober, Seen, choose, why_not_that_one
from drivers.port import Port, ports_present
from planning.refusal import AskedWrongly

LONGEST_NS = 4_000_000_000


def new_session_id() -> str:
    """Four upper-case hex digits that no earlier run had."""
    return hashlib.sha256(secrets.token_bytes(16)).hexdigest()[:4].upper()


def look_at(urls: Sequence[str]) -> dict[str, Seen]:
    """Ask at all ports at once (about 1 s). What can't be opened is ``other``, with the reason."""
    seen: dict[str, Seen] = {}
    with ExitStack() as stack:
        probers: dict[str, Prober] = {}
        ends: dict[str, tuple[Prober, Port]] = {}
        for url in urls:
            try:
                ends[url] = (Prober(new_session_id()), stack.enter_context(Port(url)))
                probers[url] = ends[url][0]
            except ValueError as problem:
                seen[url] = Seen("other", "", note=str(problem).rstrip("."))
        transport = PortTransport(ends)
        until_ns = transport.now_ns() + LONGEST_NS
        while open_ones := [prober for prober in probers.values() if prober.seen is None]:
            now_ns = transport.now_ns()
            if now_ns > until_ns:
                break
            transport.exchange()
            for url, why in transport.lost():
                probers[url].seen = Seen("other", "", note=why)
            for prober in open_ones:
                prober.wake(now_ns)
            transport.wait(min((w for p in open_ones if (w := p.next_wake()) is not None), default=now_ns))
        seen |= {url: prober.seen or Seen("silent") for url, prober in probers.items()}
    return {url: seen[url] for url in urls}


def places(folder: str | None) -> list[str]:
    """Ports to look at: of this machine, or all that a folder holds (of ``simulate --link``, or ``by-id``)."""
    if folder is None:
        return ports_present()
    path = Path(folder)
    if not path.is_dir():
        raise AskedWrongly(f"{folder}: no such folder; auto:DIR looks for ports in a folder.")
    return sorted(str(entry) for entry in path.iterdir() if entry.is_char_device())


def chosen_ports(**wanted: str | None) -> tuple[dict[str, str], dict[str, Seen]]:
    """The port of each wanted device (``rig=URL``, ``applicator=URL``), and what answers there.

    A URL is taken unless the other kind of device answers at it; ``auto`` and ``auto:DIR`` are searched.

    Raises:
        AskedWrongly: none or several were found, or the other kind answers; one sentence.
    """
    given = {name: url for name, url in wanted.items() if url is not None}
    if len(set(given.values())) < len(given) and not any(_is_auto(url) for url in given.values()):
        raise AskedWrongly(f"{next(iter(given.values()))} was given for both devices; each has its own port.")
    looked = {
        url: places(url.partition(":")[2] or None) if _is_auto(url) else [url] for url in given.values()
    }
    seen = look_at(sorted({url for urls in looked.values() for url in urls}))
    ports: dict[str, str] = {}
    for name, url in given.items():
        if _is_auto(url):
            try:
                ports[name] = choose(name, {place: seen[place] for place in looked[url]})
            except ValueError as problem:
                raise AskedWrongly(f"--{name} {url}: {problem}") from problem
            continue
        why = why_not_that_one(name, url, seen[url])
        if why is not None:
            raise AskedWrongly(why)
        ports[name] = url
    return ports, {name: seen[url] for name, url in ports.items()}


def encoder_port(devices: Devices, url: str | None) -> str:
    """The depth encoder's port: as asked, else as the file of the devices says; "" where none is fitted.

    Raises:
        AskedWrongly: a port without the encoder's gear, or the gear without a port: it must not be left out unnoticed.
    """
    if url and devices.encoder is None:
        raise AskedWrongly(
            f"--depth-encoder {url}: devices.toml has no table [depth_encoder] with its counts_per_mm "
            "(drivers/DRIVERS.md shows one)."
        )
    if devices.encoder is not None and not (url or devices.encoder_url):
        raise AskedWrongly(
            "devices.toml has a table [depth_encoder], but nobody says where it is: name its port with "
            "--depth-encoder or as url in the table, or take the table out."
        )
    return url or devices.encoder_url


def _is_auto(url: str) -> bool:
    return url == "auto" or url.startswith("auto:")
