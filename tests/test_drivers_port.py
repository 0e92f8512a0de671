"""The port on a pseudo-terminal and on a socket."""

from __future__ import annotations

import os
import pty
import select
import socket
import struct
import tty

import pytest

from drivers.fault import DeviceMisbehaved
from drivers.port import Port


def wait_for(port: Port, count: int) -> bytes:
    """What arrives, at most 2 s later; no clock is read."""
    data = b""
    descriptor = port.fileno()
    assert descriptor is not None
    while len(data) < count and select.select([descriptor], [], [], 2.0)[0]:
        data += port.read()
    return data


def test_pseudo_terminal_both_ways_flushed_exclusive_and_unplugged() -> None:
    board, host = pty.openpty()
    tty.setraw(host)
    path = os.ttyname(host)
    os.write(board, b"stale")
    port = Port(path)
    assert port.read() == b""
    with pytest.raises(ValueError, match="can't be opened"):
        Port(path)
    port.write(b"?\x18\x00\n")
    assert os.read(board, 10) == b"?\x18\x00\n"
    os.write(board, b"ok\r\n" * 100)
    assert wait_for(port, 400) == b"ok\r\n" * 100
    os.close(host)
    os.close(board)
    with pytest.raises(DeviceMisbehaved, match="gone"):
        port.read()
    port.close()


def test_a_full_line_keeps_the_rest_in_order() -> None:
    board, host = pty.openpty()
    tty.setraw(host)
    with Port(os.ttyname(host)) as port:
        sent = bytes(i % 251 for i in range(200_000))
        port.write(sent)
        assert port.unsent > 0
        got = b""
        while len(got) < len(sent):
            got += os.read(board, 65_536)
            port.write(b"")
        assert got == sent
        assert port.unsent == 0
    os.close(host)
    os.close(board)


def test_socket_both_ways_and_cut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = Port(f"socket://127.0.0.1:{server.getsockname()[1]}")
        board, _ = server.accept()
        board.sendall(b"x" * 5000)
        assert wait_for(port, 5000) == b"x" * 5000
        port.write(b"hello\n")
        assert board.recv(10) == b"hello\n"
        board.close()
        descriptor = port.fileno()
        assert descriptor is not None
        select.select([descriptor], [], [], 2.0)
        with pytest.raises(DeviceMisbehaved):
            port.read()
        port.close()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "none was given"),
        ("/dev/no-such-port", "no such device"),
        ("http://example", "a port is"),
        ("socket://host", "host and port"),
        ("rfc2217://:99999", "host and port"),
        ("socket://127.0.0.1:1", "can't be opened"),
    ],
)
def test_a_bad_url_is_one_clear_sentence(url: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        Port(url)
    assert "\n" not in str(caught.value)


def test_a_socket_that_was_hung_up_on_is_closed_at_once_and_only_once() -> None:
    """pyserial leaves it open when the far end has reset the connection: a leak, told at some later time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = Port(f"socket://127.0.0.1:{listener.getsockname()[1]}")
        far, _ = listener.accept()
        wire: socket.socket = vars(port._serial)["_socket"]
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye
        far.close()
        assert select.select([wire], [], [], 2.0)[0]
        with pytest.raises(DeviceMisbehaved, match="gone"):
            port.read()
        port.close()
        assert wire.fileno() == -1
        port.close()
