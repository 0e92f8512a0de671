"""Lines that a person types, for whoever asks last: a question that nobody waits for any more takes no answer away.

One thread reads; a newer question, or ``drop``, ends an older one with EOFError. At a terminal a line that was typed
before a question was shown does not answer it: a key pressed twice must not confirm what nobody has read.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable

_AHEAD = 64


class Keyboard:
    """Asks at the terminal.

    Args:
        lines: what is typed; None: standard input.
        show: shows a question.
        forgets: what was typed before a question is no answer to it; None: at a terminal.
    """

    def __init__(
        self,
        lines: Iterable[str] | None = None,
        show: Callable[[str], None] = lambda text: print(text, end="", flush=True),
        forgets: bool | None = None,
    ) -> None:
        self._lines, self._show = lines, show
        self._forgets = (lines is None and sys.stdin.isatty()) if forgets is None else forgets
        self._typed: deque[str] = deque()
        self._changed = threading.Condition()
        self._question = 0
        self._is_read = self._is_over = False

    def ask(self, question: str) -> str:
        """The next line typed. EOFError: nobody is there, or another question came meanwhile."""
        with self._changed:
            self._question += 1
            mine = self._question
            if self._forgets:
                self._typed.clear()
            self._changed.notify_all()
            if not self._is_read:
                self._is_read = True
                threading.Thread(target=self._read, daemon=True, name="keyboard").start()
            self._show(question)
            while self._question == mine and not self._typed and not self._is_over:
                self._changed.wait(0.2)
            if self._question != mine or not self._typed:
                raise EOFError
            self._changed.notify_all()
            return self._typed.popleft()

    def drop(self) -> None:
        """End the present question, if there is one."""
        with self._changed:
            self._question += 1
            self._changed.notify_all()

    def _read(self) -> None:
        for line in sys.stdin if self._lines is None else self._lines:
            with self._changed:
                while len(self._typed) >= _AHEAD:  # a pipe that never ends
                    self._changed.wait()
                self._typed.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
