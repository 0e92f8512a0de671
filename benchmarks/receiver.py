"""How long a CT of 100 slices of 512 x 512 takes over loopback, and how long after its end the event comes.

    python -m benchmarks.receiver [SLICES]

The goal: at most 1 s from the end of the transfer to the event. The sender is a process of its own.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from phantom_ct import write_phantom
from pynetdicom import AE

from imaging.intake import Intake
from imaging.receiver import Link, Receiver
from imaging.scan_series import CT_IMAGE


def send(folder: Path, port: int, times: multiprocessing.SimpleQueue[float]) -> None:
    """Send every file over one association; tell when the transfer began and when it had ended."""
    entity = AE(ae_title="SENDER")
    entity.add_requested_context(CT_IMAGE)
    link = entity.associate("127.0.0.1", port, ae_title="SEEDGUIDE")
    times.put(time.monotonic())
    for path in sorted(folder.iterdir()):
        assert link.send_c_store(path).Status == 0
    link.release()
    times.put(time.monotonic())


def main() -> None:
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as made:
        folder = write_phantom(Path(made) / "ct", rows=512, columns=512, pixel_mm=0.9, slices=slices)
        receiver = Receiver(Intake(Path(made) / "in"), Link(port=0))
        times: multiprocessing.SimpleQueue[float] = multiprocessing.SimpleQueue()
        sender = multiprocessing.Process(target=send, args=(folder, receiver.port, times))
        sender.start()
        events = receiver.wait(120.0)
        told = time.monotonic()
        sender.join()
        begun, ended = times.get(), times.get()
        receiver.stop()
    assert [event.complete for event in events] == [True]
    print(
        f"{slices} slices of 512 x 512: transfer {ended - begun:.2f} s, event {told - ended:.2f} s after its end"
    )


if __name__ == "__main__":
    main()
