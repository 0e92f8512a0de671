"""What the applicator's self-test says: replies as they came, and what to do when a check fails."""

from __future__ import annotations

from drivers.packet import Packet

CABLE = "Check plug, cable (shield, length) and the adapter's driver; keep it away from motor leads."
FOLLOW = (
    "The carriage did not follow its motor: lost steps. Look for a thing in the way, a loose coupling, a dry or bent "
    "lead screw; check the motor's current and the encoder; then test again."
)
FIRMWARE = "The firmware does not keep drivers/WIRE.md; do not use this device, load a firmware that does."


def told_of(reply: Packet | None) -> str:
    """A reply in its own words."""
    if reply is None:
        return "by nothing"
    return " ".join([reply.name, *(f"{key}={value}" for key, value in reply.pairs)])
