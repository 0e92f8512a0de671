"""``--scanner``, the same for every command that simulates CTs."""

import click

scanner_option = click.option(
    "--scanner",
    default="fast",
    show_default=True,
    type=click.Choice(["fast", "faithful"]),
    help="How CTs are simulated: approximate, or polychromatic at about half a second a slice.",
)
