"""Runs of offsets: joined, cut, found in lists."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.node.sharing.spans import (
    flat,
    long_runs_of,
    merged,
    pairs,
    runs_of,
    total,
    without,
)

OFFSETS = st.lists(st.integers(0, 60), max_size=40)


def offsets_of(spans: list[tuple[int, int]]) -> list[int]:
    """Every offset in the spans."""
    return [offset for first, count in spans for offset in range(first, first + count)]


@given(OFFSETS)
def test_runs_hold_each_offset_once_and_are_as_long_as_can_be(offsets: list[int]) -> None:
    different = sorted(set(offsets))
    spans = runs_of(sorted(offsets))
    assert spans == long_runs_of(different) == merged((offset, 1) for offset in sorted(offsets))
    assert offsets_of(spans) == different
    assert total(spans) == len(different)
    assert pairs(flat(spans)) == spans
    assert all(before[0] + before[1] < after[0] for before, after in pairwise(spans))


@given(OFFSETS, OFFSETS)
def test_what_is_cut_out_of_runs_is_gone_and_the_rest_is_left(
    some: list[int], others: list[int]
) -> None:
    left = without(runs_of(sorted(some)), runs_of(sorted(others)))
    assert offsets_of(left) == sorted(set(some) - set(others))
