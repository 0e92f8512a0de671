"""How long a CT of 100 slices of 512 x 512 takes over loopback, and how long after its end the event comes.

    python -m benchmarks.receiver [SLICES]

The goal: at most 1 s from the end of the transfer to the event, in ``seedguide scans`` and in the controller that waits
for this CT (the moment its analysis begins). The sender is a process of its own.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from phantom_ct import write_phantom
from pynetdicom import AE

from controller.commands import RequestScan
from controller.requests import FolderScanner, RequestFolder
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


class Waiting:
    """A controller that has asked for a CT; notes when it can be analysed."""

    def __init__(self, folder: Path) -> None:
        self.begun = 0.0
        scanner = FolderScanner(RequestFolder(folder), self, (-100.0, 100.0), 1.25)  # type: ignore[arg-type]
        asked = RequestScan(1, 1, "needles", 0)
        self.thread = threading.Thread(target=scanner.scan, args=(asked, None), daemon=True)
        self.thread.start()

    def analyse(self, *_: object) -> None:
        self.begun = time.monotonic()


def main() -> None:
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as made:
        folder = write_phantom(Path(made) / "ct", rows=512, columns=512, pixel_mm=0.9, slices=slices)
        receiver = Receiver(Intake(Path(made) / "in"), Link(port=0))
        controller = Waiting(Path(made) / "in")
        times: multiprocessing.SimpleQueue[float] = multiprocessing.SimpleQueue()
        sender = multiprocessing.Process(target=send, args=(folder, receiver.port, times))
        sender.start()
        events = receiver.wait(120.0)
        told = time.monotonic()
        controller.thread.join(10.0)
        sender.join()
        begun, ended = times.get(), times.get()
        receiver.stop()
    assert [event.complete for event in events] == [True]
    assert controller.begun, "the controller has not heard of the series"
    print("| slices of 512 x 512 | transfer s | event after its end s | analysis begins after its end s |")
    print("|---|---|---|---|")
    print(f"| {slices} | {ended - begun:.2f} | {told - ended:.2f} | {controller.begun - ended:.2f} |")


if __name__ == "__main__":
    main()
