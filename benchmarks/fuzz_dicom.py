"""Damaged DICOM: every case is read or refused in one sentence, none hangs, none shows a traceback.

    python -m benchmarks.fuzz_dicom [--cases 10000] [--seed 1]

A small made patient (CT slices, some compressed, and a structure set) or an RT Plan is damaged, one file at a time: cut
short, bytes flipped, zeros or noise written in, a tag removed, emptied, given another VR, a text or a huge number for
a value; then read as ``seedguide plan`` reads it, down to the anatomy, or as ``seedguide evaluate`` reads an RT Plan.
Of what is refused a part is given to the whole command: one line, status 2, and nothing written. Planning itself is not
part of this benchmark.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
HANGS_S = 30.0
COMMANDS_EVERY = 25
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


def compressed(case: Path) -> None:
    """One slice in JPEG-LS and one in RLE, so that decoders meet damage too."""
    import gdcm
    from pydicom.uid import RLELossless

    (path,) = case.rglob("0004.dcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLSLossless))
    change.SetInput(reader.GetImage())
    change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.Write()
    (path,) = case.rglob("0007.dcm")
    image = pydicom.dcmread(path)
    image.compress(RLELossless)
    image.save_as(path)


def rt_plan_of(case: Path) -> Path:
    """An RT Plan with directions told in three ways, of the frame of reference of the case."""
    from test_planning_rt_objects import ORIGIN, ct_volume, two_needle_plan, uid
    from test_planning_rt_plan_reading import one_setup_per_seed_and_an_empty_one

    from planning.rt_objects import write_rt_plan

    path = case.parent / "rtplan.dcm"
    write_rt_plan(path, two_needle_plan(), ct_volume(), origin=ORIGIN, structure_set_uid=uid(9))
    body = pydicom.dcmread(path)
    one_setup_per_seed_and_an_empty_one(body)
    body.save_as(path)
    return path


class Hung(Exception):
    """A case took longer than any may."""


def _hung(*_: object) -> None:
    raise Hung


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from made_dicom import make_case

    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.refusal import AskedWrongly
    from planning.rt_objects import read_rt_plan_seeds
    from planning.site_protocol import load_site_protocol

    protocol = load_site_protocol("general")
    rng, outcome, slowest = np.random.default_rng(options.seed), Counter[str](), 0.0
    faults: list[str] = []
    signal.signal(signal.SIGALRM, _hung)
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder) / "case", shape=(14, 32, 32), spacing_mm=(4.5, 4.5, 7.0)).folder
        compressed(case)
        rt_plan = rt_plan_of(case)
        files = sorted(path for path in case.rglob("*") if path.is_file())
        kinds = [str(pydicom.dcmread(path, stop_before_pixels=True).Modality) for path in files]
        structures = files[kinds.index("RTSTRUCT")]

        def read(path: Path) -> None:
            if path == rt_plan:
                read_rt_plan_seeds(path)
            else:
                build_anatomy(read_case(case), protocol, target=None, margin_mm=protocol.margin_mm)

        begun = time.perf_counter()
        for number in range(options.cases):
            chance = rng.random()
            path = (
                structures
                if chance < 0.3
                else rt_plan
                if chance < 0.5
                else files[int(rng.integers(len(files)))]
            )
            whole = path.read_bytes()
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
            signal.setitimer(signal.ITIMER_REAL, HANGS_S)
            try:
                read(path)
                outcome["read"] += 1
            except AskedWrongly as problem:
                outcome["refused"] += 1
                if "\n" in str(problem) or len(str(problem)) > 600:
                    faults.append(f"case {number}: no single sentence: {str(problem)[:200]!r}")
                if outcome["refused"] % COMMANDS_EVERY == 0:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    outcome["whole commands"] += 1
                    faults += [
                        f"case {number} ({path.name}): {fault}" for fault in command(case, path, rt_plan)
                    ]
            except Exception:
                faults.append(f"case {number} ({path.name}): {traceback.format_exc(limit=-2)}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            took = time.perf_counter() - started
            slowest = max(slowest, took)
            path.write_bytes(whole)
        seconds = time.perf_counter() - begun
        shutil.rmtree(case)
    words = ", ".join(f"{count} {word}" for word, count in sorted(outcome.items()))
    print(
        f"{options.cases} damaged cases (seed {options.seed}) in {seconds:.0f} s: {words}; {len(faults)} faults;"
    )
    print(
        f"slowest {slowest:.2f} s (hung after {HANGS_S:g} s); whole commands: one in {COMMANDS_EVERY} refusals"
    )
    for fault in faults[:10]:
        print(fault)
    sys.exit(1 if faults else 0)


def command(case: Path, damaged: Path, rt_plan: Path) -> list[str]:
    """What the person's own command gets wrong on a case that was refused: status, words, files left behind."""
    from console.cli import main as seedguide

    out = case.parent / "out"
    arguments = (
        ["evaluate", str(rt_plan), str(case), "--protocol", "general"]
        if damaged == rt_plan
        else ["plan", str(case), "--out", str(out), "--protocol", "general", "--no-bound", "--no-template"]
    )
    said = StringIO()
    with redirect_stderr(said), redirect_stdout(StringIO()):
        status = seedguide(arguments)
    faults = []
    if status != 2:
        faults.append(f"exit status {status} of a refusal")
    if said.getvalue().count("\n") != 1:
        faults.append(f"not one line: {said.getvalue()[:200]!r}")
    if out.exists():
        faults.append("an output folder was left behind")
        shutil.rmtree(out)
    return faults


if __name__ == "__main__":
    main()
