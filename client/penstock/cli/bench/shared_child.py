"""A member of a shared group under measurement: `python -m penstock.cli.bench.shared_child`.

As `penstock.cli.bench.child`: reads a `SharedLoad`, connects, says that it is ready, waits for one
more line, works, and writes its `Outcome`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

import penstock
import penstock.sync
from penstock.cli.bench.child import say, wait_for_go
from penstock.cli.bench.shared_spec import SharedLoad
from penstock.cli.bench.spec import Outcome, Report
from penstock.cli.exits import hint_for
from penstock.errors import PenstockError

COUNT_EVERY = 64
HOLD_PORTION = 500


class Tally:
    """Records that are settled, and the time that it took from the first to the last."""

    def __init__(self) -> None:
        self.records = 0
        self._cpu = time.process_time()
        self._began = self._ended = time.perf_counter()

    def add(self, count: int) -> None:
        """Count records that are settled now."""
        self.records += count
        self._ended = time.perf_counter()

    def outcome(self) -> Outcome:
        """What was measured."""
        return Outcome(
            records=self.records,
            seconds=self._ended - self._began,
            cpu_seconds=time.process_time() - self._cpu,
        )


async def work(load: SharedLoad, finished: list[Outcome]) -> None:
    """Settle whatever comes; ends by cancellation only, when what it did is in `finished`."""
    async with (
        penstock.connect(load.server) as client,
        client.subscribe(
            load.topic, group=load.group, mode="shared", max_in_flight=load.max_in_flight
        ) as member,
    ):
        wait_for_go()
        tally = Tally()
        try:
            await settle(load, member, tally)
        finally:
            finished.append(tally.outcome())


async def settle(load: SharedLoad, member: penstock.SharedSubscription, tally: Tally) -> None:
    """Settle records, each by itself, or batch by batch."""
    if load.kind == "batches":
        async for batch in member.batches():
            batch.ack()
            tally.add(len(batch))
    seen, reject = 0, load.kind == "rejects"
    async for record in member:
        if reject:
            record.reject("a bench")
        else:
            record.ack()
        seen += 1
        if not seen % COUNT_EVERY:
            tally.add(COUNT_EVERY)


def run_trio(load: SharedLoad) -> Outcome:
    """Under trio, until the time is over."""
    import trio

    finished: list[Outcome] = []

    async def main() -> None:
        with trio.move_on_after(load.seconds):
            await work(load, finished)

    trio.run(main)
    return finished[0]


def run_asyncio(load: SharedLoad) -> Outcome:
    """Under asyncio, until the time is over."""
    import asyncio

    finished: list[Outcome] = []

    async def main() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(load.seconds):
                await work(load, finished)

    asyncio.run(main())
    return finished[0]


def run_sync(load: SharedLoad) -> Outcome:
    """With the blocking client, until the time is over."""
    with (
        penstock.sync.connect(load.server) as client,
        client.subscribe(
            load.topic, group=load.group, mode="shared", max_in_flight=load.max_in_flight
        ) as member,
    ):
        wait_for_go()
        tally, end = Tally(), time.perf_counter() + load.seconds
        while time.perf_counter() < end:
            records = member.fetch(max_records=HOLD_PORTION, wait=0.2)
            for record in records:
                if load.kind == "rejects":
                    record.reject("a bench")
                else:
                    record.ack()
            tally.add(len(records))
        member.flush()
        return tally.outcome()


def hold(load: SharedLoad) -> Outcome:
    """Take records over a while and settle none: ready when it has them, ended from outside."""
    with penstock.sync.connect(load.server) as client:
        member = client.subscribe(
            load.topic, group=load.group, mode="shared", max_in_flight=load.max_in_flight
        ).__enter__()
        left = load.records
        while left > 0:
            left -= len(member.fetch(max_records=min(HOLD_PORTION, left), wait=5.0))
            time.sleep(load.seconds * HOLD_PORTION / load.records)
        wait_for_go()
        time.sleep(3600)  # the process is stopped here, and killed later
    raise AssertionError("a holder is killed")


RUN: dict[str, Callable[[SharedLoad], Outcome]] = {
    "trio": run_trio,
    "asyncio": run_asyncio,
    "sync": run_sync,
}


def main() -> int:
    """Run one load; the exit code is 0 when it ran to its end."""
    load = msgspec.json.decode(sys.stdin.buffer.readline(), type=SharedLoad)
    try:
        outcome = (hold if load.kind == "hold" else RUN[load.driver])(load)
    except (PenstockError, OSError, TimeoutError) as error:
        say(Report(error=str(error) or type(error).__name__, hint=hint_for(error)))
        return 1
    say(Report(outcome=outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
