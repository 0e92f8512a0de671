"""The template rig's driver."""

from __future__ import annotations

from drivers.kinematics import RigConfig
from drivers.rig_language import (
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    OpenGrip,
    ReadRig,
    RigAdvanced,
    RigAlarmed,
    RigCommand,
    RigConnected,
    RigDone,
    RigEvent,
    RigFailed,
    RigLinkLost,
    RigRefused,
    RigReset,
    RigState,
    RigStopped,
)

__all__ = [
    "CloseGrip",
    "ConnectRig",
    "HomeRig",
    "MoveAcross",
    "MoveDepth",
    "MoveDepthHome",
    "OpenGrip",
    "ReadRig",
    "RigAdvanced",
    "RigAlarmed",
    "RigCommand",
    "RigConfig",
    "RigConnected",
    "RigDone",
    "RigEvent",
    "RigFailed",
    "RigLinkLost",
    "RigRefused",
    "RigReset",
    "RigState",
    "RigStopped",
]
