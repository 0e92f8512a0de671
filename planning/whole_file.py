"""Write a file as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from planning.refusal import AskedWrongly


def write_whole(path: Path, content: bytes) -> None:
    """Write beside ``path``, flush to disk, then take its place; an older file stays until then.

    Raises:
        AskedWrongly: the file can't be written; nothing is left behind.
    """
    growing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with growing.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(growing, path)
    except OSError as problem:
        growing.unlink(missing_ok=True)
        raise AskedWrongly(f"{path}: can't be written ({problem.strerror}).") from problem
