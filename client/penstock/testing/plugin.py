"""The pytest plugin: fixtures that give tests a real broker, in plain, asyncio and trio tests.

It is found by pytest when Penstock is installed. All fixtures are ordinary ones, so that a test
under pytest-asyncio, pytest-trio or neither can ask for them; an async test opens its own client
with `penstock.connect(penstock_address)`. In a test that asks for
`penstock_clock` time stands still: `advance("1h")` moves it, and all that comes due is carried out.
Nothing starts before a fixture is asked for.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from penstock.testing.brokers import RunningBroker, broker
from penstock.testing.clock import VirtualClock
from penstock.testing.clusters import RunningCluster, cluster

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


@pytest.fixture
def penstock_cluster() -> Iterator[RunningCluster]:
    """Three brokers in memory that form a cluster of the test's own."""
    with cluster(3) as running:
        yield running


@pytest.fixture
def penstock_clock() -> Iterator[VirtualClock]:
    """A clock that stands still but for `advance`, and a broker of the test's own that goes by it.

    The other fixtures belong to that broker in a test that asks for this one.
    """
    clock = VirtualClock()
    with broker(clock=clock):
        yield clock


@pytest.fixture
def penstock_address(request: pytest.FixtureRequest) -> str:
    """Where the test's broker listens, for `penstock.connect`: the session's, or the clock's."""
    if "penstock_clock" in request.fixturenames:
        clock: VirtualClock = request.getfixturevalue("penstock_clock")
        return clock.address
    running: RunningBroker = request.getfixturevalue("penstock_broker")
    return running.address


@pytest.fixture
def penstock_sync(penstock_address: str) -> Iterator[Client]:
    """A blocking client, connected to the test's broker."""
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
