"""From the verdicts of a frame to the ops that are proposed."""

from __future__ import annotations

from penstock.protocol.leases import ACK, NACK, Verdict
from penstock_broker.machine.sharing.ops import Settle
from penstock_broker.node.sharing.settle import ops_of


def nack(first: int, count: int, at_us: int, lease: int = 7, reason: str = "") -> Verdict:
    return Verdict(lease, first, count, NACK, at_us, reason, "")


def told(verdicts: list[Verdict]) -> list[tuple[int, list[int], int, list[int]]]:
    ops = ops_of("g", "ann", verdicts)
    assert all((op.group, op.member) == ("g", "ann") for op in ops)
    return [(op.lease, op.spans, op.ready_at_us, op.times) for op in ops]


def test_what_is_said_alike_of_a_lease_is_one_op() -> None:
    acks = [Verdict(7, first, 2, ACK, 0, "", "") for first in (4, 0, 2, 9)]
    assert ops_of("g", "ann", acks) == [Settle("g", 7, ACK, [0, 6, 9, 2], member="ann")]


def test_nacks_to_one_time_need_no_times() -> None:
    assert told([nack(3, 1, 50), nack(0, 3, 50)]) == [(7, [0, 4], 50, [])]


def test_nacks_to_several_times_are_one_op() -> None:
    verdicts = [nack(2, 1, 60), nack(0, 1, 50), nack(1, 1, 50), nack(9, 2, 0)]
    assert told(verdicts) == [(7, [0, 2, 2, 1, 9, 2], 0, [50, 60, 0])]


def test_other_leases_and_reasons_are_ops_of_their_own() -> None:
    verdicts = [nack(0, 1, 50), nack(1, 1, 50, lease=8), nack(2, 1, 50, reason="Timeout")]
    assert [spans for _, spans, _, _ in told(verdicts)] == [[0, 1], [1, 1], [2, 1]]


def test_what_is_said_twice_of_a_record_comes_in_an_op_of_its_own() -> None:
    verdicts = [nack(0, 5, 50), nack(3, 1, 60), nack(5, 1, 60), nack(4, 3, 70)]
    assert told(verdicts) == [(7, [0, 5, 5, 1], 0, [50, 60]), (7, [3, 1, 4, 3], 0, [60, 70])]


def test_the_time_of_an_ack_means_nothing() -> None:
    acks = [Verdict(7, 0, 1, ACK, 5, "", ""), Verdict(7, 1, 1, ACK, 6, "", "")]
    assert told(acks) == [(7, [0, 2], 0, [])]
