"""A TOML table into a frozen dataclass, every mistake refused with the file's and the key's name.

People edit these files, and a misspelt key must not silently fall back to a default. A figure's range stands beside
its type: ``Annotated[float, Between(0.0, 50.0)]``; further annotations are the caller's.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from planning.refusal import AskedWrongly

T = TypeVar("T")


@dataclass(frozen=True)
class Between:
    """The range a figure of the file must lie in."""

    low: float
    high: float


def build(kind: type[T], table: Any, file: str, what: str, where: str = "") -> T:
    """An instance of the dataclass ``kind`` from a TOML table.

    Args:
        file, what: for refusals: the file, and what it is ("the site protocol").
        where: the table's dotted name; "" is the whole file.

    Raises:
        AskedWrongly: a key that is missing, unknown, of the wrong type or out of range; the sentence names it.
    """
    if not isinstance(table, dict):
        raise AskedWrongly(f"{file}: '{where}' must be a table.")
    hints = typing.get_type_hints(kind, include_extras=True)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in table:
        if key not in known:
            raise AskedWrongly(f"{file}: unknown key '{prefix}{key}' in {what}.")
    values: dict[str, Any] = {}
    for key, item in known.items():
        if key in table:
            values[key] = _value(hints[key], table[key], file, what, f"{prefix}{key}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise AskedWrongly(f"{file}: key '{prefix}{key}' is missing in {what}.")
    return kind(**values)


def _value(hint: Any, value: Any, file: str, what: str, where: str) -> Any:
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return build(hint, value, file, what, where)
    if typing.get_origin(hint) is Annotated:
        plain, *others = typing.get_args(hint)
        read = _value(plain, value, file, what, where)
        for allowed in others:
            if isinstance(allowed, Between) and not (
                math.isfinite(read) and allowed.low <= read <= allowed.high
            ):
                raise AskedWrongly(
                    f"{file}: '{where}' = {read:g} is outside {allowed.low:g} .. {allowed.high:g}."
                )
        return read
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise AskedWrongly(f"{file}: '{where}' must be a list.")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, entry, file, what, f"{where}[{n}]") for n, entry in enumerate(value))
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            choices = ", ".join(f"'{choice}'" for choice in typing.get_args(hint))
            raise AskedWrongly(f"{file}: '{where}' must be one of {choices}, not {value!r}.")
        return value
    accepted, words, convert = _SCALARS[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise AskedWrongly(f"{file}: '{where}' must be {words}, not {value!r}.")
    return convert(value)


_SCALARS: dict[Any, tuple[type | types.UnionType, str, Callable[[Any], Any]]] = {
    float: (int | float, "a number", float),
    int: (int, "a whole number", int),
    bool: (bool, "true or false", bool),
    str: (str, "a text", str),
}
