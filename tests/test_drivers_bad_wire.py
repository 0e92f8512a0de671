"""Both drivers on bad wires: no seed that isn't counted or is counted twice, no wrong place that goes unnoticed.

The faults are drawn by Hypothesis, the same ones each time. ``SEEDGUIDE_BAD_WIRES=5000`` plays that many
of each kind instead of some twenty.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bad_wire import (
    BYTE_NS,
    BadWire,
    brown_out,
    cut,
    half_a_line,
    mend_cut,
    stale_answer,
    stop,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from drivers.applicator import (
    ApplicatorConfig,
    ApplicatorDone,
    ApplicatorDriver,
    ApplicatorFailed,
    AskSeed,
    BeginLedger,
    ClearLatch,
    Connect,
    DeclareCartridge,
    DropSeed,
    HomeRetraction,
    HomeStylet,
    Ledger,
    ReadLedger,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
from drivers.rig import (
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    RigConfig,
    RigDone,
    RigDriver,
)
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.cable import PERFECT, Faults
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import RigMechanics

MANY = int(os.environ.get("SEEDGUIDE_BAD_WIRES", "0"))
PLACE_MM = 0.1
"""Slack and switches of the simulated rig stay below."""

Due = list[tuple[int, Callable[[BadWire], None]]]

WIRES = {
    "a perfect wire": PERFECT,
    "one byte at a time": Faults(byte_ns=BYTE_NS),
    "loss": Faults(loss=0.01),
    "delay": Faults(delay_ns=(0, 150_000_000)),
    "flips": Faults(flip=0.01),
    "duplicates": Faults(duplicate=0.02),
    "everything": Faults((0, 40_000_000), BYTE_NS, 0.003, 0.003, 0.003),
}
wires = st.builds(
    Faults,
    delay_ns=st.sampled_from([(0, 0), (0, 20_000_000), (50_000_000, 120_000_000)]),
    byte_ns=st.sampled_from([0, 0, 0, BYTE_NS]),
    loss=st.sampled_from([0.0, 0.002, 0.02]),
    flip=st.sampled_from([0.0, 0.002, 0.02]),
    duplicate=st.sampled_from([0.0, 0.01]),
)


def blows(*more: Callable[[BadWire], None]) -> st.SearchStrategy[Due]:
    """What happens in the first half minute, in order of time."""
    kinds = (brown_out, stop, half_a_line, stale_answer, cut, mend_cut, *more)
    return st.lists(st.tuples(st.integers(0, 30_000), st.sampled_from(kinds)), max_size=6)


def bounded(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=MANY or examples,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),  # a shrunk example costs minutes; the drawn one is printed
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Implanter:
    """A host that wants ``seeds`` seeds out, asks after each doubt, and a person who tells latches the truth."""

    def __init__(self, faults: Faults, due: Due, seeds: int = 2, seed: int = 1) -> None:
        self.mechanics = ApplicatorMechanics(np.random.default_rng(seed))
        self.mechanics.insert_cartridge(15)
        self.store = NonVolatile()
        self._sessions = 0
        self.wire = BadWire(self._driver(), self._boot, faults, due, seed)
        self.seeds, self.taken_out, self._fallen = seeds, 0, 0
        self.outcomes: dict[int, str] = {}
        self._in_doubt = False

    def _driver(self) -> ApplicatorDriver:
        self._sessions += 64
        return ApplicatorDriver(ApplicatorConfig(15, 5000, 18), f"{self._sessions:04X}")

    def _boot(self, now_ns: int) -> ApplicatorFirmware:
        return ApplicatorFirmware(self.mechanics, self.store, start_ns=now_ns)

    @property
    def next_seed(self) -> int:
        return len(self.outcomes) + 1

    def restart(self, _wire: BadWire) -> None:
        """The host dies and comes back, not knowing what became of its last words."""
        self.wire.driver = self._driver()
        self._in_doubt = True

    def work(self, rounds: int) -> None:
        for _ in range(rounds):
            if self.next_seed > self.seeds:
                return
            try:
                self._one_step()
            except _Restarted:
                continue

    def _ask(self, command: Any) -> list[Any]:
        driver = self.wire.driver
        asked_ns = self.wire.now_ns
        heard = self.wire.ask(command)
        if self.wire.driver is not driver:
            raise _Restarted
        if self.wire.now_ns == asked_ns and any(isinstance(event, ApplicatorFailed) for event in heard):
            self.wire.pass_time(20)  # a stop not obeyed yet holds motions back: only time helps
        return heard

    def _one_step(self) -> None:
        wire, state = self.wire, self.wire.driver.state
        if not state.linked:
            self._ask(Connect())
            if not wire.driver.state.linked:
                wire.pass_time(500)
        elif state.latch != "NONE":
            self._clear(state.latch, state.latch_seed)
        elif self._in_doubt:
            self._note(self._ask(AskSeed(self.next_seed)))
        elif not (state.stylet_homed and state.retraction_homed):
            self._ask(HomeRetraction() if state.stylet_homed else HomeStylet())
        elif (ledger := self._ledger()) is None:
            self._ask(BeginLedger("9C41D2E0"))
        elif ledger.cartridges == 0:
            self._ask(DeclareCartridge(1, 15, 0))
        else:
            self._note(self._ask(DropSeed(self.next_seed, state.z_um, "8F3C")))

    def _ledger(self) -> Ledger | None:
        done = [event for event in self._ask(ReadLedger()) if isinstance(event, ApplicatorDone)]
        return done[0].ledger if done else None

    @property
    def is_loaded(self) -> bool:
        """Nothing is left to do but to drop."""
        return bool(self.wire.driver.state.left == 15 and self.wire.driver.state.stylet_homed)

    def _note(self, heard: list[Any]) -> None:
        answered = [event for event in heard if isinstance(event, SeedOutcome)]
        if any(isinstance(event, SeedInDoubt) for event in heard):
            self._in_doubt = True
        elif answered or any(isinstance(event, SeedNotFired) for event in heard):
            self._in_doubt = False
        for event in answered:
            assert event.number == self.next_seed
            self.outcomes[event.number] = event.outcome
            if event.outcome == "PASS":
                self._fallen = self.mechanics.seeds_spilled

    def _clear(self, latch: str, number: int) -> None:
        """A person looks at what truly lies where."""
        if number == 0:
            self._ask(ClearLatch(latch, 0, "NO"))
            return
        if number == self.next_seed:
            self._note(self._ask(AskSeed(number)))
            if self.next_seed == number:
                return
        if self.mechanics.seeds_spilled > self._fallen:
            booked = "IN"
        elif self.mechanics.channel:
            self.taken_out += self.mechanics.clear_path()
            booked = "WA"
        else:
            booked = "LF" if not self.taken_out_for(number) else "WA"
        self.mechanics.clear_path()
        self._booked = (number, booked)
        self._ask(ClearLatch(latch, number, booked))  # type: ignore[arg-type]
        if self.wire.driver.state.latch_seed == 0:
            self._fallen = self.mechanics.seeds_spilled

    _booked: tuple[int, str] = (0, "")

    def taken_out_for(self, number: int) -> bool:
        """The person has taken this seed out before, and could not say so."""
        return self._booked == (number, "WA")

    def check(self) -> None:
        """Every seed in one place, counted there once, and told to the host as it is."""
        for _ in range(2):  # the link may have been lost with the last bad bytes: connect and ask again
            if not self.wire.driver.state.linked:
                self._ask(Connect())
            if (ledger := self._ledger()) is not None:
                break
        assert ledger is not None
        mechanics = self.mechanics
        assert sorted(self.outcomes) == list(range(1, self.seeds + 1))
        assert ledger.strokes == self.seeds, "one stroke for each number"
        assert ledger.in_doubt == 0
        places = (ledger.implanted, ledger.left, ledger.wasted)
        assert places == (mechanics.seeds_spilled, mechanics.cartridge, self.taken_out)
        assert sum(places) == 15
        for number, outcome in self.outcomes.items():
            (stored,) = [e for e in self._ask(AskSeed(number)) if isinstance(e, SeedOutcome)]
            assert stored.outcome == outcome
        assert sum(out == "PASS" for out in self.outcomes.values()) <= mechanics.seeds_spilled


class _Restarted(Exception):
    """The host that asked is no more."""


def play(table: Implanter, rounds: int = 40) -> None:
    table.work(rounds)
    table.wire.mend()
    table.work(200)
    while table.wire.driver.state.latch != "NONE" or not table.wire.driver.state.linked:
        table._one_step()
    table.check()


@pytest.mark.parametrize("name", WIRES)
def test_each_bad_wire_delivers_each_seed_once(name: str) -> None:
    for seed in range(2):
        play(Implanter(WIRES[name], [], seeds=3, seed=seed))


def test_a_host_that_asks_for_a_motion_before_its_stop_is_obeyed_waits() -> None:
    """Found by 150 wires: the driver held each homing back at once, and the host's tries ended in no time."""
    play(Implanter(Faults(delay_ns=(50_000_000, 120_000_000)), [(297, stop)], seeds=1, seed=3))


@pytest.mark.parametrize(("what", "stride"), [(brown_out, 1), (stop, 5), (half_a_line, 5), (stale_answer, 7)])
def test_something_at_every_byte_of_an_eject(what: Callable[[BadWire], None], stride: int) -> None:
    """A reset after each byte that the host sends from ARM until FIRE has gone; the rest, and others, coarser."""
    undisturbed = Implanter(PERFECT, [], seeds=1)
    while not undisturbed.is_loaded:
        undisturbed._one_step()
    begin = undisturbed.wire.sent
    undisturbed.work(50)
    end = undisturbed.wire.sent
    assert end - begin > 100
    stride = 1 if MANY else stride
    for at in [*range(begin + 1, begin + 100, stride), *range(begin + 100, end + 1, 8 * stride)]:
        table = Implanter(PERFECT, [], seeds=1)
        table.wire.byte_acts[at] = what
        play(table)


@bounded(25)
@given(st.data())
def test_no_sequence_of_faults_leaves_a_seed_uncounted_or_counted_twice(data: st.DataObject) -> None:
    table: list[Implanter] = []

    def jam(_wire: BadWire) -> None:
        table[0].mechanics.jam_next()

    def empty(_wire: BadWire) -> None:
        table[0].mechanics.push_nothing_next()

    def restart(wire: BadWire) -> None:
        table[0].restart(wire)

    due = data.draw(blows(jam, empty, restart))
    table.append(Implanter(data.draw(wires), due, seed=data.draw(st.integers(0, 99))))
    play(table[0])


# -- the rig -----------------------------------------------------------------------------------------------


class Rigger:
    """A host that connects, homes and moves, and starts again after each failure."""

    def __init__(self, faults: Faults, due: Due, seed: int = 1) -> None:
        self.mechanics = RigMechanics(np.random.default_rng(seed))
        store, chance = NonVolatile(), np.random.default_rng(seed + 1)
        self.driver = RigDriver(RigConfig())
        self.wire = BadWire(
            self.driver,
            lambda now_ns: GrblFirmware(self.mechanics, store, chance, start_ns=now_ns),
            faults,
            due,
            seed,
        )
        self.done = 0

    def off_mm(self, x_mm: float, y_mm: float, z_mm: float) -> float:
        return max(abs(a - b) for a, b in zip(self.mechanics.carriage_mm, (x_mm, y_mm, z_mm), strict=True))

    def work(self, moves: list[MoveAcross | MoveDepth | MoveDepthHome], tries: int) -> None:
        for _ in range(tries):
            if self.done == len(moves):
                return
            state = self.driver.state
            while self.driver.is_busy:
                self.wire.pass_time(100)
            if not state.linked:
                self.wire.ask(ConnectRig())
            elif not state.position_known:
                self.wire.ask(HomeRig())
            else:
                self._move(moves)
            self.check()

    def _move(self, moves: list[MoveAcross | MoveDepth | MoveDepthHome]) -> None:
        move = moves[self.done]
        heard = self.wire.ask(move)
        if any(isinstance(event, RigDone) for event in heard):
            self.done += 1
            now = self.driver.state
            assert self.off_mm(now.x_mm, now.y_mm, now.z_mm) < PLACE_MM, "done, and not there"
            if isinstance(move, MoveAcross):
                assert abs(now.x_mm - move.x_mm) + abs(now.y_mm - move.y_mm) < PLACE_MM
            else:
                assert abs(now.z_mm - (move.z_mm if isinstance(move, MoveDepth) else -19.0)) < PLACE_MM

    def check(self) -> None:
        """A position that counts as known is the true one."""
        state = self.driver.state
        if state.linked and state.position_known and not self.driver.is_busy:
            assert self.off_mm(state.x_mm, state.y_mm, state.z_mm) < PLACE_MM, state


MOVES: list[MoveAcross | MoveDepth | MoveDepthHome] = [
    MoveAcross(10.0, -35.0),
    MoveDepth(-2.5, in_tissue=False),
    MoveDepth(1.5, in_tissue=True),
    MoveDepthHome(),
    MoveAcross(-80.0, 40.0),
]


def play_rig(rig: Rigger, tries: int = 25) -> None:
    rig.work(MOVES, tries)
    rig.wire.mend()
    rig.work(MOVES, 60)
    assert rig.done == len(MOVES)


@pytest.mark.parametrize("name", WIRES)
def test_each_bad_wire_moves_the_rig_to_the_right_places(name: str) -> None:
    for seed in range(2):
        play_rig(Rigger(WIRES[name], [], seed))


@bounded(20)
@given(wires, blows(), st.integers(0, 99))
def test_no_sequence_of_faults_moves_the_rig_to_a_wrong_place_unnoticed(
    faults: Faults, due: Due, seed: int
) -> None:
    play_rig(Rigger(faults, due, seed))
