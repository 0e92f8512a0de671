"""How a command that writes into its own folder ends: kept, given back, interrupted, or with its fault on record."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from console.output_folder import MARKER, OutputFolder
from planning.refusal import AskedWrongly


class Interrupted(Exception):
    """A person pressed Ctrl-C; the message says what is left."""


class InternalFaultError(Exception):
    """Our own fault; the message is one line and says where the traceback is."""


@contextmanager
def all_or_nothing(folder: OutputFolder) -> Iterator[OutputFolder]:
    """Keeps what was written when the work ends well; otherwise the folder is as before.

    Raises:
        Interrupted: Ctrl-C; nothing is left of this run, an earlier one is back.
            Further Ctrl-C are not heard meanwhile.
        InternalFaultError: our own fault; an earlier run is back, ``fault.txt`` beside it.
    """
    try:
        yield folder
    except KeyboardInterrupt:
        with _deaf():
            folder.give_back()
        raise Interrupted("interrupted; nothing was written.") from None
    except AskedWrongly:
        with _deaf():
            folder.give_back()
        raise
    except Exception as problem:
        with _deaf():
            folder.give_back()
            raise InternalFaultError(_logged(problem, folder)) from problem
    except BaseException:
        with _deaf():
            folder.give_back()
        raise
    with _deaf():
        folder.keep()


@contextmanager
def kept_once_begun(folder: OutputFolder, record: str, after: str = "") -> Iterator[OutputFolder]:
    """Keeps the folder as soon as the file ``record`` is in it, however the work ends; before, it is as it was.

    Args:
        after: words about what to do after an interruption.

    Raises:
        Interrupted: Ctrl-C.
        InternalFaultError: our own fault; ``fault.txt`` beside the record.
    """

    def end() -> bool:
        begun = (folder.path / record).exists()
        (folder.keep if begun else folder.give_back)()
        return begun

    try:
        yield folder
    except KeyboardInterrupt:
        with _deaf():
            told = f"the record is in {folder.path}{after}" if end() else "nothing was written"
        raise Interrupted(f"interrupted; {told}.") from None
    except AskedWrongly:
        with _deaf():
            end()
        raise
    except Exception as problem:
        with _deaf():
            end()
            raise InternalFaultError(_logged(problem, folder)) from problem
    except BaseException:
        with _deaf():
            end()
        raise
    with _deaf():
        folder.keep()


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C waits until the folder is in order; only the main thread can arrange that."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _logged(problem: Exception, folder: OutputFolder) -> str:
    """Write the traceback into the folder; the line for the screen."""
    what = f"internal fault: {type(problem).__name__}: {' '.join(str(problem).split())}"
    log = folder.path / "fault.txt"
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / MARKER).touch()
        log.write_text("".join(traceback.format_exception(problem)), encoding="utf-8")
    except OSError:
        return f"{what} (the traceback could not be written to {log})"
    return f"{what}; the traceback is in {log}"
