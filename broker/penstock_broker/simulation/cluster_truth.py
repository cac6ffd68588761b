"""What clients of a cluster were told, and what must follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_broker.simulation.broker_truth import TICK, Truth

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterCounts

DELAYED = b"3000-"
"""How the values of delayed records begin: they come in the order of their times."""


class ClusterTruth(Truth):
    """Acknowledged and seen records of every partition, and who owns what in the group."""

    def __init__(self, counts: ClusterCounts) -> None:
        super().__init__(counts)
        self._sent: list[set[bytes]] = []
        self._ends: dict[int, int] = {}

    def sent(self, partition: int, values: list[bytes]) -> None:
        """A producer has sent records: from now on they may be there."""
        while len(self._sent) <= partition:
            self._sent.append(set())
        self._sent[partition].update(values)

    def _learn(self, partition: int, offset: int, value: bytes) -> None:
        super()._learn(partition, offset, value)
        assert value in self._sent[partition], f"{partition}:{offset} holds {value!r}, never sent"
        self._ends[partition] = max(self._ends.get(partition, 0), offset + 1)

    def end(self, partition: int) -> int:
        """How far the partition is known to reach."""
        return self._ends.get(partition, 0)

    def check_order(self, partition: int, records: list[tuple[int, bytes]]) -> None:
        """Records of one producer stand in the order in which it sent them."""
        latest: dict[bytes, int] = {}
        for offset, value in records:
            if value.startswith((TICK, DELAYED)):
                continue
            producer, _, rest = value.split(b".", 1)[0].split(b"-", 2)
            number = int(rest)
            before = latest.get(producer, -1)
            words = f"{partition}:{offset} is {value!r}, behind number {before}"
            assert number == before + 1, words
            latest[producer] = number

    def found_committed(self, partition: int, offset: int, end: int | None = None) -> None:
        """A new owner was told where to begin."""
        super().found_committed(partition, offset, max(self.end(partition), offset))
