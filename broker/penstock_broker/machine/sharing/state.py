"""The states of a record in a shared group, and every transition between them.

The table is the only one: the window asserts that what it changes stands here, and the diagram in
the documentation is printed from it (`diagram`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

FREE: Final = 0
"""Can be granted. Every offset from a group's `end` on is free without being stored."""
LEASED: Final = 1
"""A member holds it under a lease."""
DONE: Final = 2
"""Settled for ever. Every offset below a group's `start` is done without being stored."""
DELAYED: Final = 3
"""Can be granted (timer groups: is moved) once its ready time has passed."""
MOVING: Final = 4
"""On its way to the dead-letter topic, or (timer groups) to its target."""
HELD: Final = 5
"""A dead letter: waits in its topic for a redrive or a purge."""

STATES: Final = 6
NAMES: Final = ("FREE", "LEASED", "DONE", "DELAYED", "MOVING", "HELD")

SHARED: Final = "shared"
HOLD: Final = "hold"
TIMER: Final = "timer"
KINDS: Final = (SHARED, HOLD, TIMER)
"""Kinds of groups: consumers share the records; dead letters wait; delayed records wait."""


class Transition(NamedTuple):
    """One row of the table: which ops (or events) take a record from one state to another."""

    source: int | None
    """None: the record enters the window."""
    target: int
    op: str
    when: str
    kinds: tuple[str, ...] = (SHARED, HOLD)


TRANSITIONS: Final = (
    Transition(
        None, FREE, "Grant, Settle", "skipped, a later record was granted or acked first", (SHARED,)
    ),
    Transition(None, HELD, "appended", "a dead letter arrived", (HOLD,)),
    Transition(None, DELAYED, "appended", "a delayed record arrived", (TIMER,)),
    Transition(FREE, LEASED, "Grant", "delivered to a member"),
    Transition(FREE, DONE, "Settle", "late ack"),
    Transition(FREE, DONE, "Overtake, Trim", "deleted by retention, counted"),
    Transition(FREE, MOVING, "Overtake", "overtaken = dead_letter", (SHARED,)),
    Transition(FREE, MOVING, "Outdate", "older than max_age", (SHARED,)),
    Transition(FREE, HELD, "Outdate", "older than max_age", (HOLD,)),
    Transition(FREE, DONE, "Outdate", "older than max_age, dead letters dropped", (SHARED,)),
    Transition(LEASED, DONE, "Settle", "ack, also a late one of another lease"),
    Transition(LEASED, FREE, "Settle", "release, uncounted"),
    Transition(LEASED, DELAYED, "Settle", "nack, to be retried"),
    Transition(LEASED, DELAYED, "Expire", "lease ran out, to be retried"),
    Transition(LEASED, MOVING, "Settle", "reject, or nack and no attempts left", (SHARED,)),
    Transition(LEASED, MOVING, "Expire", "lease ran out, no attempts left", (SHARED,)),
    Transition(LEASED, HELD, "Settle", "reject, or nack and no attempts left", (HOLD,)),
    Transition(LEASED, HELD, "Expire", "lease ran out, no attempts left", (HOLD,)),
    Transition(LEASED, DONE, "Settle", "given up, dead letters dropped", (SHARED,)),
    Transition(LEASED, DONE, "Expire", "given up, dead letters dropped", (SHARED,)),
    Transition(LEASED, DONE, "Overtake, Trim", "deleted by retention, counted"),
    Transition(LEASED, MOVING, "Overtake", "overtaken = dead_letter", (SHARED,)),
    Transition(DELAYED, LEASED, "Grant", "its time has come"),
    Transition(DELAYED, DONE, "Settle", "late ack"),
    Transition(DELAYED, DONE, "Purge", "purged, or a delayed record cancelled", KINDS),
    Transition(DELAYED, DONE, "Overtake, Trim", "deleted by retention, counted", KINDS),
    Transition(DELAYED, MOVING, "Move", "its time has come", (TIMER,)),
    Transition(DELAYED, MOVING, "Overtake", "overtaken = dead_letter", (SHARED,)),
    Transition(DELAYED, MOVING, "Outdate", "older than max_age", (SHARED,)),
    Transition(DELAYED, HELD, "Outdate", "older than max_age", (HOLD,)),
    Transition(DELAYED, DONE, "Outdate", "older than max_age, dead letters dropped", (SHARED,)),
    Transition(MOVING, DONE, "Moved", "the target has it", (SHARED, TIMER)),
    Transition(MOVING, DONE, "Drop", "dropped by policy, counted", (SHARED, TIMER)),
    Transition(MOVING, DONE, "Settle", "late ack before the move began", (SHARED,)),
    Transition(MOVING, DONE, "Trim", "deleted before it was moved, counted", (SHARED, TIMER)),
    Transition(HELD, FREE, "Redrive", "given back to its group", (HOLD,)),
    Transition(HELD, DONE, "Purge", "settled without delivery", (HOLD,)),
    Transition(HELD, DONE, "Settle", "late ack after a redrive", (HOLD,)),
    Transition(HELD, DONE, "Overtake, Trim", "deleted by retention, counted", (HOLD,)),
)

ALLOWED: Final = frozenset(
    (row.source, row.target) for row in TRANSITIONS if row.source is not None
)
"""Pairs of states that the window may go between."""
