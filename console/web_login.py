"""Who may do what at the console: people with a role and a PIN, their sessions, and how often a PIN may be tried.

Pure but for the file of people: time is an argument (seconds of a clock that never goes back).
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from planning.refusal import AskedWrongly

ROLES: dict[str, frozenset[str]] = {
    "physician": frozenset({"confirm", "decide"}),
    "physicist": frozenset({"confirm", "decide"}),
    "nurse": frozenset({"confirm"}),
    "trainee": frozenset(),
}
"""What a role may do besides looking and stopping, which everybody may."""
MIN_PIN = 6
IDLE_S = 30 * 60.0
"""A session without a word from its person ends after this (assumed). The stop needs no session."""
TRIES, TRIES_S = 5, 60.0
"""Wrong PINs in a row, for one name or for all names that do not exist, before every further try waits."""
FORMAT = "seedguide-people/1"


@dataclass(frozen=True)
class Person:
    """Somebody who may log in."""

    name: str
    role: str
    pin_hash: str

    def may(self, act: str) -> bool:
        return act in ROLES[self.role]


class People:
    """The people of a site, in a file readable by its owner alone."""

    def __init__(self, people: dict[str, Person]) -> None:
        self._people = people
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex(8))

    @staticmethod
    def load(path: Path) -> People:
        """Read the file.

        Raises:
            AskedWrongly: missing, or not such a file.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["format"] != FORMAT:
                raise ValueError(f"format {body['format']}")
            people = [Person(str(p["name"]), str(p["role"]), str(p["pin_hash"])) for p in body["people"]]
            unknown = [p.role for p in people if p.role not in ROLES]
            if unknown:
                raise ValueError(f"role {unknown[0]}")
        except FileNotFoundError:
            raise AskedWrongly(
                f"{path}: no such file; make it with 'seedguide console-user NAME --role ROLE --users {path}'."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise AskedWrongly(f"{path}: not a file of the console's people ({problem}).") from problem
        return People({person.name: person for person in people})

    def with_person(self, name: str, role: str, pin: str) -> People:
        """Also (or instead of the one of that name) this person.

        Raises:
            AskedWrongly: no name, unknown role, or a PIN that is too easy to try.
        """
        if not name.strip() or len(name) > 60:
            raise AskedWrongly("a person needs a name of 1 to 60 characters.")
        if role not in ROLES:
            raise AskedWrongly(f"role '{role}' is not known; choose one of {', '.join(ROLES)}.")
        if len(pin) < MIN_PIN or len(set(pin)) < 3:
            raise AskedWrongly(f"a PIN needs at least {MIN_PIN} characters, three of them different.")
        return People({**self._people, name: Person(name, role, self._hasher.hash(pin))})

    def save(self, path: Path) -> None:
        """Whole or not at all; readable by its owner alone."""
        body = {"format": FORMAT, "people": [vars(person) for person in self._people.values()]}
        growing = path.with_name(f".{path.name}.growing")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(body, file, indent=1)
            os.replace(growing, path)
        except OSError as problem:
            raise AskedWrongly(f"{path}: can't be written ({problem.strerror}).") from problem

    def names(self) -> tuple[str, ...]:
        return tuple(self._people)

    def checked(self, name: str, pin: str) -> Person | None:
        """The person, when the PIN is theirs. An unknown name takes as long as a wrong PIN."""
        person = self._people.get(name)
        try:
            self._hasher.verify(self._nobody if person is None else person.pin_hash, pin)
        except (VerificationError, InvalidHashError):
            return None
        return person


class Logins:
    """Sessions by secret token, and the patience with wrong PINs."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._sessions: dict[str, tuple[Person, float]] = {}
        self._wrong: dict[str, list[float]] = {}

    def enter(self, name: str, pin: str, now_s: float) -> tuple[str, Person]:
        """A new session's token.

        Raises:
            AskedWrongly: wrong name or PIN (which of the two is not told), or too many tries.
        """
        # All unknown names share one count: trying many names is no way around it.
        key = name if name in self._people.names() else ""
        wrong = [at for at in self._wrong.get(key, []) if now_s - at < TRIES_S]
        self._wrong[key] = wrong
        if len(wrong) >= TRIES:
            wait_s = TRIES_S - (now_s - wrong[0])
            raise AskedWrongly(f"too many wrong PINs; try again in {wait_s:.0f} s.")
        person = self._people.checked(name, pin)
        if person is None:
            wrong.append(now_s)
            raise AskedWrongly("name or PIN is wrong.")
        self._wrong.pop(key, None)
        token = secrets.token_urlsafe(32)
        self._sessions[token] = (person, now_s)
        return token, person

    def person(self, token: str | None, now_s: float, *, is_active: bool) -> Person | None:
        """Whose session it is; ``is_active``: the person did something, so the idle time begins anew."""
        if token is None or token not in self._sessions:
            return None
        person, last_s = self._sessions[token]
        if now_s - last_s > IDLE_S:
            del self._sessions[token]
            return None
        if is_active:
            self._sessions[token] = (person, now_s)
        return person

    def leave(self, token: str | None) -> None:
        if token is not None:
            self._sessions.pop(token, None)


@dataclass
class _First:
    question: tuple[int, str]
    name: str
    may_decide: bool


class TwoPersons:
    """Confirmations that need two: the first word is kept, a second person's completes it."""

    def __init__(self) -> None:
        self._first: _First | None = None

    def first_by(self, question: tuple[int, str] | None) -> str | None:
        """Who has confirmed that question (number and text) already, and waits for somebody else."""
        return self._first.name if self._first is not None and self._first.question == question else None

    def asked_now(self, question: tuple[int, str] | None) -> None:
        """Another question than before, or none: a first word for the old one does not count any more."""
        if self._first is not None and self._first.question != question:
            self._first = None

    def word(
        self, question: tuple[int, str], person: Person, needs_decider: bool = False
    ) -> tuple[str | None, str]:
        """One person confirms; whose names complete the confirmation (None: not yet), and what to tell them.

        Args:
            needs_decider: one of the two must be a person who may decide.
        """
        first = self._first
        if first is None or first.question != question:
            self._first = _First(question, person.name, person.may("decide"))
            return None, "A second person must confirm too."
        if first.name == person.name:
            return None, "The second confirmation must be another person's."
        if needs_decider and not (first.may_decide or person.may("decide")):
            return None, "One of the two must be a physician or physicist."
        self._first = None
        return f"{first.name} and {person.name}", ""


def person_words(person: Person | None) -> dict[str, Any] | None:
    """For the page; never the hash."""
    if person is None:
        return None
    return {
        "name": person.name,
        "role": person.role,
        "may_confirm": person.may("confirm"),
        "may_decide": person.may("decide"),
    }
