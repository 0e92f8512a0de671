"""``seedguide devices``: what answers at which port."""

from __future__ import annotations

import click


@click.command(
    help="List what answers at this machine's serial ports, or at the given PLACES (a device path, socket://host:port, "
    "rfc2217://host:port, or a folder of ports such as that of simulate --link). Each port is opened and asked with a "
    "few printable bytes (drivers/DRIVERS.md says which); opening a port resets boards with auto-reset, so not while "
    "a needle stands in a patient.",
    epilog="""\b
Exit status:
    0  a rig or an applicator answers
    2  a place that does not exist
    4  neither answers anywhere
""",
)
@click.argument("places", nargs=-1)
def devices(places: tuple[str, ...]) -> int:
    from pathlib import Path

    from console.device_choice import look_at
    from console.device_choice import places as ports_in
    from planning.refusal import AskedWrongly

    urls: list[str] = []
    for place in places:
        is_folder = "://" not in place and Path(place).is_dir()
        if "://" not in place and not Path(place).exists():
            raise AskedWrongly(f"{place}: no such device or folder; is it plugged in?")
        urls += ports_in(place) if is_folder else [place]
    urls = urls if places else ports_in(None)
    if not urls:
        click.echo("No serial port here.")
        return 4
    found = look_at(list(dict.fromkeys(urls)))
    for url, seen in found.items():
        firmware = f", firmware {seen.firmware}" if seen.firmware else ""
        click.echo(f"{url}: {seen.in_words()}{firmware}")
    return 0 if any(seen.kind in ("rig", "applicator") for seen in found.values()) else 4
