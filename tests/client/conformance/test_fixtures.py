"""A client in a fixture, under the plugins that people use: opened in one task, closed in another.

pytest-asyncio gets a pytest of its own, since here all async tests are run by pytest-trio.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import penstock
from tests.source.tree import ROOT, SOURCE_ROOTS

SUITE = """
import penstock, pytest, pytest_asyncio

@pytest_asyncio.fixture
async def client():
    async with penstock.connect(ADDRESS) as client:
        yield client

@pytest_asyncio.fixture
async def subscription(client):
    async with client.subscribe(TOPIC, group="fixture") as subscription:
        yield subscription

@pytest.mark.asyncio
@pytest.mark.parametrize("value", [b"one", b"two"])
async def test_publish(client, subscription, value):
    await client.publish(TOPIC, value)
    assert [record.value for record in await subscription.fetch(wait=5.0)] == [value]
"""

SETTINGS = """[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


def test_a_client_lives_in_a_fixture_of_pytest_asyncio(
    address: str, topic: str, tmp_path: Path
) -> None:
    suite = SUITE.replace("ADDRESS", repr(address)).replace("TOPIC", repr(topic))
    (tmp_path / "test_suite.py").write_text(suite)
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    path = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:penstock"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
async def trio_client(address: str) -> AsyncIterator[penstock.Client]:
    """pytest-trio runs a fixture in a task that lives as long as the fixture."""
    async with penstock.connect(address) as client:
        yield client


@pytest.fixture
async def trio_subscription(
    trio_client: penstock.Client, topic: str
) -> AsyncIterator[penstock.Subscription]:
    """A member of a group."""
    async with trio_client.subscribe(topic, group=f"g-{topic}") as subscription:
        yield subscription


async def test_a_client_lives_in_a_fixture_of_pytest_trio(
    trio_client: penstock.Client, trio_subscription: penstock.Subscription, topic: str
) -> None:
    await trio_client.publish(topic, b"x")
    assert [r.value for r in await trio_subscription.fetch(wait=5.0)] == [b"x"]
