"""A test gets a real broker, from plain code and from both async libraries."""

from __future__ import annotations

import asyncio
import socket

import pytest
import trio

from penstock import testing


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_broker_listens_until_the_block_ends() -> None:
    with testing.broker() as running:
        address = running.address
        assert is_listening(address)
    assert not is_listening(address)


def test_broker_stops_when_the_block_raises() -> None:
    address = ""

    def fail_beside_a_broker() -> None:
        nonlocal address
        with testing.broker() as running:
            address = running.address
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_a_broker()
    assert not is_listening(address)


async def test_broker_runs_beside_trio() -> None:
    async with testing.broker() as running:
        assert await trio.to_thread.run_sync(is_listening, running.address)
    assert not await trio.to_thread.run_sync(is_listening, running.address)


def test_broker_runs_beside_asyncio() -> None:
    async def main() -> str:
        async with testing.broker() as running:
            assert await asyncio.to_thread(is_listening, running.address)
            return running.address

    assert not is_listening(asyncio.run(main()))


def test_two_brokers_take_different_ports() -> None:
    with testing.broker() as first, testing.broker() as second:
        assert first.address != second.address
