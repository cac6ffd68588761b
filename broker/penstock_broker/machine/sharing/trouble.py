"""What went wrong with records so far: the side table of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

_T = TypeVar("_T")
_FIRST: Final = itemgetter(0)
_SECOND: Final = itemgetter(1)

FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
REJECTED: Final = "rejected"

ATTEMPTS_MAX: Final = 20
"""Attempts told of one record; of more, the last ones."""
HISTORY_BYTES_MAX: Final = 64 << 20
"""Attempts of all records of a group; beyond it the oldest troubles lose theirs."""
ATTEMPT_BYTES: Final = 200
"""What an attempt is taken to weigh beside its texts."""


class Attempt(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A delivery that did not end well."""

    member: str
    host: str
    kind: str
    """`failed`, `timed_out` or `rejected`."""
    reason: str
    error: str
    granted_us: int
    ended_us: int

    @property
    def weight(self) -> int:
        """Bytes that it is taken for."""
        return ATTEMPT_BYTES + len(self.reason) + len(self.error)


class Trouble(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A record whose way is not straight: counters never go down while it is not DONE.

    Records to which the same has happened share one object, so that a million of them cost little.
    """

    delivered: int = 0
    """Deliveries that have ended otherwise than by a release; one under way is not in it."""
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0
    spared: int = 0
    """Attempts before the last redrive: the retry policy does not count them again."""
    doom: str = ""
    """Why it is MOVING or HELD (again); empty: it is not given up."""
    forgotten: int = 0
    """Attempts that `attempts` lost to limits."""
    attempts: tuple[Attempt, ...] = ()
    """Oldest first."""

    @property
    def weight(self) -> int:
        """Bytes that its attempts are taken for."""
        return weight_of(self.attempts)


NO_TROUBLE: Final = Trouble()

TroubleRow = tuple[int, int, Trouble]
"""First offset and count of records that follow one another, and what all of them went through."""


def alike(judge: Callable[[Trouble], _T]) -> Callable[[Trouble], _T]:
    """A judge who is asked once for all records that share a trouble."""
    known: dict[int, tuple[Trouble, _T]] = {}

    def ask(trouble: Trouble) -> _T:
        found = known.get(id(trouble))
        if found is None:
            # The object is kept: nothing else can get its id meanwhile.
            found = known[id(trouble)] = trouble, judge(trouble)
        return found[1]

    return ask


def weight_of(attempts: Sequence[Attempt]) -> int:
    """Bytes that attempts are taken for."""
    return sum(attempt.weight for attempt in attempts)


class Troubles(dict[int, Trouble]):
    """By offset, the oldest trouble first; then those whose attempts had to be forgotten.

    What it remembers of attempts is bounded.

    Attributes:
        history_bytes: what all attempts weigh, those that are shared once for each record.
    """

    def __init__(self, rows: Iterable[TroubleRow] = ()) -> None:
        super().__init__()
        self.history_bytes = 0
        for first, count, trouble in rows:
            self.update(dict.fromkeys(range(first, first + count), trouble))
            self.history_bytes += count * trouble.weight

    def rows(self) -> list[TroubleRow]:
        """The snapshot's form: equal for equal troubles, whoever shares them."""
        rows: list[TroubleRow] = []
        first, count, last = 0, 0, NO_TROUBLE
        for offset, trouble in self.items():
            if offset == first + count and (trouble is last or trouble == last):
                count += 1
                continue
            if count:
                rows.append((first, count, last))
            first, count, last = offset, 1, trouble
        if count:
            rows.append((first, count, last))
        return rows

    def judge(
        self, first: int, end: int, judge: Callable[[Trouble], tuple[Trouble, _T]]
    ) -> list[_T]:
        """Give each record of [first, end) the trouble that follows from the one it has.

        `judge` is asked once for records that share one, and tells something besides.
        """
        if end == first + 1:
            self[first], told = judge(self.get(first, NO_TROUBLE))
            return [told]
        offsets = range(first, end)
        if self.keys().isdisjoint(offsets):
            trouble, told = judge(NO_TROUBLE)
            self.update(dict.fromkeys(offsets, trouble))
            return [told] * len(offsets)
        ask, known = alike(judge), self.get
        said = [ask(known(offset, NO_TROUBLE)) for offset in offsets]
        self.update(zip(offsets, map(_FIRST, said), strict=True))
        return list(map(_SECOND, said))

    def doom(self, first: int, end: int, cause: str) -> None:
        """The records of [first, end) are given up."""
        self.judge(first, end, lambda trouble: (replace(trouble, doom=cause), None))

    def weigh(self, bytes_: int) -> None:
        """So many bytes of attempts came in."""
        self.history_bytes += bytes_
        if self.history_bytes > HISTORY_BYTES_MAX:
            self._shrink()

    def forget(self, first: int, end: int) -> None:
        """The records of [first, end) are DONE."""
        if not self:
            return
        offsets: Iterable[int] = range(first, end)
        if end - first > 4 * len(self):
            offsets = [offset for offset in self if first <= offset < end]
        for offset in offsets:
            trouble = self.pop(offset, None)
            if trouble is not None and trouble.attempts:
                self.history_bytes -= trouble.weight

    def _shrink(self) -> None:
        """The oldest troubles lose their attempts, until an eighth of the room is free again.

        They go behind all others: the next time they need not be looked at first.
        """
        lighten, moved = alike(_without_attempts), []
        for offset, trouble in self.items():
            if self.history_bytes <= HISTORY_BYTES_MAX * 7 // 8:
                break
            self.history_bytes -= trouble.weight
            moved.append(offset)
        for offset in moved:
            self[offset] = lighten(self.pop(offset))


def _without_attempts(trouble: Trouble) -> Trouble:
    if not trouble.attempts:
        return trouble
    forgotten = trouble.forgotten + len(trouble.attempts)
    return replace(trouble, forgotten=forgotten, attempts=())
