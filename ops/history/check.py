"""The rules, partition by partition."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from ops.history.form import Operation, read_texts
from ops.history.groups import check_commits, check_leases
from ops.history.partition import check_partition
from ops.history.spool import OFFSETS, Kept, Key, Memory, Place, Spool

SHOWN_MAX: Final = 20
"""Violations of one kind that are told in words."""


@dataclass
class Verdict:
    """What was found."""

    operations: Counter[str] = field(default_factory=Counter)
    """Operations by kind and outcome."""
    violations: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    partitions: int = 0
    records: int = 0
    """Records of publishes that were acknowledged."""

    def count(self, operation: Operation) -> None:
        """Count an operation."""
        self.operations[f"{operation.op} {operation.outcome}"] += 1
        if operation.op == "publish" and operation.outcome == "ok":
            self.records += len(operation.more["digests"])

    def broken(self, kind: str, words: str) -> None:
        """Note a violation."""
        self.violations[kind] += 1
        if self.violations[kind] <= SHOWN_MAX:
            self.words.append(f"{kind}: {words}")

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations


def check(operations: Iterable[Operation]) -> Verdict:
    """Hold a history against the rules, in memory."""
    verdict, kept = Verdict(), Memory()
    for operation in operations:
        verdict.count(operation)
        kept.put(operation, "")
    judge(kept, verdict)
    return verdict


def take(lines: Iterable[str], verdict: Verdict, kept: Memory | Spool) -> None:
    """Take in the lines of a history; `judge` ends it.

    Raises:
        BadHistory: they do not have the form.
    """
    for operation, text in read_texts(lines):
        verdict.count(operation)
        kept.put(operation, text)


def judge(kept: Kept, verdict: Verdict) -> None:
    """Hold what was kept against the rules, place by place."""
    places = groupby(kept.keys(), key=lambda key: key[0])
    for place, keys in places:
        verdict.partitions += 1
        _judge_place(place, list(keys), kept, verdict)


def _judge_place(place: Place, keys: list[Key], kept: Kept, verdict: Verdict) -> None:
    where = f"{place[0]}:{place[1]}"

    def broken(kind: str, words: str) -> None:
        verdict.broken(kind, f"{where}: {words}")

    final: set[int] | None = None
    leases: dict[str, set[int]] = defaultdict(set)
    drained: set[str] = set()
    for key in keys:
        _, kind, group, part = key
        if kind == "log":
            final = check_partition(_sorted(kept, key), broken)
        elif kind == "positions":
            asked = _sorted(kept, key)
            check_commits(group, asked, broken)
            if any(operation.op == "drained" for operation in asked):
                drained.add(group)
        else:
            leases[group].add(part)
    parts: dict[int, set[int]] = defaultdict(set)
    for offset in final or ():
        parts[offset // OFFSETS].add(offset)
    for group in sorted(drained | leases.keys()):
        due = parts if group in drained and final is not None else {}
        for part in sorted(leases[group] | due.keys()):
            found = _sorted(kept, (place, "leases", group, part)) if part in leases[group] else []
            check_leases(group, found, due.get(part, set()), broken)


def _sorted(kept: Kept, key: Key) -> list[Operation]:
    return sorted(kept.take(key), key=lambda operation: (operation.start, operation.line))
