"""Joint assignment: the cases in which nearest-first goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.assignment import assign
from imaging.seed_match import match_seeds

ALONG = np.array([0.0, 0.0, 1.0])


def array_of(columns: int, rows: int, pitch_mm: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    places = [(x * pitch_mm, y * pitch_mm) for x in range(columns) for y in range(rows)]
    entry = np.array([(x, y, 0.0) for x, y in places])
    depth = 60.0 + 3.0 * np.sin(np.arange(len(places)))
    return entry, entry + depth[:, None] * ALONG


@pytest.mark.parametrize("shift", [(4.0, 0.0), (-3.0, 3.0), (0.0, -5.0)])
def test_a_shift_common_to_all_is_not_taken_for_other_needles(shift: tuple[float, float]) -> None:
    entry, tip = array_of(4, 3)
    moved = np.array([*shift, 0.0])
    order = np.random.default_rng(1).permutation(12)
    assert assign(entry, tip, entry[order] + moved, tip[order] + moved, ALONG) == list(order)


def test_tips_that_stand_at_the_neighbours_place_still_belong_to_their_entries() -> None:
    entry, tip = array_of(2, 1)
    crossed = tip.copy()
    crossed[0, 0], crossed[1, 0] = 3.5, 1.5  # each nearer to the other's planned tip
    assert assign(entry, tip, entry, crossed, ALONG) == [0, 1]


def test_one_too_many_and_one_too_few_are_left_alone() -> None:
    entry, tip = array_of(3, 2, pitch_mm=10.0)
    stranger = np.array([[45.0, 5.0, 0.0]])
    found_entry, found_tip = np.vstack([entry[1:], stranger]), np.vstack([tip[1:], stranger + 60 * ALONG])
    assert assign(entry, tip, found_entry, found_tip, ALONG) == [1, 2, 3, 4, 5, None]


def test_nothing_found_or_nothing_planned() -> None:
    entry, tip = array_of(2, 2)
    nothing = np.empty((0, 3))
    assert assign(entry, tip, nothing, nothing, ALONG) == []
    assert assign(nothing, nothing, entry, tip, ALONG) == [None] * 4


def test_seeds_of_a_chain_pushed_along_it_keep_their_order() -> None:
    planned = np.arange(6)[:, None] * np.array([[5.0, 0.0, 0.0]])
    assert match_seeds(planned + np.array((3.0, 0.3, 0.0)), planned) == [0, 1, 2, 3, 4, 5]


def test_a_seed_beyond_the_gate_is_no_planned_one() -> None:
    planned = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    assert match_seeds(np.array([[0.5, 0.0, 0.0], [5.0, 12.0, 0.0]]), planned) == [0, None]
    assert match_seeds(planned, None) == [None, None]
