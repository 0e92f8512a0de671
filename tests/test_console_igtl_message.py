"""OpenIGTLink's bytes: the CRC's published value, any split, any flipped bit, headers of every version, and RAS."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pyigtl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyigtl.messages import MessageBase

from console.igtl import body
from console.igtl.body import Code, PointItem, Status
from console.igtl.crc import crc64
from console.igtl.message import (
    HEADER,
    MOST_BODY,
    Body,
    MalformedError,
    Message,
    Reader,
    stamp_of,
    time_ns_of,
)
from console.igtl.ras import patient_from_own, ras_from_own, ras_point
from planning.frame import RigidTransform

POSE = RigidTransform.from_rotation_vector((20.0, -35.0, 50.0), (30.0, -80.0, 45.0))
"""Asymmetrical on purpose: no two axes, and no sign, can be confused unnoticed."""

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
NUMBERS = st.floats(-1e6, 1e6, width=32)
POINTS = st.builds(
    PointItem, TEXTS, st.just("Target"), st.just((1, 2, 3, 4)), st.tuples(NUMBERS, NUMBERS, NUMBERS), NUMBERS
)
BODIES = st.one_of(
    st.builds(lambda n, t: Body.of("STRING", n, body.pack_string(t)), NAMES, st.text(max_size=60)),
    st.builds(
        lambda n, c, t: Body.of("STATUS", n, Status(c, t[:19], t).pack()), NAMES, st.integers(0, 19), TEXTS
    ),
    st.builds(lambda n, p: Body.of("POINT", n, body.pack_points(p)), NAMES, st.lists(POINTS, max_size=3)),
    st.builds(lambda n: Body.of("TRANSFORM", n, body.pack_transform(ras_from_own(POSE))), NAMES),
    st.builds(lambda n: Body.of("GET_STATUS", n, b""), NAMES),
)


def test_the_crc_has_its_published_check_value() -> None:
    assert crc64(b"123456789") == 0x6C40DF5F0B497347
    assert crc64(b"") == 0


@given(st.lists(BODIES, min_size=1, max_size=5), st.data())
def test_any_split_gives_the_same_messages(bodies: list[Body], data: st.DataObject) -> None:
    stream = b"".join(one.packed(1_700_000_000_500_000_000 + i) for i, one in enumerate(bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader, messages = Reader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        messages += reader.read(stream[start:end])
    assert messages == [
        Message(b.kind, b.name, b.content, 1_700_000_000_500_000_000 + i) for i, b in enumerate(bodies)
    ]


def test_byte_by_byte_too() -> None:
    said = Body.of("TRANSFORM", "N01", body.pack_transform(ras_from_own(POSE))).packed(0)
    reader = Reader()
    found = [message for byte in said for message in reader.read(bytes([byte]))]
    assert [message.name for message in found] == ["N01"]


@given(BODIES.filter(lambda b: b.content), st.data())
def test_a_flipped_bit_in_a_body_is_always_found(one: Body, data: st.DataObject) -> None:
    said = bytearray(one.packed(0))
    at = data.draw(st.integers(HEADER.size * 8, len(said) * 8 - 1))
    said[at // 8] ^= 1 << at % 8
    with pytest.raises(MalformedError, match="CRC"):
        Reader().read(bytes(said))


@given(st.binary(max_size=300))
def test_any_bytes_are_messages_or_refused_in_a_sentence(data: bytes) -> None:
    with contextlib.suppress(MalformedError):  # and nothing else
        Reader().read(data)


def test_messages_before_a_broken_one_count() -> None:
    good, bad = (Body.of("STATUS", name, Status(1).pack()).packed(0) for name in ("good", "bad"))
    with pytest.raises(MalformedError) as told:
        Reader().read(good + bad[:-1] + b"!")
    assert [message.name for message in told.value.args[1]] == ["good"]


@pytest.mark.parametrize(
    ("version", "kind", "size", "why"),
    [
        (0, b"STATUS", 30, "version 0"),
        (4, b"STATUS", 30, "version 4"),
        (256, b"STATUS", 30, "version 256"),  # the wrong end first
        (1, b"", 30, "no type"),
        (1, b"\xff\xfe", 30, "ASCII"),
        (1, b"IMAGE", MOST_BODY + 1, "at most"),
        (1, b"IMAGE", 2**63, "at most"),
    ],
)
def test_a_header_that_is_none_is_refused_before_its_body(
    version: int, kind: bytes, size: int, why: str
) -> None:
    with pytest.raises(MalformedError, match=why):
        Reader().read(HEADER.pack(version, kind, b"x", 0, size, 0))


def test_version_2_is_read_with_extended_header_and_metadata() -> None:
    said = pyigtl.StringMessage("hello", device_name="S")
    said.header_version, said.metadata, said.message_id = 2, {"who": "Ann"}, 77
    (message,) = Reader().read(said.pack())
    assert (message.kind, message.name, body.unpack_string(message.content)) == ("STRING", "S", "hello")


@pytest.mark.parametrize("sizes", [(11, 0, 0), (13, 0, 0), (12, 1, 0), (12, 0, 0xFFFFFFFF), (0, 0, 0)])
def test_an_extended_header_that_does_not_fit_is_refused(sizes: tuple[int, int, int]) -> None:
    wrong = struct.pack(">HHII", sizes[0], sizes[1], sizes[2], 0)
    with pytest.raises(MalformedError, match="extended header"):
        Reader().read(HEADER.pack(2, b"STRING", b"S", 0, len(wrong), crc64(wrong)) + wrong)


@given(st.integers(0, 2**32 * 10**9 - 1))
def test_time_stamps_keep_their_nanoseconds(time_ns: int) -> None:
    assert time_ns_of(stamp_of(time_ns)) == time_ns


def test_names_that_do_not_fit_are_not_sent() -> None:
    for kind, name in (
        ("STATUS", "x" * 21),
        ("TOO_LONG_A_TYPE", "x"),
        ("STATUS", "Nädel"),
        ("STATUS", "a\nb"),
    ):
        with pytest.raises(ValueError, match="printable ASCII"):
            Body.of(kind, name, b"")


# --- contents -----------------------------------------------------------------------------------------------------


def foreign(kind: str, name: str, content: bytes) -> MessageBase:
    """What pyigtl reads in a message of ours."""
    said = Body.of(kind, name, content).packed(1_700_000_000_000_000_000)
    fields = MessageBase.parse_header(said[:58])
    message = MessageBase.create_message(fields["message_type"])
    message.unpack(fields, said[58:])
    return message


def test_a_transform_is_the_same_to_pyigtl_and_back() -> None:
    matrix = ras_from_own(POSE)
    told = foreign("TRANSFORM", "N01", body.pack_transform(matrix))
    assert told.device_name == "N01"
    assert told.matrix == pytest.approx(matrix, abs=1e-5)
    (heard,) = Reader().read(pyigtl.TransformMessage(matrix, device_name="T").pack())
    assert body.unpack_transform(heard.content) == pytest.approx(matrix, abs=1e-5)


def test_points_and_strings_are_the_same_to_pyigtl() -> None:
    points = [PointItem("N01", "Target", (1, 2, 3, 255), (1.5, -2.25, 30.0), 4.0, "CT")]
    told = foreign("POINT", "Targets", body.pack_points(points))
    assert (told.names, told.groups, told.owners) == (["N01"], ["Target"], ["CT"])
    assert told.positions == pytest.approx(np.array([[1.5, -2.25, 30.0]]))
    assert body.unpack_points(body.pack_points(points)) == points
    for text in ("plain", "Nädel 3 µm", ""):
        assert foreign("STRING", "M", body.pack_string(text)).string == text
        assert body.unpack_string(body.pack_string(text)) == text
    assert len(body.pack_string("ü" * 40_000)) == 4 + 65_534  # cut, but not in the middle of a sign


def test_status_and_position() -> None:
    said = Status(Code.NOT_READY, "HELD", "held: the rig does not answer")
    assert Status.unpack(said.pack()) == said
    x, y, z, qx, qy, qz, qw = struct.unpack(">7f", body.pack_position(ras_from_own(POSE)))
    assert (x, y, z) == pytest.approx((-30.0, 80.0, 45.0))
    turned = np.array(  # rotation of a unit quaternion, written out
        [
            [1 - 2 * (qy**2 + qz**2), 2 * (qx * qy - qz * qw), 2 * (qx * qz + qy * qw)],
            [2 * (qx * qy + qz * qw), 1 - 2 * (qx**2 + qz**2), 2 * (qy * qz - qx * qw)],
            [2 * (qx * qz - qy * qw), 2 * (qy * qz + qx * qw), 1 - 2 * (qx**2 + qy**2)],
        ]
    )
    assert turned == pytest.approx(ras_from_own(POSE)[:3, :3], abs=1e-6)


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (body.unpack_transform, b"\0" * 47),
        (body.unpack_transform, struct.pack(">12f", *[float("nan")] * 12)),
        (body.unpack_points, b"\0" * 135),
        (body.unpack_string, b"\0"),
        (body.unpack_string, struct.pack(">HH", 3, 5) + b"four"),
        (body.unpack_string, struct.pack(">HH", 1013, 2) + b"ab"),  # UTF-16
        (body.unpack_string, struct.pack(">HH", 106, 1) + b"\xff"),
        (Status.unpack, b"\0" * 29),
    ],
)
def test_contents_that_are_not_what_they_say_are_refused(read: object, content: bytes) -> None:
    assert callable(read)
    with pytest.raises(MalformedError):
        read(content)


# --- frames -------------------------------------------------------------------------------------------------------


def test_ras_is_a_half_turn_about_z_of_lps() -> None:
    """A point 10 mm to the patient's left, 20 mm posterior, 30 mm superior: RAS has left and posterior negative."""
    assert ras_point((10.0, 20.0, 30.0)) == (-10.0, -20.0, 30.0)
    assert ras_point(ras_point((1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)


def test_a_pose_in_ras_takes_the_same_needle_to_the_same_place() -> None:
    matrix = ras_from_own(POSE)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)  # no mirror
    for own in ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0), (0.0, 0.0, -100.0)):
        assert (matrix @ [*own, 1.0])[:3] == pytest.approx(ras_point(POSE.apply(own)))
    back = patient_from_own(matrix)
    assert back.matrix() == pytest.approx(POSE.matrix())


def test_a_matrix_that_is_no_pose_is_refused() -> None:
    for spoil in (np.diag([1.0, 1.0, -1.0, 1.0]), np.diag([1.1, 1.0, 1.0, 1.0]), np.zeros((4, 4))):
        with pytest.raises(ValueError, match="rotation"):
            patient_from_own(ras_from_own(POSE) @ spoil)
