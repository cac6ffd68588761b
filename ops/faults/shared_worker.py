"""A member of a shared group in a process of its own, to be killed, paused and doubled.

`python -m ops.faults.shared_worker ADDRESS TOPIC GROUP JOURNAL [options]` works on records as their
values say (see `fate_of`) and writes down, before anything else happens, what it was granted, what
it said, and what was confirmed: one JSON object a line, times in microseconds since 1970. The lines
outlive the process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from penstock import sync
from penstock._core.sharing import share as shares
from penstock._core.sharing.share import Share
from penstock._drivers.blocking_sharing import SharedRecord
from penstock.protocol.leases import Acquired, Settled, Verdict

FINE, FLAKY, POISON, REFUSED, HANGS, GIVEN_BACK = (
    "fine", "flaky", "poison", "refused", "hangs", "given back",
)  # fmt: skip
RETRY_SECONDS: Final = 0.3


def fate_of(value: bytes) -> str:
    """What happens to a record, by a number made of its value; one that was redriven is fine."""
    for word in (POISON, REFUSED, HANGS):
        if value.startswith(word.encode()):
            return word
    if value.startswith((b"fine", b"tick")):
        return FINE
    number = zlib.crc32(value) % 100
    return {0: POISON, 1: REFUSED, 2: FLAKY, 3: FLAKY, 4: GIVEN_BACK}.get(number, FINE)


class Journal:
    """Lines of a file, each written by one call."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, **fields: object) -> None:
        """Add a line."""
        line = {"kind": kind, "t": time.time_ns() // 1000, "pid": os.getpid(), **fields}
        os.write(self._file, json.dumps(line).encode() + b"\n")


def watch(journal: Journal) -> None:
    """Have everything written down that a client is told about leases, and says about records."""
    taken, confirmed = Share._take, Share._confirmed
    attach: Any = vars(shares)["AttachGroup"]
    settle: Callable[..., bytes] = vars(shares)["settle_request"]

    def take(share: Share, acquired: Acquired, asked: int) -> None:
        if acquired.spans:
            granted_us = acquired.deadline_us - acquired.lease_ms * 1000
            journal.write(
                "granted", gid=share._group_id, topic=share.topic, partition=share.partition,
                member=share.member, lease=acquired.lease, granted_us=granted_us,
                deadline_us=acquired.deadline_us, spans=[list(span) for span in acquired.spans],
            )  # fmt: skip
        taken(share, acquired, asked)

    def say(correlation: int, gid: int, handle: int, verdicts: Sequence[Verdict]) -> bytes:
        said = [[v.lease, v.first, v.count, v.verdict, v.ready_at_us] for v in verdicts]
        journal.write("said", gid=gid, verdicts=said)
        return settle(correlation, gid, handle, verdicts)

    def confirm(share: Share, settled: Settled) -> None:
        runs = share.ledger.sent
        said = [
            [r.grant.lease, r.first, r.end - r.first, r.verdict, r.ready_at_us] for r in runs
        ]  # fmt: skip
        journal.write(
            "confirmed", gid=share._group_id, verdicts=said, accepted=settled.accepted,
            late=settled.late, duplicates=settled.duplicates, lost=settled.lost,
        )  # fmt: skip
        confirmed(share, settled)

    def attaching(**fields: Any) -> object:  # noqa: ANN401 - the fields of a message
        request = attach(**fields)
        journal.write(
            "attach", topic=request.topic, partition=request.partition, member=request.member,
            held=request.leases,
        )  # fmt: skip
        return request

    setattr(Share, "_take", take)  # noqa: B010 - a method for another
    setattr(Share, "_confirmed", confirm)  # noqa: B010 - as above
    setattr(shares, "settle_request", say)  # noqa: B010 - as above
    setattr(shares, "AttachGroup", attaching)  # noqa: B010 - as above


class Worker:
    """Takes records one by one."""

    def __init__(self, options: argparse.Namespace, journal: Journal) -> None:
        self._options = options
        self._journal = journal
        self._chance = random.Random(options.seed)

    def work(self, record: SharedRecord) -> None:
        """Do with a record what its value says."""
        value = bytes(record.value or b"")
        self._journal.write(
            "began", topic=record.topic, partition=record.partition, offset=record.offset,
            value=value[:40].decode(errors="replace"), failed=record.failed,
            timed_out=record.timed_out, lease=record._grant.lease,
        )  # fmt: skip
        fate = fate_of(value) if record.origin is None else FINE
        if self._options.stand_still:
            time.sleep(self._options.stand_still)
        elif self._options.busy:
            time.sleep(self._chance.uniform(0, 2 * self._options.busy))
        self._settle(record, fate)
        self._journal.write(
            "ended", topic=record.topic, partition=record.partition, offset=record.offset,
            lease=record._grant.lease, lost=record.lease_lost,
        )  # fmt: skip

    def _settle(self, record: SharedRecord, fate: str) -> None:
        if fate == HANGS:
            time.sleep(self._options.hang)
            record.ack()
        elif fate == POISON:
            record.nack(reason="Poison", error="it can't be eaten")
        elif fate == REFUSED:
            record.reject("Refused")
        elif fate == FLAKY and not record.failed:
            record.nack(delay=RETRY_SECONDS, reason="Flaky")
        elif fate == GIVEN_BACK and record.delivered == 1 and self._chance.random() < 0.5:
            record.release()
        else:
            record.ack()


def main(arguments: Sequence[str] | None = None) -> int:
    """Work until the process is ended, or for so many records."""
    parser = argparse.ArgumentParser(prog="python -m ops.faults.shared_worker")
    for name in ("address", "topic", "group", "journal"):
        parser.add_argument(name)
    parser.add_argument("--member", help="a name for this member; two may have the same")
    parser.add_argument("--in-flight", type=int, default=20)
    parser.add_argument("--busy", type=float, default=0.0, help="mean seconds for a record")
    parser.add_argument("--stand-still", type=float, default=0.0, help="seconds for each record")
    parser.add_argument("--hang", type=float, default=3.0, help="seconds for one that hangs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    # What a shell starts in the background, and all its children, would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    journal = Journal(options.journal)
    watch(journal)
    worker = Worker(options, journal)
    with sync.connect(options.address, name=options.member or "worker") as client:
        records = client.subscribe(
            options.topic, group=options.group, mode="shared", max_in_flight=options.in_flight
        )
        if options.member:
            records._core.member = options.member
        with contextlib.suppress(KeyboardInterrupt), records:
            journal.write("ready", member=records.member)
            for record in records:
                worker.work(record)
        journal.write("left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
