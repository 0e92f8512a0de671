"""The device's own fault, as opposed to the caller's.

Knows: which port, which bytes, and one sentence for a person. Does not know: what to do about it.
"""

from __future__ import annotations


class DeviceMisbehaved(Exception):
    """A device or its cable did something it must not.

    Attributes:
        port: which end of which cable, as the person named it.
        raw: the bytes concerned (may be empty).
        sentence: what happened, in words.
    """

    def __init__(self, port: str, raw: bytes, sentence: str) -> None:
        super().__init__(f"{port}: {sentence}" + (f" [{raw!r}]" if raw else ""))
        self.port = port
        self.raw = raw
        self.sentence = sentence
