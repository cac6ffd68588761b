"""The broker's simulation: a few seeds in every run, and that it notices broken rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock_broker.simulation.broker_campaign import SECONDS, first_caught, main
from penstock_broker.simulation.broker_mutations import MUTATIONS

SEEDS = 20
SHARED_SEEDS = 4
CAUGHT_WITHIN = 10


@pytest.mark.no_cover
def test_seeds_pass(tell: Callable[[str], None]) -> None:
    said: list[str] = []
    code = main(["--seeds", str(SEEDS), "--seconds", "2"], said.append)
    assert code == 0, said
    tell(f"broker simulation: {said[0]}")


@pytest.mark.no_cover
def test_seeds_with_a_shared_group_pass(tell: Callable[[str], None]) -> None:
    said: list[str] = []
    code = main(["--shared", "--seeds", str(SHARED_SEEDS), "--seconds", "1"], said.append)
    assert code == 0, said
    tell(f"shared groups: {said[0]}")


SOONEST = {
    "ack-applied-twice": (4, 0.5),
    "acquire-answered-twice": (38, 0.5),
    "attempts-reset": (28, 0.5),
    "dead-letter-sent-again": (15, 0.5),
    "early-after-clock-put-back": (20, 0.5),
    "lease-not-expired-after-restart": (2, 0.5),
}
"""Seed and seconds of a world that notices a mistake soon; others notice it in a second or so."""


@pytest.mark.no_cover
@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_a_broken_rule_is_noticed(mutation: str) -> None:
    """Short worlds show most mistakes soonest; some show in long ones alone."""
    seed, seconds = SOONEST.get(mutation, (0, 0.5))
    if first_caught(mutation, range(seed, seed + 1), seconds):
        return  # worlds change with the broker: then one that notices is looked for
    seeds = range(CAUGHT_WITHIN)
    assert any(first_caught(mutation, seeds, length) for length in (1.0, 3.0, SECONDS))


@pytest.mark.parametrize("options", [[], ["--shared"]])
def test_the_campaign_counts_and_succeeds(options: list[str]) -> None:
    said: list[str] = []
    assert main(["--seeds", "2", "--seconds", "0.2", *options], said.append) == 0
    assert said[0].startswith("seeds 2, events ")


def test_a_failing_campaign_says_how_to_replay_it() -> None:
    said: list[str] = []
    words = ["--seeds", "5", "--seconds", "1", "--mutation", "dedup-dropped"]
    assert main(words, said.append) == 1
    assert said[-1].startswith("replay: ")
    again: list[str] = []
    assert main(said[-1].partition("broker_campaign ")[2].split(), again.append) == 1
    assert again[1] == said[1]
