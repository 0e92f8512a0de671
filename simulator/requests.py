"""Requests to people and to the scanner as files in a folder: how another program asks for hands and CTs.

``NAME.request.json`` appears whole (renamed), is done, and is answered by ``NAME.answer.json``: ``{"done": true}`` or
``{"done": false, "why": sentence}``. The folder named by a CT's request appears complete before its answer.
"""

from __future__ import annotations

import json
import os
import selectors
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulator.forked import Forked

REQUEST, ANSWER = ".request.json", ".answer.json"
_LOOK_EVERY_S = 0.05


class RequestFolder:
    """Answers one request after the other, in the order of their names; old ones are left alone.

    Args:
        folder: made when missing.
        handle: does what is asked.
        seed: of chance, for the CTs.
        told: gets a line for each answer.
    """

    def __init__(
        self,
        folder: Path,
        handle: Callable[[dict[str, Any]], dict[str, Any] | Forked],
        *,
        seed: int,
        told: Callable[[str], None],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._handle, self._seed, self._told = folder, handle, seed, told
        self._seen = {path.name for path in folder.glob(f"*{REQUEST}")}
        self._under_way: tuple[str, Forked] | None = None
        self._next_look_s = 0.0

    def register(self, selector: selectors.BaseSelector) -> None: ...

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector, now_ns: int) -> bool:
        del key, selector, now_ns
        return True

    def nap_s(self) -> float:
        return _LOOK_EVERY_S

    def turn(self, selector: selectors.BaseSelector, now_ns: int) -> bool:
        del selector
        if self._under_way is not None:
            name, work = self._under_way
            answer = work.answer()
            if answer is not None:
                self._under_way = None
                self._answer(name, answer)
        elif time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + _LOOK_EVERY_S
            for path in sorted(self._folder.glob(f"*{REQUEST}")):
                if path.name not in self._seen:
                    self._seen.add(path.name)
                    self._take(path, now_ns)
                    break
        return True

    def close(self) -> None:
        if self._under_way is not None:
            self._under_way[1].close()

    def _take(self, path: Path, now_ns: int) -> None:
        name = path.name.removesuffix(REQUEST)
        try:
            request = json.loads(path.read_text(encoding="utf-8"))
            if request["do"] == "scan":
                request = self._of_a_scan(request)
            done = self._handle({**request, "now_ns": now_ns})
        except Exception as problem:  # a request that can't be understood must not stop the bench
            done = {"done": False, "why": f"{type(problem).__name__}: {problem}"}
        if isinstance(done, Forked):
            self._under_way = (name, done)
        else:
            self._answer(name, done)

    def _of_a_scan(self, request: dict[str, Any]) -> dict[str, Any]:
        if Path(request["folder"]).name != request["folder"]:
            raise ValueError("the folder of a CT is a name, not a path")
        when = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        return {
            "slice_mm": 1.25,
            "when": when,
            "seed": self._seed,
            **request,
            "folder": str(self._folder / request["folder"]),
        }

    def _answer(self, name: str, answer: dict[str, Any]) -> None:
        if "done" not in answer:
            answer = {"done": False, "why": answer.get("error", "no answer")}
        growing = self._folder / f".{name}.growing"
        growing.write_text(json.dumps(answer), encoding="utf-8")
        os.replace(growing, self._folder / f"{name}{ANSWER}")
        self._told(f"{name}: {'done' if answer['done'] else answer.get('why', 'not done')}")
