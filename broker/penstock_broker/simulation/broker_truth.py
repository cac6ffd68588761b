"""What clients were told, and what must follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_broker.simulation.broker_world import Counts


TICK = b"tick-"
"""How the values of recurring schedules begin: they repeat."""


def _ignore(value: bytes) -> None:
    """Nobody waits for a record."""


class Truth:
    """Acknowledged and seen records of every partition, and who owns what in the group."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.came: Callable[[bytes], None] = _ignore
        """Told of each record that is seen for the first time."""
        self._known: dict[tuple[int, int], bytes] = {}
        """(partition, offset) -> value that some client was told is there."""
        self._owner: dict[tuple[int, int], str] = {}
        """(partition, generation) -> member that may consume it."""
        self.committed: dict[int, int] = {}
        """Partition -> offset whose commit was acknowledged last."""

    def acked(self, partition: int, base_offset: int, values: list[bytes]) -> None:
        """A publish was acknowledged at an offset."""
        self.counts.acked_batches += 1
        for offset, value in enumerate(values, base_offset):
            self._learn(partition, offset, value)

    def seen(self, partition: int, records: list[tuple[int, bytes]]) -> None:
        """A reader got records: they were committed, so they never change or vanish."""
        for offset, value in records:
            self._learn(partition, offset, value)

    def _learn(self, partition: int, offset: int, value: bytes) -> None:
        known = self._known.get((partition, offset))
        if known is None:
            known = self._known[partition, offset] = value
            self.came(value)
        assert known == value, f"{partition}:{offset} was {known!r} and is {value!r}"

    def value_of(self, partition: int, offset: int) -> bytes | None:
        """A record's value, if anybody has learnt it."""
        return self._known.get((partition, offset))

    def check_partition(self, partition: int, records: list[tuple[int, bytes]]) -> None:
        """The whole partition as read back: dense, nothing twice, all that is known is there."""
        self.counts.records_checked += len(records)
        offsets = [offset for offset, _ in records]
        assert offsets == list(range(len(records))), f"offsets of {partition} are not dense"
        values = [value for _, value in records if not value.startswith(TICK)]
        assert len(set(values)) == len(values), f"partition {partition} holds a record twice"
        self.seen(partition, records)
        told = sum(1 for known, _ in self._known if known == partition)
        assert told == len(records), f"{told - len(records)} records of {partition} are lost"

    def owns(self, member: str, generation: int, partitions: list[int]) -> None:
        """A member was told that it may consume partitions from a generation on."""
        for partition in partitions:
            owner = self._owner.setdefault((partition, generation), member)
            assert owner == member, f"{partition} belongs to {owner} and {member} in {generation}"

    def commit(self, partition: int, offset: int) -> None:
        """A commit was acknowledged."""
        self.counts.commits += 1
        self.committed[partition] = offset

    def found_committed(self, partition: int, offset: int, end: int) -> None:
        """A new owner was told where to begin."""
        assert offset <= end, f"{partition} is committed at {offset}, its log ends at {end}"
        known = self.committed.get(partition, 0)
        assert offset >= known, f"the commit of {partition} at {known} is lost: {offset}"
