"""The rules, partition by partition."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ops.history.form import Operation
from ops.history.groups import check_commits, check_leases
from ops.history.partition import check_partition

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
    """Hold a history against the rules."""
    verdict = Verdict()
    places: dict[tuple[str, int], list[Operation]] = defaultdict(list)
    for operation in operations:
        verdict.operations[f"{operation.op} {operation.outcome}"] += 1
        places[operation.topic, operation.partition].append(operation)
        if operation.op == "publish" and operation.outcome == "ok":
            verdict.records += len(operation.more["digests"])
    verdict.partitions = len(places)
    for place, found in sorted(places.items()):
        found.sort(key=lambda operation: (operation.start, operation.line))
        where = f"{place[0]}:{place[1]}"

        def broken(kind: str, words: str, where: str = where) -> None:
            verdict.broken(kind, f"{where}: {words}")

        final = check_partition(found, broken)
        groups: dict[str, list[Operation]] = defaultdict(list)
        for operation in found:
            if "group" in operation.more:
                groups[operation.more["group"]].append(operation)
        for name, asked in groups.items():
            check_commits(name, asked, broken)
            check_leases(name, asked, final, broken)
    return verdict
