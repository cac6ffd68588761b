"""Coordinators as the tests of ordered groups need them."""

from __future__ import annotations

import pytest

from tests.machine.coordinator import Coordinator


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def pair(coordinator: Coordinator) -> Coordinator:
    """Members `a` and `b`, two partitions each, at generation 3."""
    coordinator.join("a")
    coordinator.join("b")
    coordinator.release("a", 2, 2, 3)
    return coordinator
