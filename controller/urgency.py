"""Gives this process precedence over others on the machine, as far as the system allows: a stop byte must not wait.

Knows the operating system's schedulers. Does not know devices. Nothing fails where it is not allowed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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


@contextmanager
def precedence() -> Iterator[str]:
    """``raise_priority`` for as long as devices are led from this thread; then as it was."""
    has_schedulers = hasattr(os, "sched_setscheduler")
    before = (os.sched_getscheduler(0), os.sched_getparam(0)) if has_schedulers else None
    nice = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None
    try:
        yield raise_priority()
    finally:
        with suppress(OSError):
            if before is not None:
                os.sched_setscheduler(0, *before)
            if nice is not None:
                os.setpriority(os.PRIO_PROCESS, 0, nice)
