"""A seed does the same wherever it is run: twice in one process, and on another Python."""

from __future__ import annotations

import pytest

from tests.simulation.digests import WORLDS, pinned


@pytest.mark.parametrize("world", WORLDS)
def test_a_seed_does_what_it_did_before(world: str) -> None:
    first, second = WORLDS[world](), WORLDS[world]()
    assert first == second, "two runs of one seed differ"
    pin = pinned()[world]
    assert first == pin, "behaves differently; if that is meant: python -m tests.simulation.digests"
