"""A peer's connection, with limits on what it may send: bytes in one PDU, bytes in one object, time for one PDU.

pynetdicom reads a PDU of whatever length the peer announces, for as long as the peer likes; four peers that stop in
the middle of one would hold the link for ever. Here such a connection ends, and what came of the object is dropped.

Source: DICOM PS3.8 9.3.1 (a PDU's six octets of head: type, reserved, length).
"""

from __future__ import annotations

import socket
import time
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

MOST_PDU_BYTES = 1 << 20
"""We ask for PDUs of 128 KiB at most; nothing that opens or ends an association is larger (assumed)."""
MOST_OBJECT_BYTES = 1 << 29
"""An enhanced CT of 1000 slices of 512 x 512 (assumed)."""
MOST_CONNECTIONS = 64
"""Open at the same time, spoken or not; one more is closed at once (assumed)."""
_HEAD_BYTES = 6


class PeerSocket(socket.socket):
    """Ends when a limit is passed: ``recv`` raises TimeoutError or ConnectionError, which a reader takes as closed.

    Args:
        accepted: the plain socket; empty afterwards.
        pdu_s: from a PDU's first byte to its last.
    """

    def __init__(self, accepted: socket.socket, pdu_s: float) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._pdu_s = pdu_s
        self._head = bytearray()
        self._left = 0  # bytes of the PDU's body still to come
        self._until_s = 0.0
        self._received = 0  # since we last answered: no more than one object is under way

    def recv(self, count: int, flags: int = 0) -> bytes:
        """At most ``count`` bytes, never beyond the PDU."""
        try:
            return self._bounded(count, flags)
        except OSError:
            self.close()  # pynetdicom thinks that it is closed already
            raise

    def _bounded(self, count: int, flags: int) -> bytes:
        if not self._head:
            self._until_s = time.monotonic() + self._pdu_s
        self.settimeout(max(self._until_s - time.monotonic(), 0.001))
        data = super().recv(min(count, self._left or _HEAD_BYTES - len(self._head)), flags)
        self._received += len(data)
        if self._received > MOST_OBJECT_BYTES:
            raise ConnectionError("an object of too many bytes")
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            if len(self._head) < _HEAD_BYTES:
                return data
            self._left = int.from_bytes(self._head[2:], "big")
            if self._left > MOST_PDU_BYTES:
                raise ConnectionError("a PDU of too many bytes")
        if not self._left:
            self._head.clear()
        return data

    def send(self, data: Any, flags: int = 0) -> int:
        """As always; a peer that does not read what we answer has as long as for a PDU."""
        self._received = 0
        self.settimeout(self._pdu_s)
        return super().send(data, flags)


class BoundedServer(ThreadedAssociationServer):
    """Accepts :class:`PeerSocket` connections, at most :data:`MOST_CONNECTIONS`."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        accepted, address = super().get_request()
        return PeerSocket(accepted, float(self.ae.network_timeout or 30.0)), address

    def verify_request(self, *_: Any) -> bool:
        return len(self.active_associations) < MOST_CONNECTIONS
