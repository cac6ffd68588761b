"""Failpoints lie where the list says, act as planned, and leave no trace when they are off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock_broker.failpoints import ON_DISK, STEPS, BadPlan, Rule, installed, parse, points
from penstock_broker.failpoints.steps import Step
from penstock_broker.failpoints.wrapping import _resolve, install
from penstock_broker.raft import Configuration, Raft
from penstock_broker.raft.messages import VoteRequest

ROOT = Path(__file__).parents[2]


class Dice:
    """Throws the same all the time."""

    def randrange(self, stop: int) -> int:
        return stop // 2


def make_raft() -> Raft:
    return Raft(1, randomness=Dice(), configuration=Configuration.of([1, 2, 3]))


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(set(points())) == len(points()) >= 60
    assert len({(step.target, step.message) for step in STEPS}) == len(STEPS)
    assert {step.name for step in STEPS} >= ON_DISK


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_is_a_function_of_the_broker(step: Step) -> None:
    owner, name = _resolve(step.target)
    assert name in vars(owner)


def test_a_point_acts_before_or_after_its_step() -> None:
    seen: list[tuple[str, int]] = []
    raft = make_raft()
    rules = {"raft.campaign.before": Rule("pause"), "raft.campaign.after": Rule("pause")}
    with installed(rules, lambda name, _: seen.append((name, raft.role))) as failpoints:
        raft.campaign()
    assert seen == [("raft.campaign.before", 0), ("raft.campaign.after", 1)]
    assert failpoints.acted.total() == 2


def test_a_point_of_messages_is_reached_by_its_own_kind_alone() -> None:
    raft = make_raft()
    with installed({}, lambda *_: None) as failpoints:
        raft.step(VoteRequest(2, 1, 1, 0, 0))
    assert failpoints.reached["step.vote-request.before"] == 1
    assert not failpoints.reached["step.append.before"]


def test_a_count_and_a_chance_say_when_it_acts() -> None:
    acted: list[str] = []
    rules = {"raft.campaign.before": Rule("crash", count=2), "raft.campaign.after": Rule("error")}
    rules["raft.campaign.after"].chance = 0.5
    throws = iter([0.6, 0.4, 0.6])
    with installed(rules, lambda name, _: acted.append(name), lambda: next(throws)):
        for _ in range(3):
            make_raft().campaign()
    assert acted == ["raft.campaign.before", "raft.campaign.after"]


def test_nothing_is_left_of_them() -> None:
    before = [vars(owner)[name] for owner, name in (_resolve(step.target) for step in STEPS)]
    with installed({}, lambda *_: None):
        assert Raft.campaign not in before
    after = [vars(owner)[name] for owner, name in (_resolve(step.target) for step in STEPS)]
    assert before == after


def test_without_a_plan_nothing_is_wrapped() -> None:
    original = Raft.campaign
    assert not install({})
    assert Raft.campaign is original


def test_a_plan_is_read() -> None:
    plan = parse(" wal.append.before=crash@5; flush.work.after=pause(0.25)%0.5 ;")
    assert plan == {
        "wal.append.before": Rule("crash", count=5),
        "flush.work.after": Rule("pause", 0.25, chance=0.5),
    }
    assert set(parse("*=error")) == set(points())


@pytest.mark.parametrize(
    "plan", ["nothing=crash", "wal.append=crash", "wal.append.before=dance", "wal.append.before"]
)
def test_a_plan_with_a_mistake_is_refused(plan: str) -> None:
    with pytest.raises(BadPlan):
        parse(plan)


def test_a_process_dies_where_the_plan_says_and_leaves_word(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = """
import os
from penstock_broker.failpoints import install
install(os.environ)
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Store, StorageConfig
Store.open(MemoryFiles(), StorageConfig(), fresh_uuid=bytes(16))
print("not reached")
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT / "broker")]),
        "PENSTOCK_FAILPOINTS": "recovery.open.after=crash",
        "PENSTOCK_FAILPOINTS_LOG": str(log),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert log.read_text() == "recovery.open.after crash\n"
    assert not done.stdout


def test_new_rules_are_counted_from_the_moment_they_are_given() -> None:
    acted: list[str] = []
    with installed({}, lambda name, _: acted.append(name)) as failpoints:
        make_raft().campaign()
        failpoints.plan({"raft.campaign.after": Rule("pause", count=1)})
        make_raft().campaign()
        failpoints.plan({"raft.campaign.after": Rule("pause", count=1)})
        make_raft().campaign()
    assert acted == ["raft.campaign.after"]


def test_a_plan_in_a_file_is_read_again_when_a_signal_comes(tmp_path: Path) -> None:
    plan, log = tmp_path / "plan", tmp_path / "log"
    plan.write_text("")
    program = f"""
import os, pathlib, signal
from penstock_broker.failpoints import install
install(os.environ)
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Store, StorageConfig
Store.open(MemoryFiles(), StorageConfig(), fresh_uuid=bytes(16))
pathlib.Path({str(plan)!r}).write_text("recovery.open.before=crash@1")
os.kill(os.getpid(), signal.SIGUSR1)
Store.open(MemoryFiles(), StorageConfig(), fresh_uuid=bytes(16))
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT / "broker")]),
        "PENSTOCK_FAILPOINTS": f"@{plan}",
        "PENSTOCK_FAILPOINTS_LOG": str(log),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert log.read_text() == "recovery.open.before crash\n"
