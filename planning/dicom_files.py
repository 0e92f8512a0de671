"""DICOM files of a folder, and their values, with refusals that name file and tag.

Files arrive from every kind of scanner, archive and USB stick: any name, nested folders, damaged in any
way. Whatever pydicom trips over becomes one sentence here, so no caller sees another exception.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from planning.frame import Floats
from planning.refusal import AskedWrongly

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")  # and legacy converted
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


@dataclass(frozen=True, eq=False)
class DicomFile:
    """One file's header (no pixels); ``kind`` is its SOP Class UID."""

    path: Path
    header: Dataset
    kind: str


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns any failure of the DICOM reader into a refusal that names the file; silences its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except AskedWrongly:
        raise
    except MemoryError as problem:
        raise AskedWrongly(f"{path}: the DICOM file asks for more memory than there is.") from problem
    except OSError as problem:
        raise AskedWrongly(f"{path}: the file can't be read ({problem.strerror or problem}).") from problem
    except Exception as problem:  # the reader raises nearly everything on damaged files
        words = plain(f"{type(problem).__name__}: {problem}", 160)
        raise AskedWrongly(f"{path}: damaged or unreadable DICOM file ({words}).") from problem


def plain(value: object, length: int = 60) -> str:
    """A value's text fit for one line of a message: printable characters only, cut to ``length``."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)[: 4 * length]).split())
    return text if len(text) <= length else text[: length - 3] + "..."


def find_dicom(folder: Path) -> list[DicomFile]:
    """Every DICOM file below ``folder``, in the order of the paths; other files are passed over.

    Raises:
        AskedWrongly: no such folder, or a DICOM file that can't be parsed.
    """
    if not folder.is_dir():
        raise AskedWrongly(f"{folder}: no such folder.")
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with reading(path):
                dicom = _open(path)
            if dicom is not None:
                found.append(dicom)
    return found


def _open(path: Path) -> DicomFile | None:
    with path.open("rb") as file:
        head = file.read(132)
    has_preamble = head[128:] == b"DICM"
    # Old archives leave the preamble out; such a file starts with an element of group 0002 or 0008.
    if not has_preamble and head[:2] not in (b"\x08\x00", b"\x02\x00"):
        return None
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=not has_preamble)
    except Exception:
        if has_preamble:
            raise
        return None
    kind = header.get("SOPClassUID") or getattr(header, "file_meta", Dataset()).get("MediaStorageSOPClassUID")
    if kind is None:
        if has_preamble:
            raise AskedWrongly(
                f"{path}: the tag SOPClassUID (0008,0016) is missing; the file may be cut short."
            )
        return None
    return DicomFile(path, header, str(kind))


def required(header: Dataset, keyword: str, path: Path) -> Any:
    """The value of a tag that must be there and not empty."""
    value = header.get(keyword)
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        raise AskedWrongly(f"{path}: the tag {named(keyword)} is missing or empty.")
    return value


def required_floats(header: Dataset, keyword: str, count: int, path: Path) -> Floats:
    """``(count,)`` finite numbers of a tag that must be there."""
    value = required(header, keyword, path)
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError) as problem:
        raise AskedWrongly(
            f"{path}: the tag {named(keyword)} holds no numbers ({plain(value)})."
        ) from problem
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise AskedWrongly(
            f"{path}: the tag {named(keyword)} must hold {count} number(s), not {plain(value)}."
        )
    return numbers


def named(keyword: str) -> str:
    """``Rows (0028,0010)``."""
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else f"{keyword} {Tag(tag)}"
