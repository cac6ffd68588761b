"""The lines of a history: read strictly, written by many threads."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

HEAD: Final = {"form": "penstock-history", "version": 1}
OUTCOMES: Final = ("ok", "failed", "unknown")

Record = tuple[int, str, int, str]
"""Offset, producer, sequence, digest."""

_NUMBER = (int, float)
_FIELDS: Final[Mapping[str, Mapping[str, type]]] = {
    "publish": {"producer": str, "sequence": int, "digests": list, "offset": int},
    "read": {"offset": int, "records": list, "linearizable": bool},
    "end": {"offset": int, "linearizable": bool},
    "trim": {"offset": int},
    "final": {"offset": int, "records": list},
    "deliver": {"group": str, "offset": int, "lease": str, "attempt": int, "until": float},
    "settle": {"group": str, "offset": int, "lease": str, "verdict": str, "by": str},
    "commit": {"group": str, "offset": int},
    "position": {"group": str, "offset": int, "linearizable": bool},
    "seek": {"group": str, "offset": int},
    "drained": {"group": str},
}

_REPEATED: Final = frozenset({"producer", "group", "verdict", "by"})


class BadHistory(Exception):
    """A line that is none; the message says where."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One line: `end` is infinite if no answer came."""

    op: str
    process: str
    topic: str
    partition: int
    start: float
    end: float
    outcome: str
    more: Mapping[str, Any]
    """The fields of this kind of operation, see README.md."""
    line: int = 0

    def __str__(self) -> str:
        kept = {name: value for name, value in self.more.items() if not isinstance(value, list)}
        return f"{self.op} by {self.process} at {self.start:.6f} {kept} (line {self.line})"


def parse(text: str, line: int) -> Operation:
    """One line of a history.

    Raises:
        BadHistory: it does not have the form.
    """
    try:
        found = json.loads(text)
        op = found.pop("op")
        common = [found.pop(name) for name in ("process", "topic", "partition", "start")]
        end, outcome = found.pop("end"), found.pop("outcome")
        wanted = _FIELDS[op]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadHistory(f"line {line}: {error!r}") from error
    process, topic, partition, start = common
    good = (
        isinstance(process, str)
        and isinstance(topic, str)
        and type(partition) is int
        and isinstance(start, _NUMBER)
        and (end is None or (isinstance(end, _NUMBER) and end >= start))
        and outcome in OUTCOMES
        and (end is not None or outcome == "unknown")
        and found.keys() == wanted.keys()
        and all(_fits(found[name], kind) for name, kind in wanted.items())
    )
    if not good:
        raise BadHistory(f"line {line}: not a {op} as README.md has it: {text[:200]}")
    last = float("inf") if end is None else float(end)
    process, topic = sys.intern(process), sys.intern(topic)
    more = {name: found[name] for name in wanted}  # the names of `_FIELDS`, not one more copy each
    for name in more.keys() & _REPEATED:
        more[name] = sys.intern(more[name])
    return Operation(op, process, topic, partition, float(start), last, outcome, more, line)


def _fits(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, _NUMBER)
    if kind is list:
        return isinstance(value, list) and all(map(_is_item, value))
    return type(value) is kind


def _is_item(item: object) -> bool:
    if isinstance(item, str):
        return True
    return isinstance(item, list) and list(map(type, item)) == [int, str, int, str]


def read(lines: Iterable[str]) -> Iterator[Operation]:
    """The operations of a history.

    Raises:
        BadHistory: the head or a line does not have the form.
    """
    for operation, _ in read_texts(lines):
        yield operation


def read_texts(lines: Iterable[str]) -> Iterator[tuple[Operation, str]]:
    """The operations of a history, each with its line.

    Raises:
        BadHistory: the head or a line does not have the form.
    """
    numbered = enumerate(lines, 1)
    _, head = next(numbered, (1, "null"))
    try:
        known = json.loads(head) == HEAD
    except ValueError:
        known = False
    if not known:
        raise BadHistory(f"line 1: not the head of a history: {head[:200]}")
    for line, text in numbered:
        yield parse(text, line), text


class Writer:
    """Writes a history to a file; any thread may note operations."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self._put(HEAD)

    def note(
        self,
        op: str,
        process: str,
        place: tuple[str, int],
        times: tuple[float, float | None],
        outcome: str = "ok",
        **more: object,
    ) -> None:
        """Write one operation; `place` is topic and partition, `times` start and end."""
        assert more.keys() == _FIELDS[op].keys(), f"fields of {op}: {sorted(more)}"
        self._put(
            {
                "op": op,
                "process": process,
                "topic": place[0],
                "partition": place[1],
                "start": times[0],
                "end": times[1],
                "outcome": outcome,
                **more,
            }
        )

    def _put(self, line: Mapping[str, object]) -> None:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with self._lock:
            if not self._file.closed:
                self._file.write(text)

    def close(self) -> None:
        """Complete the file; what is noted later is not in it."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
