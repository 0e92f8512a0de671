"""Recordings of needle transforms as Perk Tutor and 3D Slicer keep them, read and written.

``TransformRecorderLog`` (XML, Perk Tutor's Transform Recorder) and the later sequence metafile (``.seq.mha``, Slicer's
linear transform sequence without images). Transforms are ``ras_from_device`` ``(4, 4)``, mm; Slicer's axes are RAS.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from planning.frame import Floats
from planning.refusal import AskedWrongly

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LARGEST = 512_000_000
_FRAME = re.compile(r"Seq_Frame(\d+)_(\w+?)\s*=\s*(.*)")
_HEAD = (
    "ObjectType = Image",
    "NDims = 3",
    "AnatomicalOrientation = RAI",
    "BinaryData = True",
    "CompressedData = False",
    "DimSize = 0 0 {frames}",
    "ElementSpacing = 1 1 1",
    "Offset = 0 0 0",
    "TransformMatrix = 1 0 0 0 1 0 0 0 1",
    "ElementType = MET_UCHAR",
    "Kinds = domain domain list",
)


@dataclass(frozen=True, eq=False)
class Transform:
    """``device`` (such as ``N01ToRAS``) at ``t_ns``: ``matrix`` ``(4, 4)``."""

    device: str
    t_ns: int
    matrix: Floats


@dataclass(frozen=True)
class Message:
    """What was said at ``t_ns``."""

    t_ns: int
    text: str


@dataclass(frozen=True)
class Recording:
    """Transforms and messages, in the file's order (which need not be that of time)."""

    transforms: tuple[Transform, ...]
    messages: tuple[Message, ...] = ()

    def of(self, device: str) -> tuple[Floats, Floats]:
        """``(n,)`` s and ``(n, 4, 4)`` of one device, by time."""
        own = sorted((it for it in self.transforms if it.device == device), key=lambda it: it.t_ns)
        t_s = np.array([it.t_ns / 1e9 for it in own])
        return t_s, np.array([it.matrix for it in own]).reshape(-1, 4, 4)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(it.device for it in self.transforms))


def write_xml(recording: Recording, path: Path) -> None:
    """As Perk Tutor's Transform Recorder."""
    lines = ["<TransformRecorderLog>"]
    for it in recording.transforms:
        lines.append(
            f'  <log {_stamp(it.t_ns)} type="transform" DeviceName={quoteattr(it.device)} '
            f'transform="{_numbers(it.matrix)} " />'
        )
    for said in recording.messages:
        lines.append(f'  <log {_stamp(said.t_ns)} type="message" message={quoteattr(said.text)} />')
    path.write_text("\n".join([*lines, "</TransformRecorderLog>"]) + "\n", encoding="utf-8")


def read_xml(path: Path) -> Recording:
    """As ``write_xml`` and Perk Tutor write it; entries of other types are left out, as Perk Tutor does.

    Raises:
        AskedWrongly: no such file, no such log, or an entry that is none; with its number.
    """
    text = _text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise AskedWrongly(f"{path}: holds a DTD, which no TransformRecorderLog does; export it again.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as problem:
        raise AskedWrongly(f"{path}: is no XML ({problem}); export it again.") from problem
    if root.tag != "TransformRecorderLog":
        raise AskedWrongly(f"{path}: holds <{root.tag}>, not <TransformRecorderLog>; is it another file?")
    transforms, messages = [], []
    for place, entry in enumerate(root, 1):
        kind = entry.get("type")
        if entry.tag != "log" or kind not in ("transform", "message"):
            continue
        try:
            t_ns = int(entry.attrib["TimeStampSec"]) * 1_000_000_000 + int(entry.attrib["TimeStampNSec"])
            if kind == "message":
                messages.append(Message(t_ns, entry.attrib["message"]))
            else:
                matrix = _matrix(entry.attrib["transform"])
                transforms.append(Transform(entry.attrib["DeviceName"], t_ns, matrix))
        except (KeyError, ValueError) as problem:
            raise AskedWrongly(f"{path}: log entry {place} is no {kind} ({problem}).") from problem
    return Recording(tuple(transforms), tuple(messages))


def write_sequence(recording: Recording, path: Path) -> None:
    """As Slicer's linear transform sequence (``.seq.mha``): one frame a moment; messages have no place in it."""
    by_time: dict[int, dict[str, Floats]] = {}
    for it in recording.transforms:
        by_time.setdefault(it.t_ns, {})[it.device] = it.matrix
    lines = [line.format(frames=len(by_time)) for line in _HEAD]
    for frame, t_ns in enumerate(sorted(by_time)):
        for device, matrix in by_time[t_ns].items():  # a device that did not move has no line in the frame
            lines.append(f"Seq_Frame{frame:04d}_{device}Transform = {_numbers(matrix)}")
            lines.append(f"Seq_Frame{frame:04d}_{device}TransformStatus = OK")
        lines.append(f"Seq_Frame{frame:04d}_Timestamp = {t_ns / 1e9:.9f}")
    path.write_text("\n".join([*lines, "ElementDataFile = LOCAL"]) + "\n", encoding="utf-8")


def read_sequence(path: Path) -> Recording:
    """The transforms of a sequence metafile (Slicer, PLUS), also of one with images; invalid ones are left out.

    Raises:
        AskedWrongly: no such file, no frame in it, or a transform without a time or that is none.
    """
    frames: dict[int, dict[str, str]] = {}
    for line in _text(path).splitlines():
        if line.startswith("ElementDataFile"):
            break  # the image's bytes follow
        found = _FRAME.match(line)
        if found is not None:
            frames.setdefault(int(found[1]), {})[found[2]] = found[3].strip()
    if not frames:
        raise AskedWrongly(f"{path}: holds no Seq_Frame line; it is no sequence metafile with transforms.")
    transforms = []
    for frame, fields in sorted(frames.items()):
        for name, value in fields.items():
            device = name.removesuffix("Transform")
            if device == name or fields.get(f"{name}Status", "OK") != "OK":
                continue
            try:
                t_ns = round(float(fields["Timestamp"]) * 1e9)
                transforms.append(Transform(device, t_ns, _matrix(value)))
            except (KeyError, ValueError, OverflowError) as problem:
                raise AskedWrongly(f"{path}: frame {frame}, {name}: is none ({problem}).") from problem
    return Recording(tuple(transforms))


def recording_of(poses: Iterable[tuple[str, int, Floats]], messages: Sequence[Message] = ()) -> Recording:
    """From ``(needle, t_ns, patient_from_needle)`` in the DICOM patient frame (LPS)."""
    return Recording(
        tuple(Transform(f"{needle}ToRAS", t_ns, RAS_FROM_LPS @ pose) for needle, t_ns, pose in poses),
        tuple(messages),
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise AskedWrongly(f"{path}: is larger than {_LARGEST // 1_000_000} MB; cut it.")
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as problem:
        raise AskedWrongly(f"{path}: can't be read ({problem.strerror}).") from problem


def _stamp(t_ns: int) -> str:
    seconds, nanoseconds = divmod(t_ns, 1_000_000_000)
    return f'TimeStampSec="{seconds}" TimeStampNSec="{nanoseconds}"'


def _numbers(matrix: Floats) -> str:
    return " ".join(f"{float(value) + 0.0:.9g}" for value in matrix.ravel())


def _matrix(text: str) -> Floats:
    values = [float(word) for word in text.split()]
    if len(values) != 16 or not all(map(math.isfinite, values)):
        raise ValueError(f"{len(values)} numbers, not 16 finite ones")
    return np.array(values).reshape(4, 4)
