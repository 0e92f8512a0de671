"""Needles in a CT of which there is no plan: guessed, looked at like planned ones, and believed on stricter terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from imaging.needle import ExpectedNeedle, FoundNeedle
from imaging.needle_search import find_needles
from imaging.straight_metal import ends_in_air, guess_needles, leaves_the_body
from imaging.twin import distinct
from imaging.unresolved import UnresolvedMetal, unresolved
from planning.frame import unit
from planning.volume import CtVolume

LEAST_SEEN = 0.5  # of a needle between skin and tip
MOST_SIGMA_MM = 3.0
GUESS_MM = 5.0  # a guessed depth further off than this is guessed again
NEEDLES_WORTH_MM = 20.0  # of unresolved metal that one needle more may leave


def unplanned_needles(
    scan: CtVolume, tell: Callable[[str, float], None] = lambda _what, _part: None
) -> tuple[list[FoundNeedle], list[UnresolvedMetal]]:
    """What looks like a needle, and metal that no needle explains; ``tell`` hears what is done, and how far it is."""
    tell("guessing needles", 0.0)
    sets, metal = guess_needles(scan)
    best: list[FoundNeedle] = []
    left, least = list[UnresolvedMetal](), np.inf
    for n, guesses in enumerate(sets or [()]):
        tell(f"fitting {len(guesses)} guessed needles", (n + 1) / 3)
        found = _standing(scan, guesses)
        lines = [(needle.entry_mm, needle.outside) for needle in found]
        rest = [part for piece in metal for part in unresolved(scan, piece, lines)]
        unsolved = sum(part.length_mm for part in rest) - NEEDLES_WORTH_MM * len(found)
        if unsolved < least:
            best, left, least = found, rest, unsolved
        if not rest:
            break
    return best, left


def _standing(scan: CtVolume, guesses: Sequence[ExpectedNeedle]) -> list[FoundNeedle]:
    if not guesses:
        return []
    found = _certain(scan, guesses)
    told = {needle.name: needle for needle in found}
    if any(
        abs(float((told[g.name].tip_mm - g.tip_mm) @ g.direction)) > GUESS_MM
        for g in guesses
        if g.name in told
    ):  # depths were guessed badly: once more with those that were seen
        again = [replace(g, tip_mm=told[g.name].tip_mm) if g.name in told else g for g in guesses]
        return _certain(scan, again)
    return found


def _certain(scan: CtVolume, guesses: Sequence[ExpectedNeedle]) -> list[FoundNeedle]:
    return [
        needle
        for needle in distinct(find_needles(scan, guesses, planned=False).found, guesses)
        if needle.seen_share >= LEAST_SEEN
        and needle.sigma_mm < MOST_SIGMA_MM
        # the chord, not the direction at the tip: a bent needle's tip points past where it entered
        and not ends_in_air(scan, needle.tip_mm, needle.direction)
        and leaves_the_body(scan, needle.tip_mm, unit(needle.tip_mm - needle.entry_mm))
    ]
