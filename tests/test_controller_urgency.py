"""Precedence is asked for politely: what the system refuses changes nothing."""

from __future__ import annotations

import os

import pytest

from controller import urgency


def refused(*_: object) -> None:
    raise PermissionError("not allowed")


def test_what_is_not_allowed_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    monkeypatch.setattr(os, "setpriority", refused, raising=False)
    assert urgency.raise_priority().startswith("no precedence")


def test_a_better_nice_value_where_real_time_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    monkeypatch.setattr(os, "setpriority", lambda *values: given.append(values), raising=False)
    assert urgency.raise_priority() == "nice value -10"
    assert given == [(os.PRIO_PROCESS, 0, -10)]


@pytest.mark.skipif(not hasattr(os, "SCHED_RESET_ON_FORK"), reason="no real-time scheduling on this system")
def test_children_do_not_inherit_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda _pid, policy, _param: asked.append(policy))
    assert "real-time" in urgency.raise_priority()
    assert asked == [os.SCHED_RR | os.SCHED_RESET_ON_FORK]


def test_precedence_is_given_back() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    with urgency.precedence() as given:
        assert given
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == before
