"""The link, with pynetdicom as the sender and with Debian's dcmtk (skipped where it isn't installed)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from phantom_ct import write_phantom
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from imaging.intake import Answer, Intake, Status
from imaging.receiver import Link, Receiver
from imaging.scan_series import SECOND_NS, Patience, Wanted
from planning.dicom import read_ct
from planning.refusal import AskedWrongly

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ECHO = "1.2.840.10008.1.1"
IMPATIENT = Patience(settle_ns=SECOND_NS // 20, idle_ns=SECOND_NS, missing_ns=SECOND_NS // 10)
SLICES = 8


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = write_phantom(tmp_path_factory.mktemp("send"), rows=16, columns=16, pixel_mm=10.0, slices=SLICES)
    return sorted(folder.iterdir())


class Room:
    """A receiver and what it refused."""

    def __init__(self, folder: Path, wanted: Wanted | None = None, **link: object) -> None:
        self.folder, self.refused, self.turned_away = folder, list[Answer](), list[str]()
        self.intake = Intake(folder, wanted, IMPATIENT, self.refused.append, now_ns=time.monotonic_ns())
        how = Link(port=0, **link)  # type: ignore[arg-type]
        self.receiver = Receiver(self.intake, how, self.turned_away.append)

    def sender(self, title: str = "CT1", called: str = "SEEDGUIDE", sop_class: str = CT) -> Association:
        entity = AE(ae_title=title)
        entity.add_requested_context(sop_class)
        entity.add_requested_context(ECHO)
        return entity.associate("127.0.0.1", self.receiver.port, ae_title=called)

    def send(self, *datasets: Dataset | Path) -> list[Dataset]:
        link = self.sender()
        answers = [link.send_c_store(dataset) for dataset in datasets]
        link.release()
        return answers


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "in", Wanted("PHANTOM", frozenset({"1.2.3.7"})), allowed=("CT1", "DCMTK"))
    yield made
    made.receiver.stop()


def test_a_series_arrives_byte_for_byte_and_is_told_once(room: Room, series: list[Path]) -> None:
    assert {answer.Status for answer in room.send(*series)} == {Status.TAKEN}
    (event,) = room.receiver.wait(5.0)
    assert event.complete
    assert event.images == SLICES
    assert event.series_uid == "1.2.3.6"
    kept = room.intake.series_folder(event.series_uid)
    assert (read_ct(kept).hu == read_ct(series[0].parent).hu).all()
    assert (room.folder / "1.2.3.6.json").exists()
    assert not list((room.folder / ".incoming").glob("*.dcm"))
    assert room.receiver.wait(0.0) == []


def test_sending_again_is_answered_with_success_and_no_news(room: Room, series: list[Path]) -> None:
    room.send(*series)
    assert len(room.receiver.wait(5.0)) == 1
    assert {answer.Status for answer in room.send(*series)} == {Status.TAKEN}
    assert room.receiver.wait(0.2) == []


def test_the_same_instance_with_other_content_is_refused(room: Room, series: list[Path]) -> None:
    changed = pydicom.dcmread(series[0])
    changed.PixelData = bytes(len(changed.PixelData))
    first, second = room.send(series[0], changed)
    assert (first.Status, second.Status) == (Status.TAKEN, Status.DUPLICATE)


def test_wrong_patient_and_wrong_frame_are_refused_without_a_trace(room: Room, series: list[Path]) -> None:
    other_patient, other_frame = pydicom.dcmread(series[0]), pydicom.dcmread(series[1])
    other_patient.PatientID, other_frame.FrameOfReferenceUID = "SOMEBODY", "1.2.3.8"
    answers = room.send(other_patient, other_frame)
    assert {answer.Status for answer in answers} == {Status.NOT_AUTHORISED}
    assert [answer.ErrorComment for answer in answers] == [
        "not the patient of the plan",
        "not the frame of reference of the plan",
    ]
    assert [path.name for path in room.folder.iterdir()] == [".incoming"]
    assert len(room.refused) == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_no_uid_leads_out_of_the_folder(room: Room, series: list[Path]) -> None:
    evil = pydicom.dcmread(series[0])
    evil.SeriesInstanceUID = "../../../evil"
    assert room.send(evil)[0].Status == Status.NOT_UNDERSTOOD
    assert [path.name for path in room.folder.parent.iterdir()] == ["in"]


def test_a_gap_is_noticed(room: Room, series: list[Path]) -> None:
    by_place = sorted(series, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    room.send(*by_place[:3], *by_place[4:])
    (event,) = room.receiver.wait(5.0)
    assert event.problems == ("a gap: 1 slices are missing",)


def test_a_sender_that_breaks_off_is_noticed(room: Room, series: list[Path]) -> None:
    link = room.sender()
    for path in series[:4]:
        link.send_c_store(path)
    link.abort()
    (event,) = room.receiver.wait(5.0)
    assert "the sender broke the connection off" in event.problems


def test_only_named_titles_and_our_own_are_let_in(room: Room) -> None:
    assert room.sender("STRANGER").is_rejected
    assert room.sender("CT1", called="OTHER").is_rejected
    assert room.turned_away == [
        "STRANGER at 127.0.0.1: its AE title is not allowed",
        "CT1 at 127.0.0.1: it calls OTHER, we are SEEDGUIDE",
    ]
    link = room.sender("CT1")
    assert link.send_c_echo().Status == Status.TAKEN
    link.release()


def test_other_storage_classes_and_lossy_pictures_are_not_negotiated(room: Room) -> None:
    link = room.sender(sop_class=MR)
    assert [context.abstract_syntax for context in link.accepted_contexts] == [ECHO]
    link.release()
    lossy = AE(ae_title="CT1")
    lossy.add_requested_context(CT, "1.2.840.10008.1.2.4.50")
    assert not lossy.associate("127.0.0.1", room.receiver.port, ae_title="SEEDGUIDE").accepted_contexts
    assert room.turned_away == [
        "CT1 at 127.0.0.1: it offers CT in a transfer syntax that is not taken (lossy?)"
    ]


def test_one_association_more_than_allowed_is_rejected(tmp_path: Path) -> None:
    room = Room(tmp_path / "in", most_associations=2)
    links = [room.sender(), room.sender()]
    assert all(link.is_established for link in links)
    assert room.sender().is_rejected
    assert room.turned_away == ["CT1 at 127.0.0.1: 2 associations are open already"]
    for link in links:
        link.release()
    room.receiver.stop()


def test_noise_on_the_port_does_no_harm(room: Room, series: list[Path]) -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\xff\xff\xff\xff", bytes(300)):
        with socket.create_connection(("127.0.0.1", room.receiver.port)) as line:
            line.sendall(noise)
    room.send(*series)
    assert room.receiver.wait(5.0)[0].complete


def test_silent_connections_take_nobodys_place(tmp_path: Path) -> None:
    room = Room(tmp_path / "in", most_associations=2)
    silent = [socket.create_connection(("127.0.0.1", room.receiver.port)) for _ in range(6)]
    link = room.sender()
    assert link.is_established
    link.release()
    for line in silent:
        line.close()
    room.receiver.stop()


def test_a_peer_that_stops_in_the_middle_of_a_pdu_is_cut_off(tmp_path: Path) -> None:
    room = Room(tmp_path / "in", idle_s=0.3)
    with socket.create_connection(("127.0.0.1", room.receiver.port)) as line:
        line.sendall(b"\x01\x00\x00\x00\x10\x00half")
        line.settimeout(10.0)
        assert line.recv(100) == b"", "closed by us"
    room.receiver.stop()


def test_a_pdu_of_4_gb_is_not_waited_for(room: Room) -> None:
    with socket.create_connection(("127.0.0.1", room.receiver.port)) as line:
        line.settimeout(10.0)
        line.sendall(b"\x04\x00\xff\xff\xff\xf0")
        line.sendall(bytes(4096))
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(100) == b"", "closed by us"


def test_an_object_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imaging.peer_socket.MOST_OBJECT_BYTES", 100_000)
    room = Room(tmp_path / "in")
    folder = write_phantom(tmp_path / "ct", rows=300, columns=300, pixel_mm=0.5, slices=1)
    link = room.sender()
    answer = link.send_c_store(next(folder.iterdir()))
    assert "Status" not in answer
    link.dul.join(5.0)
    if link.dul.socket is not None and link.dul.socket.socket is not None:
        link.dul.socket.socket.close()  # pynetdicom's sender leaves it open
    assert not list(room.folder.rglob("*.dcm"))
    room.receiver.stop()


def test_an_image_in_another_transfer_syntax_is_the_same_image(
    room: Room, series: list[Path], tmp_path: Path
) -> None:
    image = pydicom.dcmread(series[0])
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.save_as(tmp_path / "again.dcm", implicit_vr=True, little_endian=True)
    image.ImagePositionPatient = [0, 0, 99]
    image.save_as(tmp_path / "moved.dcm", implicit_vr=True, little_endian=True)
    room.send(series[0])
    entity = AE(ae_title="CT1")
    entity.add_requested_context(CT, ImplicitVRLittleEndian)
    link = entity.associate("127.0.0.1", room.receiver.port, ae_title="SEEDGUIDE")
    assert link.send_c_store(tmp_path / "again.dcm").Status == Status.TAKEN
    assert link.send_c_store(tmp_path / "moved.dcm").Status == Status.DUPLICATE
    link.release()


def test_what_a_killed_receiver_kept_and_did_not_tell_is_told_by_the_next(
    tmp_path: Path, series: list[Path]
) -> None:
    first = Room(tmp_path / "in")
    first.send(*series)
    first.receiver.stop()  # killed before the event
    first.intake.close()
    half = tmp_path / "in" / ".incoming" / "1.2.3.dcm"
    half.write_bytes(b"half")
    second = Room(tmp_path / "in")
    (event,) = second.receiver.wait(5.0)
    assert event.complete
    assert not event.again
    assert not half.exists()
    second.receiver.stop()
    second.intake.close()
    third = Room(tmp_path / "in")
    assert third.receiver.wait(0.1) == []
    third.receiver.stop()


def test_two_receivers_do_not_share_a_folder(room: Room) -> None:
    with pytest.raises(AskedWrongly, match="another seedguide takes scans into this folder"):
        Intake(room.folder)
    room.intake.close()
    Intake(room.folder).close()


def test_an_event_that_finds_no_room_is_told_once_there_is_room(
    room: Room, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    room.send(*series)
    with monkeypatch.context() as full:

        def no_room(_: int) -> None:
            raise OSError(28, "No space left on device")

        full.setattr("imaging.intake.os.fsync", no_room)
        assert room.receiver.wait(0.2) == []
    assert "the event can't be written" in room.refused[-1].words
    (event,) = room.receiver.wait(5.0)
    assert event.complete


def test_after_a_restart_the_rest_completes_the_series(tmp_path: Path, series: list[Path]) -> None:
    first = Room(tmp_path / "in")
    first.send(*series[:5])
    first.receiver.stop()
    first.intake.close()
    second = Room(tmp_path / "in")
    second.send(*series[5:])
    (event,) = second.receiver.wait(5.0)
    assert event.complete
    assert event.images == SLICES
    second.receiver.stop()


def test_a_taken_port_and_a_bad_title_are_clear_errors(room: Room, tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="use another --port"):
        Receiver(Intake(tmp_path / "two"), Link(port=room.receiver.port))
    with pytest.raises(AskedWrongly):
        Receiver(Intake(tmp_path / "three"), Link(ae_title="X" * 17, port=0))


def test_a_full_disk_is_answered_as_such(
    room: Room, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imaging.intake.os.fsync", full)
    assert room.send(series[0])[0].Status == Status.OUT_OF_RESOURCES
    assert not list(room.folder.rglob("*.dcm"))


def dcmtk(tool: str) -> str:
    # an activated virtual environment has pynetdicom's programs of the same names before DCMTK's
    ours = Path(sys.executable).parent
    elsewhere = [place for place in os.environ["PATH"].split(os.pathsep) if Path(place) != ours]
    found = shutil.which(tool, path=os.pathsep.join(elsewhere))
    if found is None:
        pytest.skip(f"{tool} (Debian: dcmtk) is not installed")
    return found


def test_dcmtk_asks_whether_we_are_there(room: Room) -> None:
    peer = ["-aet", "DCMTK", "-aec", "SEEDGUIDE", "127.0.0.1", str(room.receiver.port)]
    assert subprocess.run([dcmtk("echoscu"), *peer], check=False, timeout=20).returncode == 0
    stranger = subprocess.run(
        [dcmtk("echoscu"), *peer[2:]], check=False, timeout=20, capture_output=True, text=True
    )
    assert stranger.returncode != 0
    assert "Calling AE Title Not Recognized" in stranger.stderr


@pytest.mark.parametrize("syntax", ["-xe", "-xb", "-xi"])
def test_dcmtk_sends_a_series(room: Room, series: list[Path], syntax: str) -> None:
    command = [dcmtk("storescu"), "-aet", "DCMTK", "-aec", "SEEDGUIDE", syntax, "127.0.0.1"]
    sent = subprocess.run(
        [*command, str(room.receiver.port), *map(str, series)], check=False, timeout=20, capture_output=True
    )
    assert sent.returncode == 0, sent.stderr
    (event,) = room.receiver.wait(5.0)
    assert event.complete
    assert (read_ct(room.intake.series_folder("1.2.3.6")).hu == read_ct(series[0].parent).hu).all()


def test_orthanc_sends_a_series(tmp_path: Path, series: list[Path]) -> None:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("Orthanc (Debian: orthanc) is not installed")
    room = Room(tmp_path / "in", allowed=("ORTHANC",))
    with socket.create_server(("127.0.0.1", 0)) as free:
        web = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(tmp_path / "archive"),
        "IndexDirectory": str(tmp_path / "archive"),
        "HttpPort": web,
        "DicomServerEnabled": False,
        "DicomAet": "ORTHANC",
        "AuthenticationEnabled": False,
        "Plugins": [],
        "DicomModalities": {"room": ["SEEDGUIDE", "127.0.0.1", room.receiver.port]},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))

    def ask(path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{web}{path}", data=body)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    command = [program, str(tmp_path / "orthanc.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as archive:
        try:
            assert archive.stdout is not None
            assert any("Orthanc has started" in line for line in archive.stdout)
            for path in series:
                ask("/instances", path.read_bytes())
            (stored,) = json.loads(ask("/series"))
            assert json.loads(ask("/modalities/room/store", stored.encode()))["FailedInstancesCount"] == 0
        finally:
            archive.terminate()
            archive.communicate(timeout=20)
    (event,) = room.receiver.wait(5.0)
    room.receiver.stop()
    assert event.complete
    assert event.images == SLICES
