"""Fixtures of the conformance tests: a driver, a broker's address, a fresh topic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock import sync
from penstock.testing import broker
from penstock.testing.plugin import fresh_name
from tests.client.conformance.apis import APIS, ASYNC_APIS, Api
from tests.client.conformance.proxy import Proxy


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """One broker for all conformance tests."""
    with broker() as running:
        yield running.address


@pytest.fixture(scope="session")
def helper(address: str) -> Iterator[sync.Client]:
    """A client beside the one under test."""
    with sync.connect(address) as client:
        yield client


@pytest.fixture(params=sorted(APIS))
def api(request: pytest.FixtureRequest) -> Api:
    """Every driver."""
    return APIS[request.param]


@pytest.fixture(params=sorted(ASYNC_APIS))
def async_api(request: pytest.FixtureRequest) -> Api:
    """Every driver of async programs."""
    return ASYNC_APIS[request.param]


@pytest.fixture
def topic(helper: sync.Client, request: pytest.FixtureRequest) -> str:
    """A fresh topic with two partitions."""
    name = fresh_name(request.node.name)
    helper.admin.create_topic(name, partitions=2)
    return name


@pytest.fixture
def proxy(address: str) -> Iterator[Proxy]:
    """A way to the broker that can be cut."""
    with Proxy(address) as found:
        yield found
