"""``seedguide bench-check``: a technician's self-test of applicator and rig, with a table and a report."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from controller.devices_file import Devices
    from drivers.bench_check import Finding, Person
    from drivers.identify import Seen

ORDER = ("applicator", "rig")
_STOPS = {"applicator": b"\x18", "rig": b"!\x18"}
_PORT = "device path, socket://host:port, rfc2217://host:port, auto, or auto:DIR"


@click.command(
    name="bench-check",
    help="Test an applicator, a rig, or both, real or simulated: identity, settings, homing, travel, step accuracy, "
    "lost steps, stop, watchdog, at most once, switches. It asks before anything moves. It never pushes a seed unless "
    "--with-seeds. About 1 minute for an applicator, 4 for a rig. Not with a patient or a needle in place.",
    epilog="""\b
Exit status:
    0  every test that was made passed (the table says which were not made)
    1  internal fault
    2  bad input, or another device at the port than the one named
    3  nothing failed, but the person said no to a part of it
    4  a test failed; the table says what to do
  130  interrupted (Ctrl-C); the device under test was told to stop
""",
)
@click.option("--applicator", "applicator_url", metavar="URL", help=_PORT)
@click.option("--rig", "rig_url", metavar="URL", help=_PORT)
@click.option(
    "--devices",
    "devices_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What the devices must be (drivers/DRIVERS.md).  [default: devices.toml beside a port]",
)
@click.option("--applicator-is", metavar="ID/SERIAL", help="Only this one, e.g. SG-MICK/1042.")
@click.option("--rig-is", metavar="NAME", help="Only this one, e.g. RIG-0007.")
@click.option("--with-seeds", is_flag=True, help="Push two seeds (better: dummies) into a dish.")
@click.option("--yes", is_flag=True, help="Do not ask; simulated devices only.")
@click.option(
    "--hands",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="With --yes: the folder 'scans' of seedguide simulate, whose people seat and take out cartridges.",
)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Gets the report (HTML).")
def bench_check(yes: bool, hands: Path | None, out: Path | None, **chosen: Any) -> int:
    """Find the devices, test one after the other, tell."""
    from rich.console import Console

    from console.bench_check_report import print_table, write_report
    from console.device_choice import chosen_ports

    if chosen["applicator_url"] is None and chosen["rig_url"] is None:
        raise AskedWrongly("bench-check needs --applicator URL, --rig URL, or both.")
    if hands is not None and not yes:
        raise AskedWrongly("--hands is for simulated devices: it needs --yes.")
    if hands is not None and not hands.is_dir():
        raise AskedWrongly(f"{hands}: no such folder; --hands is the folder 'scans' of seedguide simulate.")
    if chosen["with_seeds"] and chosen["applicator_url"] is None:
        raise AskedWrongly("--with-seeds needs --applicator URL.")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise AskedWrongly(f"{out}: the folder can't be made ({problem.strerror}).") from problem
    ports, seen = chosen_ports(applicator=chosen["applicator_url"], rig=chosen["rig_url"])
    devices = _devices(chosen["devices_file"], ports)
    if devices.speed != 1.0:
        raise AskedWrongly(
            f"the devices' clock runs {devices.speed:g} times faster than life, and a self-test measures times: start "
            "seedguide simulate without --speed."
        )
    person = _person(yes, hands, ports, seen)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    findings: list[Finding] = []
    for device in (name for name in ORDER if name in ports):
        console.print(f"{device}: {ports[device]}, {seen[device].in_words()}")
        findings += _test(
            device, ports[device], person, devices, chosen, lambda line: console.print(f"  {line} ...")
        )
    print_table(console, findings)
    if out is not None:
        who = "nobody (--yes)" if yes else getpass.getuser()
        told = {name: f"{ports[name]}, {seen[name].in_words()}" for name in ports}
        console.print(f"Report: {write_report(findings, told, who, out)}")
    return exit_status(findings)


def exit_status(findings: list[Finding]) -> int:
    """As the command's help says."""
    if any(finding.verdict == "fail" for finding in findings):
        return 4
    declined = any(f.verdict == "not tested" and "the person said no" in f.words for f in findings)
    return 3 if declined else 0


def _devices(file: Path | None, ports: dict[str, str]) -> Devices:
    """From the file, or from the one beside a port; a rig alone may do without."""
    from controller.devices_file import DEVICES_FILE, parse_devices, read_devices

    if file is not None:
        return read_devices(file)
    for url in ports.values():
        beside = Path(url).parent / DEVICES_FILE
        if "://" not in url and beside.is_file():
            return read_devices(beside)
    if "applicator" in ports:
        raise AskedWrongly(
            f"{DEVICES_FILE} is missing: cartridge capacity, detents and needle gauge of the applicator must be said, "
            "there is no default; name the file with --devices (drivers/DRIVERS.md shows one)."
        )
    mandatory = "[applicator]\ncartridge_capacity = 1\ndetent_um = 1\nneedle_gauge = 1\n"
    return parse_devices(mandatory, "the default")  # of which only the rig's part is used


def _person(yes: bool, hands: Path | None, ports: dict[str, str], seen: dict[str, Seen]) -> Person:
    from console.bench_person import AutomaticPerson, TerminalPerson
    from controller.requests import BenchHands, RequestFolder

    if not yes:
        return TerminalPerson(input)
    for name, what in seen.items():
        if not (what.kind == name and what.simulated):
            raise AskedWrongly(
                f"--yes is for simulated devices only; at {ports[name]} {what.in_words()}"
                f"{' answers' if what.kind == name else ''}."
            )
    return AutomaticPerson(None if hands is None else BenchHands(RequestFolder(hands)))


def _test(
    device: str,
    url: str,
    person: Person,
    devices: Devices,
    chosen: dict[str, Any],
    told: Callable[[str], None],
) -> list[Finding]:
    """All checks of one device. Whatever goes wrong here, the device is told to stop first."""
    from console.device_choice import new_session_id
    from controller.ports import PortTransport
    from drivers.bench_check import Bench, Tap
    from drivers.bench_check_applicator import ApplicatorCheck
    from drivers.bench_check_rig import RigCheck
    from drivers.fault import DeviceMisbehaved
    from drivers.port import Port

    tap = Tap()
    try:
        port = Port(url, devices.baud[device])
    except ValueError as problem:
        raise AskedWrongly(f"the {device}: {problem}") from problem
    with port:
        bench = Bench(device, tap, PortTransport({device: (tap, port)}), person, told)
        try:
            if device == "applicator":
                ApplicatorCheck(
                    bench,
                    devices.applicator,
                    new_session_id(),
                    identity=chosen["applicator_is"],
                    with_seeds=chosen["with_seeds"],
                ).run()
            else:
                serial = chosen["rig_is"] or devices.rig.serial
                RigCheck(bench, replace(devices.rig, serial=serial)).run()
        except BaseException:
            try:
                port.drop_unsent()
                port.write(_STOPS[device])
            except DeviceMisbehaved:
                pass  # the port is gone: the device's own watchdog must stop it
            raise
    return bench.findings
