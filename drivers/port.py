"""A serial port, opened by URL: the only place where pyserial is used.

Knows: device paths, ``socket://host:port``, ``rfc2217://host:port``; exclusive, non-blocking, stale bytes
flushed. Does not know: what the bytes mean.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import serial
from serial.tools import list_ports

from drivers.fault import DeviceMisbehaved

BAUD = 115_200
LONGEST_READ = 4096
_SCHEMES = ("socket", "rfc2217")


class Port:
    """One end of a cable.

    Args:
        url: device path, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits per second of a serial line; says nothing on a socket.

    Raises:
        ValueError: the URL can't be opened; one sentence says why and what to do.
    """

    def __init__(self, url: str, baud: int = BAUD) -> None:
        _check(url)
        self.url = url
        self._unsent = bytearray()
        try:
            # No write_timeout: a short one raises under load and would kill whoever writes the stop byte.
            if "://" in url:
                self._serial = serial.serial_for_url(url, baudrate=baud, timeout=0)
            else:
                self._serial = serial.serial_for_url(url, baudrate=baud, timeout=0, exclusive=True)
            self._flush()
        except (serial.SerialException, OSError, ValueError) as problem:
            raise ValueError(f"{url}: the port can't be opened ({_reason(problem)}).") from problem

    def fileno(self) -> int | None:
        """The descriptor to wait on, or None where there is none (rfc2217)."""
        try:
            return int(self._serial.fileno())
        except (AttributeError, OSError, ValueError):  # rfc2217 has none, a closed one no longer
            return None

    def read(self) -> bytes:
        """What has come, at once; may be empty. DeviceMisbehaved when the device is gone."""
        try:
            data = bytes(self._serial.read(LONGEST_READ))
            if self.url.startswith("rfc2217:"):  # gives one byte a call when it may not wait
                while len(data) < LONGEST_READ and (more := self._serial.read(1)):
                    data += more
        except (serial.SerialException, OSError, TypeError) as problem:
            raise DeviceMisbehaved(self.url, b"", f"the port is gone ({_reason(problem)})") from problem
        return data

    def write(self, data: bytes) -> None:
        """Send without waiting; what the system doesn't take now goes with the next call, in order.

        DeviceMisbehaved when the device is gone.
        """
        self._unsent += data
        descriptor = self.fileno()
        try:
            if descriptor is None:
                self._serial.write(bytes(self._unsent))
                self._unsent.clear()
            elif self._unsent:
                del self._unsent[: os.write(descriptor, self._unsent)]
        except BlockingIOError:
            return
        except (serial.SerialException, OSError) as problem:
            raise DeviceMisbehaved(self.url, data, f"the port is gone ({_reason(problem)})") from problem

    @property
    def unsent(self) -> int:
        """Bytes the system hasn't taken yet."""
        return len(self._unsent)

    def drop_unsent(self) -> None:
        """Forget what hasn't left: a stop byte must not queue behind it."""
        self._unsent.clear()

    def close(self) -> None:
        """Give the port up. Other links wait meanwhile, so a socket is closed here: pyserial sleeps 0.3 s over it,
        and leaves it open when the far end has gone before.
        """
        wire = getattr(self._serial, "_socket", None)
        if self.url.startswith("socket:"):
            self._serial.is_open = False
        self._serial.close()
        if wire is not None:
            wire.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        self._serial.reset_input_buffer()
        for _ in range(16):  # what a socket holds already
            if not self._serial.read(LONGEST_READ):
                break


def ports_present() -> list[str]:
    """Device paths of this machine's serial ports, in order; Bluetooth's are left alone."""
    paths = [str(port.device) for port in list_ports.comports()]
    return sorted(path for path in paths if "rfcomm" not in path.lower() and "bluetooth" not in path.lower())


def _check(url: str) -> None:
    scheme, separator, _ = url.partition("://")
    if not separator:
        if not url:
            raise ValueError(
                "A port is a device path, socket://host:port or rfc2217://host:port; none was given."
            )
        if not os.path.exists(url):
            raise ValueError(f"{url}: no such device; is it plugged in?")
        return
    if scheme not in _SCHEMES:
        raise ValueError(f"{url}: a port is a device path, socket://host:port or rfc2217://host:port.")
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port is not None
    except ValueError:
        complete = False
    if not complete:
        raise ValueError(f"{url}: host and port number are needed, as in {scheme}://192.168.0.7:4001.")


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return " ".join(str(problem).split())
