"""What one client process of `penstock bench shared` does; it travels as JSON. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from penstock.cli.bench.spec import Driver

SharedKind = Literal["acks", "batches", "rejects", "hold"]


class SharedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one member of a shared group.

    Attributes:
        kind: `acks` settles record by record, `batches` batch by batch, `rejects` makes each a
            dead letter; `hold` takes `records` and keeps them until it is ended.
        max_in_flight: records that it may have at once.
        records: how many it holds.
        seconds: how long it works.
    """

    kind: SharedKind
    server: str
    topic: str
    group: str
    driver: Driver = "trio"
    max_in_flight: int = 10_000
    records: int = 0
    seconds: float = 5.0
