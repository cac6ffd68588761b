"""The campaign on clusters: what it counts, how it reads answers, and how it arms brokers."""

from __future__ import annotations

import threading
from pathlib import Path

from ops.faults.armed import ArmedBroker
from ops.faults.cluster_groups import GroupLoad, lost_of
from ops.faults.cluster_report import ClusterReport
from ops.faults.tally import Tally, may
from ops.history.form import Writer
from penstock._core.sharing.verdicts import Grant, Ledger, Run
from penstock.protocol.leases import ACK, NACK, Verdict
from penstock_broker.failpoints import Rule, parse


def run_of(lease: int, first: int, end: int, verdict: int = ACK) -> Run:
    ledger = Ledger(lambda: None, lambda _: None)
    return Run(Grant(ledger, lease, 0), first, end, verdict)


def test_points_are_tried_in_turn_and_errors_only_at_disks() -> None:
    tally = Tally(["wal.append.before", "flush.work.before"])
    tried = [tally.next("crash", "error") for _ in range(4)]
    assert tried == [
        ("wal.append.before", "crash"),
        ("flush.work.before", "crash"),
        ("flush.work.before", "error"),
        ("wal.append.before", "crash"),
    ]
    assert not may("wal.append.before", "error")


def test_a_walk_goes_on_with_what_was_hit_too_seldom_until_nothing_was() -> None:
    tally = Tally(["wal.append.before", "flush.work.before"], wanted=2)
    tally.hits.update({("wal.append.before", "crash"): 2, ("flush.work.before", "crash"): 1})
    assert [tally.next("crash") for _ in range(3)] == [("flush.work.before", "crash")] * 3
    assert not tally.complete
    assert "<1" in tally.table()
    assert "4 of 5" in ClusterReport(tally=tally).text()
    for point, does in tally.below("crash", "pause", "error"):
        tally.hits[point, does] = 2
    assert tally.complete
    assert "<" not in tally.table()
    assert tally.next("crash") == ("wal.append.before", "crash")
    assert not Tally(["wal.append.before"]).complete


def test_a_tally_tells_what_was_never_hit() -> None:
    tally = Tally(["wal.append.before", "flush.work.before"])
    tally.hits.update([("flush.work.before", "pause")])
    assert tally.missing() == ["wal.append.before"]
    assert (tally.different, tally.fewest) == (1, 0)
    assert "wal.append.before" in ClusterReport(tally=tally).text()


def test_all_leases_of_a_record_lose_it_as_often_as_the_answer_names_it() -> None:
    old, new = run_of(7, 10, 13, NACK), run_of(9, 11, 12)
    assert lost_of([new, old], [11, 1]) == {(7, 11)}
    assert lost_of([new, old], [10, 3, 11, 1]) == {(7, 10), (7, 11), (7, 12), (9, 11)}
    assert lost_of([new, old], []) == set()


def test_a_broker_that_is_armed_finds_its_plan_when_it_starts(tmp_path: Path) -> None:
    broker = ArmedBroker(tmp_path / "0")
    broker.arm({"flush.work.before": "crash@1", "wal.append.after": "pause(0.1)@1"})
    broker.arm({"flush.work.before": "pause@1", "wal.append.after": "pause@1"}, over=False)
    broker.disarm({"flush.work.before": "crash@1", "wal.append.after": "pause@1"})
    plan = Path(broker.environment["PENSTOCK_FAILPOINTS"].removeprefix("@"))
    assert parse(plan.read_text()) == {"wal.append.after": Rule("pause", 0.1, count=1)}


def test_hits_are_read_line_by_line_as_they_come(tmp_path: Path) -> None:
    broker = ArmedBroker(tmp_path / "0")
    assert broker.hits() == []
    hits = Path(broker.environment["PENSTOCK_FAILPOINTS_LOG"])
    hits.write_text("flush.work.before crash\nwal.append")
    assert broker.hits() == [("flush.work.before", "crash")]
    with hits.open("a") as file:
        file.write(".after pause\n")
    assert broker.hits()[1:] == [("wal.append.after", "pause")]


def test_a_record_that_was_given_back_does_not_count_as_coming_again(tmp_path: Path) -> None:
    with Writer(tmp_path / "history") as history:
        load = GroupLoad("nowhere:1", "t", history, threading.Event())
        load._holders[9, 1] = ("s0", ("t", 0))
        for offset in (0, 1, 2):
            load._lease(0, offset, 1, 5.0, 35.0)
        load._say(9, Verdict(1, 0, 1, NACK, 0))
        load._say(9, Verdict(1, 1, 1, ACK, 0))
        for offset, again in ((0, 0), (1, 1), (2, 2)):
            load._lease(0, offset, 2, 6.0, 36.0)
            assert load.again == again
