"""The rig with a depth encoder on its carriage: nothing is done until both agree, nothing goes on when they don't."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rig_pair import Pair

from drivers.accuseed import AccuSeedConfig
from drivers.kinematics_oblique import ObliqueConfig
from drivers.rig import (
    AimGuide,
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    RigConnected,
    RigDone,
    RigFailed,
    RigRefused,
)
from simulator.cable import Faults
from simulator.grbl_kind import OBLIQUE
from simulator.physics import Template
from simulator.rig_mechanics import OBLIQUE as FIVE_AXES
from simulator.rig_mechanics import RigParameters, Z

CONFIG = AccuSeedConfig(counts_per_mm=20.0)


class _Hard:
    """Tissue that pushes back with 1 N per mm beyond 20 mm."""

    def __init__(self) -> None:
        self.z_mm = 0.0

    def insert(self, _needle: str, _x_mm: float, _y_mm: float, tip_z_mm: float) -> None:
        self.z_mm = tip_z_mm

    def resistance_n(self, _needle: str) -> float:
        return max(0.0, self.z_mm - 20.0)

    def retract(self, needle: str, distance_mm: float) -> None: ...
    def release(self) -> None: ...
    def drop_seed(self, needle: str) -> object: ...
    def grip(self, _x_mm: float, _y_mm: float) -> str | None:
        return "C3"


def _holding_a_needle(encoder: AccuSeedConfig | None) -> Pair:
    pair = Pair(
        template=Template(_Hard()), parameters=RigParameters(pull_out_n=30.0), encoder=encoder
    ).ready()
    pair.do(MoveAcross(0.0, 0.0))
    pair.mechanics.hand_needle("C3")
    pair.do(CloseGrip())
    return pair


def test_who_is_there_is_asked_and_told() -> None:
    pair = Pair(encoder=CONFIG)
    connected = pair.do(ConnectRig())
    assert isinstance(connected, RigConnected)
    assert connected.encoder == pair.driver.state.encoder == "SIM-ACCUSEED-1010"
    assert connected.simulated
    plain = Pair().do(ConnectRig())
    assert isinstance(plain, RigConnected)
    assert plain.encoder == ""


def test_steps_lost_in_tissue_stop_the_needle_within_the_tolerance_and_the_grip_stays_closed() -> None:
    pair = _holding_a_needle(CONFIG)
    done = pair.do(MoveDepth(45.0, True))
    assert isinstance(done, RigDone)
    assert done.encoder_mm == pytest.approx(45.0, abs=0.1)
    failed = pair.do(MoveDepth(60.0, True))
    assert isinstance(failed, RigFailed)
    assert "steps were lost" in failed.reason
    assert "the rig counts 51.00 mm but the encoder sees 50." in failed.reason
    assert not failed.position_known
    assert pair.mechanics.carriage_mm[Z] == pytest.approx(50.4, abs=0.3), (
        "one step of 1 mm later it has stopped"
    )
    assert pair.mechanics.held == "C3", "nothing is let go or drawn back by itself"
    assert pair.driver.state.encoder_mm == pytest.approx(50.4, abs=0.3)
    sent = len(pair.sent)
    assert isinstance(pair.do(MoveDepth(45.0, True)), RigRefused), "home it first"
    assert len(pair.sent) == sent


def test_without_an_encoder_they_are_not_seen() -> None:
    pair = _holding_a_needle(None)
    done = pair.do(MoveDepth(60.0, True))
    assert isinstance(done, RigDone)
    assert done.encoder_mm is None
    assert pair.mechanics.carriage_mm[Z] == pytest.approx(50.4, abs=0.3)


def test_a_stalled_motor_is_seen_on_the_way_home_too() -> None:
    pair = Pair(encoder=CONFIG).ready()
    assert isinstance(pair.do(MoveDepth(30.0, False)), RigDone)
    pair.mechanics.stall(Z)
    failed = pair.do(MoveDepthHome())
    assert isinstance(failed, RigFailed)
    assert "the encoder sees 30.0" in failed.reason
    pair.mechanics.stall(Z, False)
    assert isinstance(pair.do(HomeRig()), RigDone), "homed again, both begin at the same zero"
    assert isinstance(pair.do(MoveDepth(30.0, False)), RigDone)


def _silent(pair: Pair) -> None:
    pair.encoder_cable.cut()


def _invalid(pair: Pair) -> None:
    pair.encoder.is_valid = False


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_silent, "the depth encoder doesn't answer"), (_invalid, "its counters are invalid")],
)
def test_an_encoder_that_can_not_be_read_holds_and_nothing_more_moves(
    spoil: Callable[[Pair], None], words: str
) -> None:
    pair = _holding_a_needle(CONFIG)
    spoil(pair)
    failed = pair.do(MoveDepth(40.0, True))
    assert isinstance(failed, RigFailed)
    assert words in failed.reason
    assert pair.mechanics.carriage_mm[Z] < -17.0, "one step"
    assert pair.mechanics.held == "C3"


def test_an_encoder_that_is_not_there_or_another_is_refused_at_the_beginning() -> None:
    pair = Pair(encoder=CONFIG)
    pair.encoder_cable.cut()
    refused = pair.do(ConnectRig())
    assert isinstance(refused, RigRefused)
    assert "the depth encoder doesn't answer" in refused.reason
    refused = Pair(encoder=AccuSeedConfig(20.0, serial=7)).do(ConnectRig())
    assert isinstance(refused, RigRefused)
    assert "the configuration demands 7" in refused.reason


def test_a_gear_of_the_wrong_sign_is_found_at_the_first_motion() -> None:
    failed = Pair(encoder=AccuSeedConfig(-20.0)).ready().do(MoveDepth(0.0, False))
    assert isinstance(failed, RigFailed)
    assert "the encoder sees -38.0" in failed.reason


def test_it_is_asked_only_while_the_rig_rests_and_never_told_to_do_anything() -> None:
    pair = Pair(encoder=CONFIG)
    asked = bytearray()
    take = pair.driver.take_for_encoder

    def watched() -> bytes:
        data = take()
        asked.extend(data)
        if b"\x021919\x03" in data:
            assert pair.firmware.state == "Idle"
        return data

    pair.driver.take_for_encoder = watched  # type: ignore[method-assign]
    pair.ready()
    pair.do(MoveAcross(10.0, 0.0))
    pair.do(MoveDepth(25.0, False))
    codes = {bytes(asked[i + 1 : i + 3]) for i, byte in enumerate(asked) if byte == 2}
    assert codes == {b"51", b"21", b"19", b"FA"}


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_wire_to_the_encoder_never_hides_a_wrong_depth(seed: int) -> None:
    pair = Pair(seed=seed, encoder=CONFIG).ready()
    lane = Faults(flip=0.02, loss=0.02, duplicate=0.02, delay_ns=(0, 450_000_000))
    pair.encoder_cable.down.faults = pair.encoder_cable.up.faults = lane
    for depth_mm in (5.0, 12.0, 6.0, 20.0, 31.0):
        if not isinstance(pair.do(MoveDepth(depth_mm, False)), RigDone):
            return
        assert pair.mechanics.carriage_mm[Z] == pytest.approx(depth_mm, abs=0.25)
    pair.mechanics.lose_steps(Z, 0.7)
    assert isinstance(pair.do(MoveDepth(40.0, False)), RigFailed)


def test_a_stop_while_it_is_asked_is_a_stop() -> None:
    pair = Pair(encoder=CONFIG).ready()
    pair.encoder_cable.cut()
    pair.do(MoveDepth(-17.0, False), stop_after_ms=1200)
    assert not pair.driver.state.position_known
    pair.encoder_cable.mend()
    assert isinstance(pair.do(HomeRig()), RigDone)
    assert isinstance(pair.do(MoveDepth(10.0, False)), RigDone)


def test_the_oblique_rigs_carriage_is_watched_as_well() -> None:
    pair = Pair(config=ObliqueConfig(), kind=OBLIQUE, parameters=FIVE_AXES, encoder=CONFIG).ready()
    assert isinstance(pair.do(AimGuide(0.0, 0.0, (0.17, 0.0, (1 - 0.17**2) ** 0.5))), RigDone)
    assert isinstance(pair.do(MoveDepth(40.0, False)), RigDone)
    pair.mechanics.lose_steps(Z, 0.7)
    failed = pair.do(MoveDepth(50.0, False))
    assert isinstance(failed, RigFailed)
    assert "steps were lost" in failed.reason
