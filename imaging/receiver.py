"""The scanner's or archive's link: a DICOM storage provider (C-STORE, C-ECHO) in front of an :class:`Intake`.

Thin: who may connect and what may be sent is negotiated here, everything else is decided in ``intake``. Objects
are kept as the bytes that came, not decoded and encoded again. Lossy transfer syntaxes are not accepted: a
position measured to 0.5 mm must not depend on what a compressor left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from imaging.intake import Answer, Intake, Status
from imaging.peer_socket import BoundedServer
from imaging.scan_series import KINDS, SeriesReceived
from planning.dicom_files import plain
from planning.refusal import AskedWrongly

SPEAK_WITHIN_S = 5.0
"""A connection that has not asked for an association by then is closed (assumed)."""
PDU_BYTES = 1 << 17

LOSSLESS = (
    "1.2.840.10008.1.2.1",  # explicit little endian
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.5",  # RLE
)


@dataclass(frozen=True)
class Link:
    """How to be reached.

    Attributes:
        ae_title: ours; a peer that calls another one is rejected.
        port: TCP; 0 takes a free one.
        bind: address to listen on.
        allowed: AE titles that may connect; empty allows any.
        most_associations: open at the same time; one more is rejected for the moment. Connections that have not
            said who they are do not count.
        idle_s: a peer is cut off that is silent for so long, or takes so long over one PDU.
    """

    ae_title: str = "SEEDGUIDE"
    port: int = 11112
    bind: str = "127.0.0.1"
    allowed: Sequence[str] = ()
    most_associations: int = 4
    idle_s: float = 30.0


class Receiver:
    """Listens in threads of its own; events are fetched with :meth:`wait`.

    Args:
        turned_away: told in words of each peer that was not let in, or offered nothing that is taken.

    Raises:
        AskedWrongly: an AE title or address that can't be used.
    """

    def __init__(
        self, intake: Intake, link: Link, turned_away: Callable[[str], None] = lambda _words: None
    ) -> None:
        self._intake, self._link, self._turned_away = intake, link, turned_away
        self._changed = threading.Condition()
        self._let_in: list[Association] = []
        # pynetdicom tells of every step on its own logger; ours are the words for people
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        try:
            self._entity = _entity(link)
            handlers: list[Any] = [
                (evt.EVT_C_STORE, self._stored),
                (evt.EVT_C_ECHO, lambda _: int(Status.TAKEN)),
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_REJECTED, self._rejected),
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_RELEASED, self._closed, [False]),
                (evt.EVT_ABORTED, self._closed, [True]),
                (evt.EVT_CONN_CLOSE, self._closed, [True]),
            ]
            server = self._entity.start_server((link.bind, link.port), block=False, evt_handlers=handlers)
        except (ValueError, TypeError, OverflowError) as problem:
            raise AskedWrongly(f"{link.ae_title}: {problem}") from problem
        except OSError as problem:
            raise AskedWrongly(
                f"{link.bind}:{link.port}: can't listen there ({problem.strerror or problem}); use another --port."
            ) from problem
        assert server is not None
        self.port: int = server.socket.getsockname()[1] if server.socket is not None else link.port

    def wait(self, timeout_s: float) -> list[SeriesReceived]:
        """Series that are ready; waits for the first one up to ``timeout_s``."""
        end_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        with self._changed:
            while True:
                now_ns = time.monotonic_ns()
                events = self._intake.ready(now_ns)
                if events or now_ns >= end_ns:
                    return events
                wake_ns = min(end_ns, self._intake.next_wake_ns() or end_ns)
                self._changed.wait(max((wake_ns - now_ns) / 1e9, 0.001))

    def stop(self) -> None:
        """Stop listening and cut open connections."""
        for link in self._entity.active_associations:
            if not link.is_established:  # not yet, or ending: its state machine knows no abort there
                link.dul.kill_dul()
                link.dul.join(1.0)
                if link.dul.socket is not None and link.dul.socket.socket is not None:
                    link.dul.socket.socket.close()
        self._entity.shutdown()

    def _requested(self, event: evt.Event) -> None:
        """One association too many is rejected; those that are rejected for their title anyway do not count."""
        peer = event.assoc
        if self._why_not(peer):
            return
        with self._changed:
            self._let_in = [one for one in self._let_in if one.is_alive() and not one.is_rejected]
            if len(self._let_in) < self._link.most_associations:
                self._let_in.append(peer)
                return
        peer.acse.send_reject(0x02, 0x03, 0x02)  # for the moment; local limit exceeded (PS3.8 9.3.4)
        self._turned_away(f"{_name(peer)}: {self._link.most_associations} associations are open already")
        peer.kill()

    def _rejected(self, event: evt.Event) -> None:
        self._turned_away(f"{_name(event.assoc)}: {self._why_not(event.assoc)}")

    def _why_not(self, peer: Association) -> str:
        asked: Any = peer.requestor.primitive
        if asked.called_ae_title != self._link.ae_title.strip():
            return f"it calls {plain(asked.called_ae_title, 16)}, we are {self._link.ae_title}"
        if self._link.allowed and asked.calling_ae_title not in [name.strip() for name in self._link.allowed]:
            return "its AE title is not allowed"
        return ""

    def _accepted(self, event: evt.Event) -> None:
        peer = event.assoc
        refused = peer.rejected_contexts
        if peer.accepted_contexts or not refused:
            return
        syntaxes = {str(context.abstract_syntax) for context in refused}
        taken = sorted(KINDS[uid] for uid in syntaxes if uid in KINDS)
        what = plain(", ".join(sorted(UID(uid).name for uid in syntaxes)))
        why = f"{taken[0]} in a transfer syntax that is not taken (lossy?)" if taken else f"only {what}"
        self._turned_away(f"{_name(peer)}: it offers {why}")

    def _stored(self, event: evt.Event) -> Dataset:
        request: Any = event.request
        named = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
        content = event.encoded_dataset()
        with self._changed:
            answer = self._intake.take(
                content, time.monotonic_ns(), link=id(event.assoc), named=named, sender=_name(event.assoc)
            )
            self._changed.notify_all()
        return _reply(answer)

    def _closed(self, event: evt.Event, broken: bool) -> None:
        with self._changed:
            self._intake.link_closed(id(event.assoc), time.monotonic_ns(), broken=broken)
            self._changed.notify_all()


def _reply(answer: Answer) -> Dataset:
    reply = Dataset()
    reply.Status = int(answer.status)
    if answer.words:
        reply.ErrorComment = answer.words[:64]
    return reply


def _name(peer: Association) -> str:
    """A peer for people: what it calls itself and where it is."""
    asked: Any = peer.requestor.primitive
    title = plain(asked.calling_ae_title, 16) if asked is not None else "somebody"
    return f"{title} at {peer.requestor.address}"


class _Entity(AE):
    """Ours, on connections with limits."""

    def make_server(self, *args: Any, **options: Any) -> Any:
        return super().make_server(*args, **{**options, "server_class": BoundedServer})


def _entity(link: Link) -> AE:
    entity = _Entity(ae_title=link.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(link.allowed)
    entity.maximum_associations = 1 << 16  # pynetdicom counts silent connections, too: counted in _requested
    entity.maximum_pdu_size = PDU_BYTES
    entity.network_timeout = entity.dimse_timeout = link.idle_s
    entity.acse_timeout = min(SPEAK_WITHIN_S, link.idle_s)
    for kind_uid in KINDS:
        entity.add_supported_context(kind_uid, list(LOSSLESS))
    entity.add_supported_context(Verification)
    return entity
