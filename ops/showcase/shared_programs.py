"""The shared group of the demo: workers, and the operator who looks at dead letters.

As the other programs they know nothing of the kills.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import trio

from ops.showcase.landings import Landing, Row
from ops.showcase.programs import TOPIC, connect
from ops.showcase.shared_ledger import Letter, Shop

GROUP = "landing-times"
DEAD_TOPIC = f"dead.{TOPIC}.{GROUP}"
ATTEMPTS = 3
POLICY = {
    "attempts_max": ATTEMPTS,
    "never_retry": "NoTime",
    "retry_min_ms": "100ms",
    "lease_ms": "10s",
}
IN_FLIGHT = 500
LETTERS_MAX = 100_000


async def create_group(address: str) -> None:
    """Make the group, and with it the topic of its dead letters."""
    async with connect(address, "setup") as client:
        await client.admin.create_group(TOPIC, GROUP, POLICY)


async def work(address: str, worker: str, parse: Callable[[Row], Landing], shop: Shop) -> None:
    """Take flights from the group and note what became of them, until cancelled."""
    async with (
        connect(address, worker) as client,
        client.subscribe(TOPIC, group=GROUP, mode="shared", max_in_flight=IN_FLIGHT) as records,
    ):
        async for record in records:
            async with record:  # an error fails the attempt, and the loop goes on
                row = json.loads(record.value or b"")
                shop.add(worker, row, parse(row))


async def wait_until_settled(address: str, topic: str) -> None:
    """Wait until the group has nothing left to do on a topic.

    Of a partition whose leader was just killed nobody tells: it is missing in the answer.
    """
    async with connect(address, "operator") as client:
        while True:
            told = await client.admin.describe_shared(topic, GROUP)
            if not told.missing and all(p.start == p.high_watermark for p in told.partitions):
                return
            await trio.sleep(0.1)


async def list_dead_letters(address: str) -> list[Letter]:
    """Look at all dead letters: which rows they are, and why they died."""
    async with connect(address, "operator") as client:
        found = await client.admin.dead_letters(TOPIC, GROUP, limit=LETTERS_MAX)
    return [
        Letter(
            int(json.loads(letter.value or b"")["row"]),
            letter.attempts[-1].reason,
            letter.failed + letter.timed_out,
            letter.attempts[-1].error.strip().rpartition("\n")[2],
        )
        for letter in found
    ]


async def redrive(address: str) -> int:
    """Give all dead letters back to their group; returns how many."""
    async with connect(address, "operator") as client:
        report = await client.admin.redrive(TOPIC, GROUP)
    return report.redriven
