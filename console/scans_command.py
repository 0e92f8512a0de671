"""``seedguide scans``: take scans from a scanner, an archive or a watched folder, and say when one is complete."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.scan_news import ScanNews
from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from imaging.intake import Intake
    from imaging.scan_series import SeriesReceived, Wanted

LOOK_EVERY_S = 0.5


@click.command(
    name="scans",
    help="Take scans over a DICOM link (C-STORE, C-ECHO) or from a watched folder into --into, one folder per "
    "series, and print a line when a series is complete, or has stopped short. Runs until Ctrl-C.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Listen on this port.  [default: 11112 without --watch]"
)
@click.option("--aet", default="SEEDGUIDE", show_default=True, help="Our AE title.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-aet", multiple=True, metavar="NAME", help="AE title that may connect; may be repeated."
)
@click.option("--watch", metavar="FOLDER", type=click.Path(path_type=Path), help="Watch this folder.")
@click.option(
    "--into", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where scans are kept."
)
@click.option(
    "--plan", metavar="PLAN", type=click.Path(path_type=Path), help="Take this plan's patient and frame only."
)
@click.option(
    "--allow-frame",
    multiple=True,
    metavar="UID",
    help="A further frame of reference to take; may be repeated.",
)
@click.option("--once", is_flag=True, help="End with the first complete CT series.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead of words.")
def scans(
    port: int | None,
    aet: str,
    bind: str,
    allow_aet: Sequence[str],
    watch: Path | None,
    into: Path,
    plan: Path | None,
    allow_frame: Sequence[str],
    once: bool,
    as_json: bool,
) -> int:
    """Listen or watch until interrupted."""
    from imaging.intake import Intake

    if allow_frame and plan is None:
        raise AskedWrongly("--allow-frame needs --plan: without a plan every frame of reference is taken.")
    if watch is not None and port is not None:
        raise AskedWrongly("--watch and --port: use one of them; run the command twice, into two folders.")

    news = ScanNews(as_json=as_json)

    def told(event: SeriesReceived) -> bool:
        news.received(event, intake.series_folder(event.series_uid))
        return once and event.complete and event.kind == "CT"

    wanted = _wanted(plan, allow_frame)
    if watch is None:
        _check_reachable(bind, allow_aet)
    intake = Intake(into, wanted, refused=news.refused, now_ns=time.monotonic_ns())
    try:
        if watch is not None:
            return _watch(watch, intake, told, news)
        return _listen(intake, (aet, port or 11112, bind, tuple(allow_aet)), told, news)
    finally:
        intake.close()


def _listen(
    intake: Intake,
    link: tuple[str, int, str, tuple[str, ...]],
    told: Callable[[SeriesReceived], bool],
    news: ScanNews,
) -> int:
    from imaging.receiver import Link, Receiver

    aet, port, bind, allowed = link
    receiver = Receiver(intake, Link(aet, port, bind, allowed), news.turned_away)
    try:
        who = ", ".join(allowed) or "any AE title"
        news.begun(f"listening as {aet} on {bind}:{receiver.port} for {who}; Ctrl-C ends")
        while True:
            events = receiver.wait(1.0)
            if not events:
                news.pause()
            for event in events:
                if told(event):
                    return 0
    finally:
        receiver.stop()


def _watch(folder: Path, intake: Intake, told: Callable[[SeriesReceived], bool], news: ScanNews) -> int:
    from imaging.watched_folder import WatchedFolder

    watched = WatchedFolder(folder, intake)
    news.begun(f"watching {folder}; Ctrl-C ends")
    while True:
        news.pause()
        for event in watched.look(time.monotonic_ns()):
            if told(event):
                return 0
        time.sleep(LOOK_EVERY_S)


def _wanted(plan: Path | None, further: Sequence[str]) -> Wanted:
    from imaging.scan_series import Wanted
    from planning.plan import Plan

    if plan is None:
        return Wanted()
    made = Plan.load(plan)
    return Wanted(made.patient_id, frozenset({made.frame_of_reference_uid, *further}))


def _check_reachable(bind: str, allowed: Sequence[str]) -> None:
    """From outside this machine nobody sends unnamed (DICOM knows no other door-keeper than the AE title)."""
    try:
        loopback = bind == "localhost" or ipaddress.ip_address(bind).is_loopback
    except ValueError as problem:
        raise AskedWrongly(f"--bind {bind}: not an IP address of this machine.") from problem
    if not loopback and not allowed:
        raise AskedWrongly(f"--bind {bind} can be reached from outside: name who may send with --allow-aet.")
    for title in allowed:
        if (
            not 1 <= len(title.strip()) <= 16
            or not title.isascii()
            or not title.isprintable()
            or "\\" in title
        ):
            raise AskedWrongly(f"--allow-aet {title!r}: an AE title has 1 to 16 plain characters.")
