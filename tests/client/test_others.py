"""What has gone wrong in other systems' clients, played on purpose; tests/README.md lists all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import trio

from penstock._core.options import Options, parse_servers
from penstock._drivers.asyncio import AsyncioDriver
from penstock._drivers.blocking import BlockingDriver
from penstock._drivers.trio import TrioDriver

OPTIONS = Options(servers=parse_servers("node1:7400"))


async def of_asyncio() -> int:
    return AsyncioDriver(OPTIONS).core.producer.new_id()


async def of_trio() -> int:
    return TrioDriver(OPTIONS).core.producer.new_id()


def of_blocking() -> int:
    driver = BlockingDriver(OPTIONS)
    driver._selector.close()  # it was never opened, so it can't be ended
    driver._alarm.close()
    return driver.core.producer.new_id()


@pytest.mark.parametrize(
    "first_id", [lambda: asyncio.run(of_asyncio()), lambda: trio.run(of_trio), of_blocking]
)
def test_no_two_clients_begin_with_the_same_producer_id(first_id: Callable[[], int]) -> None:
    """Redpanda 31659: ids were counted from zero; first writes passed for those of another."""
    ids = [first_id() for _ in range(5)]
    assert len(set(ids)) == 5
    assert min(ids) > 1 << 40
