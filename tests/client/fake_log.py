"""What the fake brokers store."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.protocol.batch import parse_header
from penstock.protocol.records import RecordBatch, encode_gap
from penstock_broker.machine.producers import Producers


@dataclass
class Partition:
    """One partition's log."""

    group: int
    leader: int
    batches: list[bytearray] = field(default_factory=list)
    start: int = 0
    end: int = 0
    index: int = 0
    producers: Producers = field(default_factory=Producers)
    dedup_ids: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def empty(self, first: int) -> None:
        """Leave nothing of the batches from one on, as compaction may."""
        last = parse_header(self.batches[-1])
        base = parse_header(self.batches[first]).base_offset
        self.batches[first:] = [encode_gap(last, base, self.end)]

    def values(self) -> list[bytes | None]:
        """Every value that is stored, in order."""
        return [value for batch in self.batches for value in RecordBatch(batch).values]


@dataclass
class Topic:
    """A topic."""

    id: str
    partitions: list[Partition]
