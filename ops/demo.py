"""Kills a broker while programs work on it, and shows that no promise is broken.

A real broker process (or three, with `--cluster`) stores 51,955 real flights. Two members of an
ordered group add them up, two workers of a shared group note when they landed, and a reader follows
every partition. In the middle of it the broker, or the leader of most partitions, is killed with
SIGKILL and started again on its data, twice.

Nearly 2,000 of the rows are not what the workers' parser expects. They end as dead letters with
their reasons, are listed, and are given back to the group when the parser has been put right; the
broker is killed once more in the middle of that. In the end everything is compared with the file
that the flights came from. The exit code is 0 if every promise was kept, else 1.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

import penstock.sync
from ops.showcase import flights as source
from ops.showcase import landings, programs, shared_programs, shared_verdict, verdict
from ops.showcase.cluster import Cluster
from ops.showcase.flights import Flight
from ops.showcase.ledgers import Book
from ops.showcase.process import BrokerProcess
from ops.showcase.progress import Progress

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C."""

TIME_LIMIT_SECONDS = 150.0
DOWN_SECONDS = 0.5
KILL_DELAY_SECONDS_MAX = 0.004


class Demo:
    """One run: the broker, the book of what happened, and the kills that are due."""

    def __init__(
        self, broker: BrokerProcess | Cluster, flights: list[Flight], kills: int, rate: float
    ) -> None:
        self.broker = broker
        self.book = Book()
        self.flights = flights
        self._rate = rate
        self._kill_again = kills > 0
        self._kills = [len(flights) * (number + 1) // (kills + 1) for number in range(kills)]
        self._progress = Progress(len(flights))

    async def run(self) -> None:
        """Publish, work and read until all is done, through every kill."""
        await self.broker.start()
        address, total = self.broker.address, len(self.flights)
        self._progress.say(f"{self.broker.state}, listening on {address}")
        await programs.create_topic(address, self.broker.replication)
        await shared_programs.create_group(address)
        async with trio.open_nursery() as display:
            display.start_soon(self._progress.follow, self.book, self.broker)
            async with self._workers(landings.parse_strictly):
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(programs.read, address, total, self.book)
                    nursery.start_soon(programs.work, address, "anna", total, self.book)
                    nursery.start_soon(programs.work, address, "bert", total, self.book)
                    await programs.publish(
                        address, self.flights, self._rate, self.book, self._sabotage
                    )
                    self._progress.say("everything is acknowledged")
                self._progress.say("everything is read")
                await shared_programs.wait_until_settled(address, programs.TOPIC)
            await self._bury()
            async with self._workers(landings.parse), trio.open_nursery() as self._nursery:
                await self._redrive()
            display.cancel_scope.cancel()
        self.book.shop.left = len(await shared_programs.list_dead_letters(address))

    @asynccontextmanager
    async def _workers(
        self, parse: Callable[[landings.Row], landings.Landing]
    ) -> AsyncIterator[None]:
        """Have two workers in the shared group meanwhile."""
        address, shop = self.broker.address, self.book.shop
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shared_programs.work, address, "carl", parse, shop)
            nursery.start_soon(shared_programs.work, address, "dora", parse, shop)
            yield
            nursery.cancel_scope.cancel()

    async def _bury(self) -> None:
        """Look at what the parser did not take."""
        shop = self.book.shop
        shop.first_done = len(shop.landings)
        shop.letters = await shared_programs.list_dead_letters(self.broker.address)
        examples = {letter.reason: letter for letter in shop.letters}
        for reason, count in Counter(letter.reason for letter in shop.letters).most_common():
            example = examples[reason]
            self._progress.say(f"{count:,} dead letters, as row {example.row}: {example.error}")

    async def _redrive(self) -> None:
        """Give the dead letters back, now to a parser that takes them, through another kill."""
        shop, address = self.book.shop, self.broker.address
        self._progress.say("the parser is put right, the dead letters are redriven")
        shop.redriven = await shared_programs.redrive(address)
        if self._kill_again:
            await self._outage()
        await shared_programs.wait_until_settled(address, shared_programs.DEAD_TOPIC)
        self._progress.say("every row is done")

    def _sabotage(self, row: int) -> None:
        """Kill the broker while the next rows are under way, if it is time."""
        if self._kills and row >= self._kills[0]:
            self._kills.pop(0)
            self._nursery.start_soon(self._outage)

    async def _outage(self) -> None:
        await trio.sleep(random.uniform(0, KILL_DELAY_SECONDS_MAX))
        victim = await self.broker.aim()
        killed = time.monotonic()
        self.broker.kill()
        self._progress.say(f"{victim} killed with SIGKILL")
        await trio.sleep(DOWN_SECONDS)
        await self.broker.start()
        self.book.outages.append((killed, time.monotonic()))
        self._progress.say(f"{self.broker.state} again after {self.broker.starts[-1]:.2f} s")

    async def count_stored(self, *topics: str) -> list[int]:
        """Stop all in order, start once more, ask how many records there are."""
        await self.broker.stop()
        await self.broker.start()
        with penstock.sync.connect(self.broker.address, name="auditor") as client:
            found = [client.admin.describe_topic(topic).partitions for topic in topics]
        return [sum(f.high_watermark - f.log_start_offset for f in figures) for figures in found]


async def run(broker: BrokerProcess | Cluster, rows: int | None, kills: int, rate: float) -> bool:
    """Run the demo and print the verdict; returns whether every promise was kept."""
    demo = Demo(broker, source.load(rows), kills, rate)
    try:
        with trio.fail_after(TIME_LIMIT_SECONDS):
            await demo.run()
            counts = await demo.count_stored(programs.TOPIC, shared_programs.DEAD_TOPIC)
            stored, demo.book.shop.stored_letters = counts
    except BaseException:
        print(f"the broker's log ends so:\n{demo.broker.log_end()}", file=sys.stderr)
        raise
    finally:
        demo.broker.end()
    checks = verdict.judge(demo.flights, demo.book, stored)
    checks += shared_verdict.judge(len(demo.flights), demo.book.shop, shared_programs.ATTEMPTS)
    print(verdict.render(checks, demo.book, demo.broker.starts))
    return all(check.kept for check in checks)


def main() -> int:
    """Read the arguments and run in a temporary folder, which goes afterwards."""
    parser = argparse.ArgumentParser(prog="ops/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="publish only so many of the flights")
    parser.add_argument("--kills", type=int, default=2, help="how often the broker is killed [2]")
    parser.add_argument(
        "--rate", type=float, default=6000, help="records published a second, 0: no limit [6000]"
    )
    parser.add_argument(
        "--cluster", action="store_true",
        help="three brokers, every record on all of them; the one that leads most is killed",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the broker's data and log")
    options = parser.parse_args()
    # Each attempt that fails is logged by the client; the dead letters say it all in the end.
    logging.getLogger("penstock.client").addHandler(logging.NullHandler())
    # Ended from outside, it takes its broker along as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    kept: bool | None = None
    try:
        broker = Cluster(folder) if options.cluster else BrokerProcess(folder)
        kept = trio.run(run, broker, options.rows, options.kills, options.rate)
    except* KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    finally:
        if options.keep:
            print(f"data and log are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if kept is None:
        return INTERRUPTED
    print("every promise was kept" if kept else "a promise was BROKEN")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
