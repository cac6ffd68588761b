"""Raft groups in a hostile world: promises hold, runs repeat exactly, broken rules are noticed."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock_broker.raft import Configuration, Entry, HardState, Snapshot
from penstock_broker.simulation import raft_campaign
from penstock_broker.simulation.raft_campaign import first_caught, main, run_seeds
from penstock_broker.simulation.raft_disk import Disk, Write
from penstock_broker.simulation.raft_mutations import MUTATIONS, mutated
from penstock_broker.simulation.raft_swarm import MIXES
from penstock_broker.simulation.raft_world import Counts

BOUND = 30
"""Seeds within which every broken rule is noticed."""

ROOT = Path(__file__).parents[2]


@pytest.mark.no_cover
def test_promises_hold_in_a_hostile_world() -> None:
    counts = Counts()
    failure = run_seeds(range(25), counts)
    assert failure is None, f"python -m penstock_broker.simulation.raft_campaign: {failure}"
    for name in Counts.__slots__:  # a world in which nothing happens proves nothing
        assert getattr(counts, name) > 0, name


def test_a_seed_does_not_depend_on_the_hash_seed() -> None:
    """Iterating over a set of strings, or by identity, would show here."""
    code = (
        "from penstock_broker.simulation.raft_world import World\n"
        "world = World(11); world.run(); print(world.counts)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}/client:{ROOT}/broker"},
            capture_output=True, check=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


@pytest.mark.no_cover
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_rule_is_noticed(name: str) -> None:
    failure = first_caught(name, range(BOUND))
    assert failure is not None, f"{name} is not noticed in {BOUND} seeds"


@pytest.mark.no_cover
@pytest.mark.parametrize("mix", sorted(MIXES))
def test_promises_hold_in_every_mix(mix: str) -> None:
    assert run_seeds(range(1000, 1003), Counts(), MIXES[mix]) is None


def test_a_mutation_ends_with_its_context() -> None:
    with mutated("vote-twice"):
        pass
    assert run_seeds(range(3), Counts()) is None


def test_the_campaign_counts_and_succeeds() -> None:
    said: list[str] = []
    assert main(["--seeds", "2", "--first", "5"], said.append) == 0
    assert said[0].startswith("seeds 2, events ")


def test_a_failing_campaign_says_how_to_replay_it() -> None:
    said: list[str] = []
    assert main(["--seeds", "9", "--mutation", "ack-before-persist"], said.append) == 1
    seed = said[1].split()[1]
    assert said[-1] == (
        "replay: python -m penstock_broker.simulation.raft_campaign "
        f"--seed {seed} --mutation ack-before-persist"
    )
    again: list[str] = []
    words = said[-1].partition("raft_campaign ")[2].split()
    assert main(words, again.append) == 1
    assert again[1] == said[1]


def test_all_mutations_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: MUTATIONS[name] for name in ("ack-before-persist", "trust-any-report")}
    monkeypatch.setattr(raft_campaign, "MUTATIONS", few)
    said: list[str] = []
    assert main(["--seeds", "2", "--mutation", "all"], said.append) == 1
    assert said[0].startswith("ack-before-persist: caught after 1 seeds: ")
    assert said[1] == "trust-any-report: not caught in 2 seeds"


def test_a_replay_writes_its_transitions(tmp_path: Path) -> None:
    said: list[str] = []
    trace = tmp_path / "trace.ndjson"
    assert main(["--seed", "3", "--trace", str(trace)], said.append) == 0
    assert "passes; digest" in said[0]
    assert trace.read_text().startswith('{"tag":"trace","event":{"name":"InitState"')
    words = ["--seed", "0", "--mutation", "vote-twice", "--mix", "anything"]
    assert main([*words, "--trace", str(trace)], said.append) == 1
    assert "fails at" in said[1]


# the simulated disk


def disk() -> Disk:
    return Disk(Configuration.of([1]))


def test_a_later_write_replaces_entries() -> None:
    it = disk()
    it.complete(Write(HardState(1, 1, 0), None, [Entry(1, 1, 1, b""), Entry(2, 1, 1, b"")], []))
    it.complete(Write(None, None, [Entry(2, 2, 1, b"")], []))
    assert [entry[:2] for entry in it.entries] == [(1, 1), (2, 2)]
    assert it.holds(1, 1)
    assert not it.holds(2, 1)


def test_a_snapshot_replaces_the_log() -> None:
    it = disk()
    it.complete(Write(None, None, [Entry(1, 1, 1, b"")], []))
    it.complete(Write(None, Snapshot(7, 3, Configuration.of([1, 2]), 99), [], []))
    assert (it.base, it.entries, it.machine, it.last_index) == ((7, 3), [], 99, 7)
    assert it.holds(5, 1)


def test_a_write_with_a_gap_is_a_bug() -> None:
    with pytest.raises(AssertionError, match=r"entries from 3 written to 0\.\.0"):
        disk().complete(Write(None, None, [Entry(3, 1, 1, b"")], []))
