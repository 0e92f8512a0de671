"""Damaged DICOM: every case is read or refused in one sentence, none hangs, none shows a traceback.

    python -m benchmarks.fuzz_dicom [--cases 10000] [--seed 1]

A small made patient (CT slices and a structure set) is damaged in one file at a time: cut short, bytes flipped, zeros
or noise written in, a tag removed, emptied, given another VR, a text or a huge number for a value; then read
as ``seedguide plan`` reads it, down to the anatomy. Planning itself is not part of this benchmark.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
SLOW_S = 5.0
STRANGE = ["", "nan", "1e999", "-1", "0", "x" * 200, "1\\2\\3", "\x00", "99999999999999999999"]
VRS = ["US", "DS", "IS", "UI", "LO", "FD", "OB", "SQ"]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    reach = len(out) if rng.random() < 0.3 else min(len(out), 2500)  # most damage into the header
    for at in rng.integers(0, reach, int(rng.integers(1, 12))):
        out[int(at)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def noise(data: bytes, rng: np.random.Generator) -> bytes:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
    new = bytes(length) if rng.random() < 0.5 else rng.bytes(length)
    return data[:at] + new + data[at + length :]


def inserted(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:]


def tag_changed(path: Path, rng: np.random.Generator) -> bytes:
    """One tag, at any depth, removed or given a strange value or another VR."""
    from io import BytesIO

    body = pydicom.dcmread(path)
    holder: Dataset = body
    while True:
        tags = [e.tag for e in holder if e.tag != 0x7FE00010]
        tag = tags[int(rng.integers(len(tags)))]
        element = holder[tag]
        if element.VR == "SQ" and len(element.value) and rng.random() < 0.8:
            holder = element.value[int(rng.integers(len(element.value)))]
            if len(holder):
                continue
            holder = body
        break
    how = int(rng.integers(4))
    if how == 0:
        del holder[tag]
    elif how == 1:
        holder[tag].value = None if element.VR != "SQ" else []
    elif how == 2 and element.VR not in ("SQ", "OB", "OW"):
        holder[tag]._value = STRANGE[int(rng.integers(len(STRANGE)))]
    else:
        holder[tag].VR = VRS[int(rng.integers(len(VRS)))]
    written = BytesIO()
    body.save_as(written)
    return written.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from made_dicom import make_case

    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.refusal import AskedWrongly
    from planning.site_protocol import load_site_protocol

    protocol = load_site_protocol("general")
    rng, outcome, slowest = np.random.default_rng(options.seed), Counter[str](), 0.0
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder) / "case", shape=(14, 32, 32), spacing_mm=(4.5, 4.5, 7.0)).folder
        files = sorted(path for path in case.rglob("*") if path.is_file())
        kinds = [str(pydicom.dcmread(path, stop_before_pixels=True).Modality) for path in files]
        structures = kinds.index("RTSTRUCT")
        begun = time.perf_counter()
        for number in range(options.cases):
            which = structures if rng.random() < 0.4 else int(rng.integers(len(files)))
            path, whole = files[which], files[which].read_bytes()
            how = int(rng.integers(6))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    damaged = (
                        (cut, flipped, noise, inserted)[how](whole, rng)
                        if how < 4
                        else tag_changed(path, rng)
                    )
            except Exception:  # the writer itself refuses some of the values
                outcome["not written"] += 1
                continue
            path.write_bytes(damaged)
            started = time.perf_counter()
            try:
                read = read_case(case)
                build_anatomy(read, protocol, target=None, margin_mm=protocol.margin_mm)
                outcome["read"] += 1
            except AskedWrongly as problem:
                outcome["refused"] += 1
                if "\n" in str(problem) or len(str(problem)) > 600:
                    faults.append(f"case {number}: no single sentence: {str(problem)[:200]!r}")
            except Exception:
                faults.append(f"case {number} ({path.name}): {traceback.format_exc(limit=-2)}")
            took = time.perf_counter() - started
            slowest = max(slowest, took)
            if took > SLOW_S:
                faults.append(f"case {number} ({path.name}): took {took:.1f} s")
            path.write_bytes(whole)
        seconds = time.perf_counter() - begun
        shutil.rmtree(case)
    words = ", ".join(f"{count} {word}" for word, count in sorted(outcome.items()))
    print(
        f"{options.cases} damaged cases (seed {options.seed}) in {seconds:.0f} s: {words}; {len(faults)} faults; ",
        end="",
    )
    print(f"slowest {slowest:.2f} s")
    for fault in faults[:10]:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
