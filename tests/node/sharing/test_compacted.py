"""Shared groups on compacted topics: offsets whose record is gone hold nobody up."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.protocol.batch import iterate
from penstock.protocol.leases import ACK, NACK, Acquired
from penstock.protocol.record_batch import RecordBatch
from tests.node.harness import Harness
from tests.node.sharing.members import GROUP, Member, create, offsets, runs
from tests.node.test_compaction import SMALL, compact, write


def prepared(**settings: Any) -> tuple[Harness, int, Member]:
    node = Harness(**SMALL)
    (gid,) = node.topic(cleanup="compact")
    create(node, **settings)
    return node, gid, Member(node)


def present(got: Acquired) -> list[int]:
    """Offsets whose records came along."""
    run = memoryview(got.run)
    found: list[int] = []
    for at, header in iterate(run):
        found += RecordBatch(run[at : at + header.length]).offsets
    return [each for each in found if each in set(offsets(got))]


def drain(node: Harness, member: Member) -> tuple[list[int], list[int]]:
    """Take and ack until there is nothing more: all offsets, and those with records."""
    taken: list[int] = []
    there: list[int] = []
    for _ in range(200):
        member.ask()
        node.pump()
        node.pump()
        got = member.acquired()
        if not got.spans:
            return taken, there
        taken += offsets(got)
        there += present(got)
        member.ack_all(got)
    raise AssertionError("it never ends")


def test_a_group_that_comes_late_gets_the_newest_record_of_each_key_and_all_is_settled() -> None:
    node, gid, member = prepared()
    write(node.client(), gid, 300)
    compact(node)
    taken, there = drain(node, member)
    assert taken == list(range(300))
    assert {296, 297, 298, 299} <= set(there)
    assert len(there) < 150
    assert node.node.partitions[gid].machine.sharing.groups[GROUP].start == 300


@pytest.mark.parametrize("verdict", [ACK, NACK])
def test_records_that_are_compacted_away_under_a_lease_are_settled(verdict: int) -> None:
    node, gid, member = prepared(retry_min_ms=1000, retry_max_ms=1000, jitter="none")
    write(node.client(), gid, 100)
    got = member.acquire()
    write(node.client(), gid, 200, 100)
    compact(node, 2.0)
    member.settle(got.lease, runs(got), verdict)
    node.advance(2.0)
    drain(node, member)
    assert node.node.partitions[gid].machine.sharing.groups[GROUP].start == 300
