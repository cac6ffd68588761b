"""Rules of grants, renewals and verdicts."""

from __future__ import annotations

import pytest

from penstock.errors import BadRequest, GroupNotFound, LimitExceeded
from penstock_broker.machine.commands import Refused, ShareOps
from penstock_broker.machine.effects import RecordsDelayed, RecordsFreed, RecordsSettled
from penstock_broker.machine.sharing import grants, ops
from penstock_broker.machine.sharing.ops import RELEASE
from penstock_broker.machine.sharing.replies import Expired, Granted, Renewed, Settled
from penstock_broker.machine.stamp import TERM_LEAP
from tests.machine.replicas import SECOND
from tests.machine.sharing.sample import LEASE, Partition


@pytest.fixture
def partition() -> Partition:
    return Partition()


def test_fresh_records_are_leased_to_a_member(partition: Partition) -> None:
    lease = partition.grant(0, 10)
    group = partition.group
    found = group.leases[lease]
    assert (found.member, found.host, found.left, found.spans) == ("ann", "host", 10, [0, 10])
    assert found.deadline_us == partition.now_us + LEASE
    assert (group.start, group.end) == (0, 10)
    assert group.lease_of(9) is found
    assert group.lease_of(10) is None


def test_an_ack_of_records_that_a_log_lost_is_none_of_those_that_came_in_their_place(
    partition: Partition,
) -> None:
    kept = partition.grant(0, 10)
    lost = kept + 1
    partition.term = TERM_LEAP
    assert partition.ack(lost, 10, 5) == Settled(0, 0, 0, [10, 5])
    assert partition.group.end == 10
    assert partition.ack(kept, 0, 10) == Settled(10, 0, 0, [])
    given = TERM_LEAP << 32 | 1
    assert partition.ack(given, 10, 5) == Settled(5, 5, 0, []), "its grant went with its leader"


def test_a_record_has_one_live_lease(partition: Partition) -> None:
    partition.grant(0, 10)
    reply = partition.op(ops.Grant("g", 5, "bob", "host", [5, 10], partition.now_us))
    assert reply == Granted([10, 5])


def test_nothing_granted_makes_no_lease(partition: Partition) -> None:
    partition.grant(0, 10)
    assert partition.op(ops.Grant("g", 5, "bob", "h", [3, 4], 0)) == Granted([])
    assert list(partition.group.leases) == [1]


def test_skipped_records_are_free_in_the_window(partition: Partition) -> None:
    partition.grant(5, 1)
    assert partition.group.window.runs(0) == [(0, 5)]
    assert partition.group.start == 0


def test_a_grant_ends_where_the_log_ends(partition: Partition) -> None:
    assert partition.op(ops.Grant("g", 1, "a", "h", [98, 10], 0)) == Granted([98, 2])


def test_a_lease_id_is_used_once(partition: Partition) -> None:
    lease = partition.grant(0, 1)
    refused = partition.op(ops.Grant("g", lease, "a", "h", [1, 1], 0))
    assert isinstance(refused, Refused)
    assert refused.code == BadRequest.code


def test_max_in_flight_cuts_a_grant() -> None:
    partition = Partition(max_in_flight=7)
    assert partition.op(ops.Grant("g", 1, "a", "h", [0, 5, 6, 5], 0)) == Granted([0, 5, 6, 2])
    assert partition.group.end == 8
    partition.ack(1, 0, 3)
    assert partition.op(ops.Grant("g", 2, "a", "h", [5, 50], 0)) == Granted([5, 1, 8, 2])


def test_the_window_never_grows_beyond_its_limit() -> None:
    partition = Partition(records=5_000, window_max=1_000)
    partition.grant(0, 1)
    assert partition.op(ops.Grant("g", 2, "a", "h", [1, 2_000], 0)) == Granted([1, 999])
    partition.ack(2, 1, 999)
    assert partition.op(ops.Grant("g", 3, "a", "h", [1_000, 10], 0)) == Granted([])
    partition.ack(1, 0, 1)
    assert partition.op(ops.Grant("g", 3, "a", "h", [1_000, 10], 0)) == Granted([1_000, 10])


def test_a_partition_has_only_so_many_leases(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "LEASES_MAX", 2)
    partition.grant(0, 1)
    partition.grant(1, 1)
    refused = partition.op(ops.Grant("g", 3, "a", "h", [2, 1], 0))
    assert refused.code == LimitExceeded.code


@pytest.mark.parametrize("spans", [[1], [5, 0], [5, -1], [-1, 3], [5, 3, 7, 1], [9, 1, 3, 1]])
def test_malformed_spans_are_refused(partition: Partition, spans: list[int]) -> None:
    partition.grant(0, 20)
    for op in (
        ops.Grant("g", 9, "a", "h", spans, 0),
        ops.Settle("g", 1, ops.ACK, spans),
        ops.Purge("g", spans),
        ops.Drop("g", spans, ""),
        ops.Outdate("g", spans),
    ):
        assert partition.op(op).code == BadRequest.code


def test_spans_and_ops_are_limited(partition: Partition) -> None:
    many = [number for first in range(0, 2 * ops.SPANS_MAX + 2, 2) for number in (first, 1)]
    assert partition.op(ops.Settle("g", 1, ops.ACK, many)).code == LimitExceeded.code
    too_many = [ops.Purge("g", [])] * (ops.OPS_MAX + 1)
    assert partition.refuse(ShareOps(ops=too_many)) is LimitExceeded


def test_an_op_for_an_unknown_group_is_refused(partition: Partition) -> None:
    assert partition.op(ops.Purge("x", [0, 1])).code == GroupNotFound.code


# ----- verdicts


def test_an_ack_settles_and_moves_the_start(partition: Partition) -> None:
    lease = partition.grant(0, 10)
    assert partition.ack(lease, 0, 4) == Settled(4, 0, 0, [])
    assert partition.group.start == 4
    assert partition.ack(lease, 5, 5) == Settled(5, 0, 0, [])
    assert partition.group.start == 4
    told = partition.told(RecordsSettled)
    assert (told.spans, told.done, told.ended) == ([5, 5], [5, 5], [])
    partition.ack(lease, 4, 1)
    assert partition.group.start == partition.group.end == 10
    assert partition.told(RecordsSettled).ended == [lease]
    assert not partition.group.leases


def test_an_ack_said_twice_counts_once(partition: Partition) -> None:
    lease = partition.grant(0, 10)
    partition.ack(lease, 2, 3)
    assert partition.ack(lease, 0, 5) == Settled(2, 0, 3, [])
    assert partition.ack(lease, 0, 5) == Settled(0, 0, 5, [])
    assert partition.group.counters.acked == 5
    assert partition.group.counters.duplicates == 8


def test_a_late_ack_counts_and_ends_the_lease_of_another(partition: Partition) -> None:
    first = partition.grant(0, 2)
    partition.wait(31)
    partition.expire(first)
    partition.wait(10)
    second = partition.grant(0, 2, member="bob")
    assert partition.group.leases[second].left == 2
    assert partition.ack(first, 0, 2) == Settled(2, 2, 0, [])
    assert partition.told(RecordsSettled).ended == [second]
    assert partition.ack(second, 0, 2) == Settled(0, 0, 2, [])


def test_a_strict_group_refuses_late_acks() -> None:
    partition = Partition(strict="yes")
    first = partition.grant(0, 2)
    partition.wait(31)
    partition.expire(first)
    assert partition.ack(first, 0, 2) == Settled(0, 0, 0, [0, 2])
    assert partition.state(0) == "DELAYED"


def test_an_ack_of_records_whose_grant_was_lost_counts(partition: Partition) -> None:
    partition.grant(0, 2)
    assert partition.ack(99, 5, 2) == Settled(2, 2, 0, [])
    assert partition.group.end == 7
    assert partition.group.window.runs(0) == [(2, 3)]


def test_what_is_beyond_the_log_is_refused(partition: Partition) -> None:
    lease = partition.grant(0, 2)
    assert partition.ack(lease, 99, 2).code == BadRequest.code


def test_a_release_frees_and_counts_nothing(partition: Partition) -> None:
    lease = partition.grant(0, 3)
    assert partition.settle(lease, RELEASE, 0, 3) == Settled(3, 0, 0, [])
    assert partition.told(RecordsFreed).spans == [0, 3]
    assert partition.group.attempts(0) == (0, 0, 0, 0)
    assert not partition.group.troubles
    assert partition.op(ops.Grant("g", 9, "b", "h", [0, 3], 0)) == Granted([0, 3])
    assert partition.group.attempts(0) == (1, 0, 0, 0)


@pytest.mark.parametrize("verdict", [ops.NACK, ops.REJECT, RELEASE])
def test_a_late_verdict_other_than_ack_is_lost(partition: Partition, verdict: int) -> None:
    first = partition.grant(0, 2)
    partition.wait(31)
    partition.expire(first)
    partition.wait(10)
    second = partition.grant(0, 2, member="bob")
    before = partition.group.attempts(0)
    assert partition.settle(first, verdict, 0, 2) == Settled(0, 0, 0, [0, 2])
    assert partition.group.attempts(0) == before
    assert partition.group.leases[second].left == 2


def test_an_unknown_verdict_is_refused(partition: Partition) -> None:
    lease = partition.grant(0, 2)
    assert partition.settle(lease, 7, 0, 1).code == BadRequest.code


# ----- time


def test_a_lease_ends_only_after_its_deadline(partition: Partition) -> None:
    lease = partition.grant(0, 3)
    partition.wait(29)
    assert partition.expire(lease) == Expired(0, 0)
    partition.wait(1)
    assert partition.expire(lease, lease, 99) == Expired(1, 3)
    assert partition.told(RecordsSettled).ended == [lease]
    ready = partition.now_us + SECOND
    assert partition.told(RecordsDelayed).records == [(n, ready) for n in range(3)]
    assert partition.group.attempts(1) == (1, 0, 1, 0)


def test_renewing_moves_the_deadline(partition: Partition) -> None:
    lease = partition.grant(0, 3)
    partition.wait(20)
    later = partition.now_us + LEASE
    assert partition.op(ops.Renew("g", "ann", [lease, 42], later)) == Renewed([42])
    partition.wait(29)
    assert partition.expire(lease) == Expired(0, 0)


def test_only_the_member_renews_its_leases(partition: Partition) -> None:
    lease = partition.grant(0, 3)
    assert partition.op(ops.Renew("g", "bob", [lease], 1)) == Renewed([lease])


def test_a_deadline_may_come_closer(partition: Partition) -> None:
    lease = partition.grant(0, 3)
    partition.op(ops.Renew("g", "ann", [lease], partition.now_us + 5 * SECOND))
    partition.wait(5)
    assert partition.expire(lease) == Expired(1, 3)


def test_renewals_do_not_hold_a_record_for_ever() -> None:
    partition = Partition(hold_max_ms="1m")
    lease = partition.grant(0, 1)
    for _ in range(3):
        partition.wait(20)
        partition.op(ops.Renew("g", "ann", [lease], partition.now_us + LEASE))
    assert partition.expire(lease) == Expired(1, 1)
    assert partition.group.counters.timed_out == 1


def test_an_extension_lifts_the_limit_of_renewals() -> None:
    partition = Partition(hold_max_ms="1m")
    lease = partition.grant(0, 1)
    until = partition.now_us + 600 * SECOND
    assert partition.op(ops.Extend("g", lease, until)) == Renewed([])
    partition.wait(599)
    assert partition.expire(lease) == Expired(0, 0)
    assert partition.op(ops.Extend("g", 99, until)) == Renewed([99])


def test_a_delayed_record_is_granted_when_its_time_has_come(partition: Partition) -> None:
    lease = partition.grant(0, 2)
    partition.nack(lease, 0, 1, ready_at_us=partition.now_us + 5 * SECOND)
    partition.wait(4.9)
    assert partition.op(ops.Grant("g", 8, "b", "h", [0, 1], 0)) == Granted([])
    partition.wait(0.1)
    assert partition.op(ops.Grant("g", 9, "b", "h", [0, 1], 0)) == Granted([0, 1])
