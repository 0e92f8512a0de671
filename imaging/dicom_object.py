"""One DICOM file as bytes: its header, whether it is whole, and whether two files are the same object.

A copy that broke off in the middle of the pixels has a perfect header, and the reader of DICOM files takes what is
there: only lengths tell. A file cut exactly between two elements shows by what its class must have.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset

from imaging.scan_series import KINDS, NotAnImage

_MUST_HAVE = {"CT": "PixelData", "RTDOSE": "PixelData", "RTSTRUCT": "ROIContourSequence"}
_SEQUENCE_ENDS = (b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xff\xfe\xe0\xdd\0\0\0\0")  # little and big endian
_UNDEFINED = 0xFFFFFFFF


def read_object(content: bytes) -> FileDataset:
    """The whole of a DICOM file.

    Raises:
        NotAnImage: not readable, cut off, or without its pixels or contours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pydicom.dcmread(io.BytesIO(content))
            whole = _ends_whole(found, content)
            missing = "" if not whole else _missing(found)
    except Exception as problem:  # the reader raises nearly everything on damaged files
        raise NotAnImage("not a readable DICOM object") from problem
    if not whole:
        raise NotAnImage("the file is not whole: it breaks off")
    if missing:
        raise NotAnImage(f"the object is not whole: {missing}")
    return found


def same_object(one: bytes, other: bytes) -> bool:
    """Whether two files hold the same object, if in different transfer syntaxes, value for value."""
    if one == other:
        return True
    try:
        first, second = read_object(one), read_object(other)
        if first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID:
            return bool(first == second)
        one_pixels, other_pixels = [
            d.pixel_array if "PixelData" in d else np.zeros(0) for d in (first, second)
        ]
        for dataset in (first, second):
            dataset.pop("PixelData", None)
            for tag in [tag for tag in sorted(dataset.keys()) if tag.element == 0]:
                del dataset[tag]  # group lengths, which follow from the encoding
        return bool(np.array_equal(one_pixels, other_pixels) and first == second)
    except Exception:  # what can't be compared is not the same
        return False


def _ends_whole(found: FileDataset, content: bytes) -> bool:
    """Whether the last element ends where the file ends."""
    if str(found.file_meta.get("TransferSyntaxUID", "")) == "1.2.840.10008.1.2.1.99":
        return True  # deflated: the decompressor has noticed
    last: Any = None
    for tag in sorted(found.keys()):
        item: Any = found.get_item(tag)
        if last is None or _start(item) > _start(last):
            last = item
    if last is None:
        return False
    undefined = last.is_undefined_length if isinstance(last, DataElement) else last.length == _UNDEFINED
    if undefined:
        return content.rstrip(b"\0").endswith(tuple(end.rstrip(b"\0") for end in _SEQUENCE_ENDS))
    if not isinstance(last, RawDataElement):
        return True  # a sequence of known length, whose items were read whole
    end = _start(last) + last.length
    return end == len(content) or (end < len(content) and not any(content[end:]))


def _start(item: Any) -> int:
    place = item.value_tell if isinstance(item, RawDataElement) else item.file_tell
    return int(place or 0)


def _missing(found: FileDataset) -> str:
    """What an object of its class must have and this one has not, in words."""
    needed = _MUST_HAVE.get(KINDS.get(str(found.get("SOPClassUID") or ""), ""))
    if needed is None:
        return ""
    if needed not in found:
        return "its pixels are missing" if needed == "PixelData" else "its contours are missing"
    if needed == "PixelData" and not found.file_meta.TransferSyntaxUID.is_compressed:
        frames = int(found.get("NumberOfFrames") or 1) * int(found.get("SamplesPerPixel") or 1)
        bits = int(found.Rows) * int(found.Columns) * int(found.BitsAllocated) * frames
        if len(found.PixelData) < bits // 8:
            return "some of its pixels are missing"
    return ""
