"""Runs of offsets: pairs of (first, count) in memory, flat lists in ops and replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Spans = list[tuple[int, int]]
"""Ascending and apart."""


def flat(spans: Spans) -> list[int]:
    """As ops and replies have them."""
    return [number for span in spans for number in span]


def pairs(numbers: Sequence[int]) -> Spans:
    """As they are kept in memory."""
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def total(spans: Spans) -> int:
    """How many records."""
    return sum(count for _, count in spans)


def runs_of(offsets: Iterable[int]) -> Spans:
    """Ascending offsets as runs; one that is there twice counts once."""
    spans: Spans = []
    first = following = -1
    for offset in offsets:
        if offset == following:
            following += 1
        elif offset > following:
            if following > first:
                spans.append((first, following - first))
            first, following = offset, offset + 1
    if following > first:
        spans.append((first, following - first))
    return spans


def long_runs_of(offsets: Sequence[int]) -> Spans:
    """As `runs_of`, of ascending offsets that differ: long runs cost little more than short ones.

    How far a run goes is found by doubling, then halving, steps.
    """
    spans: Spans = []
    at, count = 0, len(offsets)
    while at < count:
        first, step = offsets[at], 1
        while at + step < count and offsets[at + step] - first == step:
            step *= 2
        low, high = at + step // 2, min(at + step, count)
        while high - low > 1:
            middle = (low + high) // 2
            if offsets[middle] - first == middle - at:
                low = middle
            else:
                high = middle
        spans.append((first, high - at))
        at = high
    return spans


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Ascending runs, where those that touch or overlap become one."""
    found: Spans = []
    for first, count in spans:
        if found and first <= found[-1][0] + found[-1][1]:
            begin, length = found[-1]
            found[-1] = (begin, max(length, first + count - begin))
        else:
            found.append((first, count))
    return found


def without(spans: Spans, taken: Spans) -> Spans:
    """What is left of ascending runs when others, ascending too, are cut out of them."""
    left: Spans = []
    at = 0
    for first, count in spans:
        stop = first + count
        while at < len(taken) and taken[at][0] + taken[at][1] <= first:
            at += 1
        look = at
        while first < stop and look < len(taken) and taken[look][0] < stop:
            if taken[look][0] > first:
                left.append((first, taken[look][0] - first))
            first = taken[look][0] + taken[look][1]
            look += 1
        if first < stop:
            left.append((first, stop - first))
    return left
