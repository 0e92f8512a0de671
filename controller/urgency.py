"""Gives this process precedence over others on the machine, as far as the system allows: a stop byte must not wait.

Knows the operating system's schedulers. Does not know devices. Nothing fails where it is not allowed.
"""

from __future__ import annotations

import os

NICER = -10


def raise_priority() -> str:
    """Real-time scheduling at its lowest level, else a better nice value, else nothing; in words what was given."""
    if hasattr(os, "sched_setscheduler"):
        try:
            lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
            os.sched_setscheduler(
                0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, lowest
            )  # children don't inherit it
        except OSError:  # not this user's right
            pass
        else:
            return "real-time scheduling (round robin)"
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, NICER)
        except OSError:
            pass
        else:
            return f"nice value {NICER}"
    return "no precedence (not allowed; see ulimit -r and -e)"
