"""Rules of moves, dead letters, delayed records, retention, and of groups as a whole."""

from __future__ import annotations

import pytest

from penstock.errors import BadRequest, InvalidConfig, LimitExceeded
from penstock.protocol.batch import HEADER_BYTES
from penstock.protocol.extensions import EXT_DELIVER_AT, pack_extensions
from penstock_broker.machine import stamp
from penstock_broker.machine.commands import HoldFloor, RemoveShared, Trim
from penstock_broker.machine.effects import (
    LogStartMoved,
    RecordsFreed,
    RecordsHeld,
    RecordsSettled,
    SharedConfigured,
    SharedRemoved,
)
from penstock_broker.machine.producers import UNKNOWN_OFFSET
from penstock_broker.machine.sharing import moves, moving, ops, sharing
from penstock_broker.machine.sharing.moves import PendingMove
from penstock_broker.machine.sharing.ops import ACK, NACK, REJECT
from penstock_broker.machine.sharing.replies import Moving, Purged, Redriven, Settled
from tests.machine.replicas import SECOND
from tests.machine.sharing.sample import Partition


def dying(*spans: int, **settings: object) -> Partition:
    """A group in which these records are MOVING."""
    partition = Partition(**settings)
    lease = partition.grant(*spans)
    partition.settle(lease, REJECT, *spans, reason="schema")
    return partition


# ----- moves


def test_moves_get_dense_sequence_numbers() -> None:
    partition = dying(0, 3)
    assert partition.op(ops.Move("g", [0, 2], 77)) == Moving(0, [0, 2])
    assert partition.op(ops.Move("g", [0, 1, 2, 3], 77)) == Moving(2, [1])
    assert partition.group.moves.pending == [
        PendingMove(0, 0, 77, "rejected"),
        PendingMove(1, 2, 77, "rejected"),
        PendingMove(2, 1, 77, "rejected"),
    ]


def test_a_log_that_lost_entries_gives_no_sequence_number_twice() -> None:
    partition = dying(0, 3)
    assert partition.op(ops.Move("g", [0], 77)) == Moving(0, [0])
    partition.term = 3 + stamp.TERM_LEAP
    assert partition.op(ops.Move("g", [1], 77)) == Moving(moves.LIFE_SEQUENCES, [1])
    assert partition.op(ops.Move("g", [2], 77)) == Moving(moves.LIFE_SEQUENCES + 1, [2])
    assert partition.group.moves.pending[0] == PendingMove(0, 0, 77, "rejected")


def test_a_confirmed_move_is_done_and_remembered() -> None:
    partition = dying(0, 3)
    partition.op(ops.Move("g", [0, 1, 2], 77))
    partition.op(ops.Moved("g", 1, 500))
    assert partition.group.start == 2
    assert partition.group.moves.recent == {0: (77, 500), 1: (77, 501)}
    assert partition.told(RecordsSettled).done == [0, 2]
    partition.op(ops.Moved("g", 1, 500))
    partition.op(ops.Moved("g", 2, UNKNOWN_OFFSET))
    assert partition.group.moves.recent[2] == (77, UNKNOWN_OFFSET)
    assert partition.group.counters.moved == 3


def test_a_move_that_began_can_not_be_acked() -> None:
    partition = dying(0, 2)
    partition.op(ops.Move("g", [0], 77))
    assert partition.ack(1, 0, 2) == Settled(1, 1, 0, [0, 1])
    assert partition.state(0) == "MOVING"


def test_a_move_begins_anew_towards_another_target() -> None:
    partition = dying(0, 2)
    partition.op(ops.Move("g", [0, 1], 77))
    assert partition.op(ops.Move("g", [0, 1], 88)) == Moving(2, [0, 1])
    assert {move.target for move in partition.group.moves.pending} == {88}


def test_moves_under_way_and_remembered_ones_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "PENDING_MAX", 3)
    monkeypatch.setattr(moves, "RECENT_MAX", 2)
    partition = dying(0, 5)
    assert partition.op(ops.Move("g", [0, 1], 77)) == Moving(0, [0, 1])
    assert partition.op(ops.Move("g", [2, 3, 4], 77)) == Moving(2, [2])
    assert partition.op(ops.Move("g", [1, 2, 3, 4], 77)).code == LimitExceeded.code
    partition.op(ops.Moved("g", 2, 10))
    assert list(partition.group.moves.recent) == [1, 2]


@pytest.mark.parametrize(("offsets", "target"), [([1, 0], 77), ([1, 1], 77), ([0], 0)])
def test_a_malformed_move_is_refused(offsets: list[int], target: int) -> None:
    partition = dying(0, 2)
    assert partition.op(ops.Move("g", offsets, target)).code == BadRequest.code


def test_what_can_not_be_moved_may_be_dropped() -> None:
    partition = dying(0, 3)
    partition.grant(3, 1)
    partition.op(ops.Move("g", [0], 77))
    assert partition.op(ops.Drop("g", [0, 2, 3, 1], "gone")) == Purged(2, [0, 2])
    assert partition.group.start == 2
    assert not partition.group.moves.pending
    assert partition.group.counters.dropped == 2


# ----- dead letters


@pytest.fixture
def held() -> Partition:
    return Partition("hold", records=5, redrives_max=2, attempts_max=2)


def test_dead_letters_are_held_as_they_arrive(held: Partition) -> None:
    assert held.group.window.runs(5) == [(0, 5)]
    held.append(3)
    assert held.group.window.runs(5) == [(0, 8)]
    assert held.op(ops.Grant("g", 1, "a", "h", [0, 8], 0)).spans == []


def test_a_group_made_later_holds_what_is_there() -> None:
    partition = Partition(records=5)
    partition.apply(RemoveShared(group="g"))
    partition.configure(kind="hold", start_offset=2)
    assert partition.group.window.runs(5) == [(2, 3)]


def test_redriving_frees_dead_letters_for_their_group(held: Partition) -> None:
    assert held.op(ops.Redrive("g", [1, 2, 4, 3])) == Redriven(3, [], [5, 2])
    assert held.told(RecordsFreed).spans == [1, 2, 4, 1]
    assert held.op(ops.Redrive("g", [1, 1])) == Redriven(0, [], [1, 1])
    lease = held.grant(1, 1)
    held.ack(lease, 1, 1)
    assert held.state(1) == "DONE"


def test_a_redriven_record_has_all_its_attempts_again(held: Partition) -> None:
    held.op(ops.Redrive("g", [0, 1]))
    for failed in (1, 2):
        held.wait(1_000)
        held.nack(held.grant(0, 1), 0, 1)
        assert held.group.attempts(0) == (failed, failed, 0, 1)
    assert held.state(0) == "HELD"
    assert held.told(RecordsHeld).spans == [0, 1]
    held.op(ops.Redrive("g", [0, 1]))
    held.nack(held.grant(0, 1), 0, 1)
    assert held.state(0) == "DELAYED"
    assert held.group.attempts(0) == (3, 3, 0, 2)


def test_redriving_does_not_go_on_for_ever(held: Partition) -> None:
    for _ in range(2):
        held.op(ops.Redrive("g", [0, 1]))
        held.settle(held.grant(0, 1), REJECT, 0, 1)
    assert held.op(ops.Redrive("g", [0, 2])) == Redriven(1, [0, 1], [])
    assert held.op(ops.Redrive("g", [0, 1], force=True)) == Redriven(1, [], [])


def test_dead_letters_are_purged(held: Partition) -> None:
    assert held.op(ops.Purge("g", [0, 2, 3, 9])) == Purged(4, [0, 2, 3, 2])
    assert held.group.start == 2


def test_only_what_was_redriven_can_be_acked_late(held: Partition) -> None:
    held.op(ops.Redrive("g", [0, 1]))
    lease = held.grant(0, 1)
    held.settle(lease, REJECT, 0, 1)
    assert held.state(0) == "HELD"
    assert held.ack(lease, 0, 2) == Settled(1, 1, 0, [1, 1])


def test_only_dead_letters_are_redriven() -> None:
    assert Partition().op(ops.Redrive("g", [0, 1])).code == BadRequest.code


# ----- delayed records


def delayed_batch(partition: Partition, count: int, deliver_at_us: int) -> None:
    area = pack_extensions([(EXT_DELIVER_AT, deliver_at_us.to_bytes(8, "little"))])
    head = (count, 0, 0, 0, len(area))
    first = partition.machine.end_offset
    partition.machine.apply_appended(head, 1, first, 0, bytes(HEADER_BYTES) + area)


def test_delayed_records_move_when_their_time_has_come() -> None:
    partition = Partition("timer", records=0)
    delayed_batch(partition, 2, partition.now_us + 10 * SECOND)
    delayed_batch(partition, 1, partition.now_us + 5 * SECOND)
    assert [offset for offset, _ in partition.group.window.delayed()] == [0, 1, 2]
    partition.wait(5)
    assert partition.op(ops.Move("g", [0, 1, 2], 9)) == Moving(0, [2])
    partition.wait(5)
    assert partition.op(ops.Move("g", [0, 1], 9)) == Moving(1, [0, 1])
    assert [move.reason for move in partition.group.moves.pending] == ["due"] * 3
    partition.op(ops.Moved("g", 2, 0))
    assert partition.group.start == 3


def test_a_batch_that_names_no_time_is_due_at_once() -> None:
    partition = Partition("timer", records=2)
    assert partition.op(ops.Move("g", [0, 1], 9)) == Moving(0, [0, 1])


def test_a_delayed_record_can_be_cancelled_until_it_moves() -> None:
    partition = Partition("timer", records=3)
    partition.op(ops.Move("g", [0], 9))
    assert partition.op(ops.Purge("g", [0, 2])) == Purged(1, [1, 1])


@pytest.mark.parametrize(
    "op", [ops.Grant("g", 1, "a", "h", [0, 1], 9), ops.Settle("g", 1, ACK, [0, 1])]
)
def test_delayed_records_have_no_consumers(op: ops.ShareOp) -> None:
    assert Partition("timer", records=3).op(op).code == BadRequest.code


# ----- retention and age


def test_overtaken_records_are_counted() -> None:
    partition = Partition()
    lease = partition.grant(0, 2, 5, 1)
    assert partition.op(ops.Overtake("g", 10, "")) == Purged(10, [0, 10])
    assert partition.group.start == partition.group.end == 10
    assert partition.told(RecordsSettled).ended == [lease]
    assert partition.group.counters.overtaken == 10


def test_overtaken_records_may_be_saved_as_dead_letters() -> None:
    partition = Partition(overtaken="dead_letter")
    partition.ack(partition.grant(0, 2), 1, 1)
    assert partition.op(ops.Overtake("g", 4, "too old")) == Purged(0, [])
    assert partition.group.window.runs(4) == [(0, 1), (2, 2)]
    assert partition.group.troubles[3].doom == "too old"
    assert partition.op(ops.Overtake("g", 4, "")) == Purged(0, [])
    assert partition.group.counters.overtaken == 3


def test_overtaking_leaves_moves_alone_and_a_trim_does_not() -> None:
    partition = dying(0, 2)
    partition.op(ops.Move("g", [0], 77))
    partition.op(ops.Overtake("g", 5, ""))
    assert (partition.state(0), partition.state(1), partition.state(4)) == (
        "MOVING", "MOVING", "DONE",
    )  # fmt: skip
    assert partition.group.start == 0
    partition.apply(Trim(offset=5))
    assert partition.group.start == 5
    assert not partition.group.moves.pending
    assert partition.effects_of(LogStartMoved)
    assert partition.told(RecordsSettled).done == [0, 2]


def test_a_trim_costs_a_group_behind_it_nothing() -> None:
    partition = Partition(records=10_000_000)
    partition.apply(Trim(offset=9_000_000))
    assert partition.group.start == partition.group.end == 9_000_000
    assert partition.told(RecordsSettled).done == [0, 9_000_000]


def test_old_records_are_given_up() -> None:
    partition = Partition()
    lease = partition.grant(0, 2)
    partition.settle(lease, NACK, 0, 1)
    assert partition.op(ops.Outdate("g", [0, 4])) == Purged(0, [])
    assert partition.group.window.runs(4) == [(0, 1), (2, 2)]
    assert partition.state(1) == "LEASED"
    assert partition.group.counters.expired_age == 3


# ----- groups


def test_a_group_takes_over_later_revisions_only() -> None:
    partition = Partition()
    partition.settings = {"lease_ms": "5s"}
    partition.configure(revision=1)
    assert partition.group.settings.lease_ms == 30_000
    partition.configure(revision=2, start_offset=50)
    assert partition.group.settings.lease_ms == 5_000
    assert (partition.group.start, partition.group.dead) == (0, 77)
    assert partition.told(SharedConfigured).group == "g"


def test_a_group_made_anew_forgets() -> None:
    partition = Partition()
    before = partition.group.incarnation
    partition.grant(0, 5)
    partition.configure(revision=5, id="g-2", start_offset=40)
    assert partition.group.start == partition.group.end == 40
    assert partition.group.incarnation > before
    assert [type(effect) for effect in partition.effects] == [SharedRemoved, SharedConfigured]


def test_a_group_is_removed_once() -> None:
    partition = Partition()
    partition.apply(RemoveShared(group="g"))
    assert partition.told(SharedRemoved).group == "g"
    partition.apply(RemoveShared(group="g"))
    assert not partition.effects
    assert partition.machine.floor is None


@pytest.mark.parametrize(
    "wrong", [{"kind": "odd"}, {"group": "a b"}, {"kind": "hold", "id": "g-1"}]
)
def test_an_impossible_group_is_refused(wrong: dict[str, str]) -> None:
    partition = Partition()
    fields = {"group": "g", "id": "x", "kind": "shared", **wrong}
    command = sharing.ConfigureShared(revision=9, settings={}, start_offset=0, **fields)
    assert partition.refuse(command) is BadRequest


def test_impossible_settings_and_too_many_groups_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = Partition()
    odd = sharing.ConfigureShared(group="o", revision=1, settings={"odd": 1}, start_offset=0)
    assert partition.refuse(odd) is InvalidConfig
    monkeypatch.setattr(sharing, "GROUPS_MAX", 1)
    more = sharing.ConfigureShared(group="o", revision=1, settings={}, start_offset=0)
    assert partition.refuse(more) is LimitExceeded


def test_a_group_starts_within_the_log() -> None:
    partition = Partition()
    partition.apply(RemoveShared(group="g"))
    partition.configure(start_offset=1_000)
    assert partition.group.start == 100


def test_the_floor_is_that_of_all_kinds_of_groups() -> None:
    partition = Partition()
    assert partition.machine.floor == 0
    partition.ack(partition.grant(0, 9), 0, 9)
    assert partition.machine.floor == 9
    partition.apply(HoldFloor(group="ordered", offset=4))
    assert partition.machine.floor == 4
