"""Storage under simulated faults: many seeds, planted bugs, replay from one command."""

import io

import pytest

from penstock_broker.simulation.storage_campaign import main, play, seeds_until_caught
from penstock_broker.simulation.storage_mutations import MUTATIONS

SLOW = {"truncation-forgotten"}  # shown directly by tests/storage/test_wal.py


@pytest.mark.no_cover
@pytest.mark.parametrize("decade", range(3))
def test_nothing_acknowledged_is_lost_and_all_damage_is_named(decade):
    for seed in range(10 * decade, 10 * decade + 10):
        failure = play(seed, events=250)[1]
        assert failure is None, f"{failure.command}\n{failure.error!r}"


@pytest.mark.no_cover
@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS) - SLOW))
def test_a_broken_rule_is_noticed(mutation):
    assert seeds_until_caught(mutation, limit=150, events=300) is not None


def test_a_campaign_counts_what_it_did():
    out = io.StringIO()
    assert main(["--seeds", "2", "--events", "50"], out) == 0
    assert "2 seeds" in out.getvalue()


def test_a_failure_names_the_command_that_replays_it():
    out = io.StringIO()
    assert main(["--seed", "0", "--mutation", "sync-skipped"], out) == 1
    assert "--seed 0 --events 300 --mutation sync-skipped" in out.getvalue()
