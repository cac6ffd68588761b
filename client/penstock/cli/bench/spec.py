"""What one client process of a measurement does, and what it reports; they travel as JSON. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Driver = Literal["trio", "asyncio", "sync"]
Kind = Literal[
    "publish-many", "publish", "paced", "read-batches", "read-records", "follow", "deliver"
]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one client process.

    Attributes:
        kind: `publish-many` and `publish` write as fast as they can; `paced` writes at `rate` and
            puts the time into each record; `read-batches` and `read-records` read a backlog;
            `follow` reads what is being published; `deliver` reads what `paced` writes.
        tasks: how many calls are in flight at once (threads under `sync`).
        batch: records of one `publish_many`.
        records: how many to read, or to write (0: until `seconds` are over).
        seconds: how long to measure; also the longest wait for a record.
        warmup: seconds of the same work before the measurement.
        rate: records per second of `paced`.
    """

    kind: Kind
    server: str
    topic: str
    driver: Driver = "asyncio"
    size: int = 1024
    batch: int = 1000
    tasks: int = 1
    records: int = 0
    seconds: float = 5.0
    warmup: float = 0.5
    rate: float = 1000.0
    acks: Literal["quorum", "leader", "none"] = "quorum"
    compression: Literal["zstd", "none"] = "zstd"
    seed: int = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How often and on what a `Load` is run.

    Attributes:
        spawn: directory below which a new broker keeps its data; None: the one of `--server`.
        pid: the broker's process, where it does not tell itself.
    """

    runs: int = 3
    processes: int = 1
    partitions: int = 1
    spawn: str | None = None
    pid: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one client process measured; latencies in microseconds, by bucket of `histogram`."""

    records: int
    seconds: float
    cpu_seconds: float
    latency: dict[int, int] = {}


class Report(msgspec.Struct, frozen=True):
    """One line from the client process: it is ready, done, or failed."""

    ready: bool = False
    outcome: Outcome | None = None
    error: str = ""
    hint: str = ""
