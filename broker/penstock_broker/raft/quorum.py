"""Majorities: which index a quorum holds, and how a vote stands. Pure counting (Raft 5.2, 5.3, 6).

A joint configuration needs the majority of both halves; an absent half (no outgoing voters)
never stands in the way.
"""

from collections.abc import Mapping, Sequence
from enum import Enum


class Outcome(Enum):
    """How a vote stands."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority_value(values: Sequence[int]) -> int:
    """Return the highest number that a majority of `values` has reached."""
    if len(values) == 1:
        return values[0]
    return sorted(values)[(len(values) - 1) // 2]


def quorum_value(incoming: Sequence[int], outgoing: Sequence[int]) -> int:
    """Return the highest number reached by a majority of each half."""
    reached = majority_value(incoming)
    return min(reached, majority_value(outgoing)) if outgoing else reached


def majority_outcome(voters: Sequence[int], votes: Mapping[int, bool]) -> Outcome:
    """Count one half; whoever is not in `votes` has not answered."""
    granted = sum(votes.get(voter, False) for voter in voters)
    answered = sum(voter in votes for voter in voters)
    needed = len(voters) // 2 + 1
    if granted >= needed:
        return Outcome.WON
    return Outcome.PENDING if granted + len(voters) - answered >= needed else Outcome.LOST


def quorum_outcome(
    incoming: Sequence[int], outgoing: Sequence[int], votes: Mapping[int, bool]
) -> Outcome:
    """Count both halves: won when both are won, lost as soon as one is."""
    first = majority_outcome(incoming, votes)
    if not outgoing:
        return first
    second = majority_outcome(outgoing, votes)
    if first is second:
        return first
    return Outcome.LOST if Outcome.LOST in (first, second) else Outcome.PENDING
