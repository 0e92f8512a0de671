"""``--scanner``, the same for every command that simulates CTs."""

import click

scanner_option = click.option(
    "--scanner",
    default="fast",
    show_default=True,
    type=click.Choice(["fast", "faithful"]),
    help="How CTs are simulated: approximate, or polychromatic at 0.2 to 0.5 s a slice.",
)
