"""Histories that are larger than memory: one place at a time, by way of files.

Lines are sorted into files of what is judged together: the log of a partition, the positions of one
group in it, and of its shared records some thousand offsets at a time. So the largest partition's
log is what memory must hold, at some 2.5 KB a record, whatever else is in the history.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol, TextIO

from ops.history.form import Operation, parse

OFFSETS: Final = 50_000
"""Of a shared group's records, judged together."""
OPEN_MAX: Final = 64
"""Files that are open at a time."""

Place = tuple[str, int]
Key = tuple[Place, str, str, int]
"""Topic and partition; `log`, `positions` or `leases`; the group; which of many."""


def key_of(operation: Operation) -> Key:
    """With what an operation is judged."""
    place, more = (operation.topic, operation.partition), operation.more
    if operation.op in ("deliver", "settle"):
        return place, "leases", more["group"], more["offset"] // OFFSETS
    if "group" in more:
        return place, "positions", more["group"], 0
    return place, "log", "", 0


class Kept(Protocol):
    """Operations by key."""

    def keys(self) -> list[Key]:
        """What there is, sorted: the log of each place before its groups."""

    def take(self, key: Key) -> Iterable[Operation]:
        """The operations of one key."""


def _in_order(keys: Iterable[Key]) -> list[Key]:
    order = {"log": 0, "positions": 1, "leases": 2}
    return sorted(keys, key=lambda key: (key[0], order[key[1]], *key[2:]))


class Memory:
    """All of it in memory."""

    def __init__(self) -> None:
        self._kept: dict[Key, list[Operation]] = {}

    def put(self, operation: Operation, text: str) -> None:
        """Keep an operation; the text of its line is not needed."""
        self._kept.setdefault(key_of(operation), []).append(operation)

    def keys(self) -> list[Key]:
        """See `Kept`."""
        return _in_order(self._kept)

    def take(self, key: Key) -> list[Operation]:
        """See `Kept`."""
        return self._kept[key]


class Spool:
    """The files, in a folder that must be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[Key, int] = {}
        self._open: OrderedDict[Key, TextIO] = OrderedDict()

    def put(self, operation: Operation, text: str) -> None:
        """Keep a line."""
        key = key_of(operation)
        file = self._open.get(key)
        if file is None:
            number = self._numbers.setdefault(key, len(self._numbers))
            file = self._open[key] = (self._folder / str(number)).open("a", encoding="utf-8")
            if len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        file.write(f"{operation.line} {text}")

    def keys(self) -> list[Key]:
        """See `Kept`."""
        return _in_order(self._numbers)

    def take(self, key: Key) -> Iterator[Operation]:
        """See `Kept`."""
        for file in self._open.values():
            file.flush()
        path = self._folder / str(self._numbers[key])
        with path.open(encoding="utf-8") as lines:
            yield from _numbered(lines)

    def close(self) -> None:
        """Close the files; the folder's owner removes them."""
        while self._open:
            self._open.popitem()[1].close()


def _numbered(lines: Iterable[str]) -> Iterator[Operation]:
    for line in lines:
        number, _, text = line.partition(" ")
        yield parse(text, int(number))
