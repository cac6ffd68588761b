"""The pytest plugin: fixtures that give tests a real broker, in plain, asyncio and trio tests.

It is found by pytest when Penstock is installed. All fixtures are ordinary ones, so that a test
under pytest-asyncio, pytest-trio or neither can ask for them; an async test opens its own client
with `penstock.connect(penstock_address)`. Nothing starts before a fixture is asked for.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from penstock.testing.brokers import RunningBroker, broker

if TYPE_CHECKING:
    from penstock.sync import Client

MARKER = "penstock(partitions=1, config={}): how `penstock_topic` creates the topic of a test"
TEST_NAME_CHARACTERS_MAX = 60


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of `penstock_topic`."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture(scope="session")
def penstock_broker() -> Iterator[RunningBroker]:
    """One broker in memory for the whole test session; tests keep apart by their topics."""
    with broker() as running:
        yield running


@pytest.fixture(scope="session")
def penstock_address(penstock_broker: RunningBroker) -> str:
    """Where the session's broker listens, for `penstock.connect`."""
    return penstock_broker.address


@pytest.fixture
def penstock_sync(penstock_address: str) -> Iterator[Client]:
    """A blocking client, connected to the session's broker."""
    # Imported here: pytest loads every installed plugin, also for projects that do not use it.
    from penstock import sync

    with sync.connect(penstock_address, name="pytest") as client:
        yield client


@pytest.fixture
def penstock_topic(penstock_sync: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a fresh topic, deleted after the test.

    `@pytest.mark.penstock(partitions=3)` says how to create it; its arguments are those of
    `client.admin.create_topic`.
    """
    marker = request.node.get_closest_marker("penstock")
    name = fresh_name(request.node.name)
    penstock_sync.admin.create_topic(name, **(marker.kwargs if marker else {}))
    yield name
    penstock_sync.admin.delete_topic(name)


def fresh_name(test_name: str) -> str:
    """Make a topic name that tells the test and that no other test has."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", test_name)[:TEST_NAME_CHARACTERS_MAX].strip("-")
    return f"{readable}.{uuid.uuid4().hex[:8]}"
