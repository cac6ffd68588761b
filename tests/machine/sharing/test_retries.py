"""Rules of retries, of giving up, and of what is remembered of failures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadRequest, InvalidConfig
from penstock_broker.machine.effects import MovesWaiting, RecordsDelayed, RecordsSettled
from penstock_broker.machine.sharing import ops, trouble
from penstock_broker.machine.sharing.settings import (
    KEYS,
    RetryPolicy,
    SharedSettings,
    describe,
    merge,
    parse,
)
from penstock_broker.machine.sharing.trouble import ATTEMPT_BYTES
from tests.machine.replicas import SECOND
from tests.machine.sharing.sample import Partition


def fail(partition: Partition, times: int, **more: str) -> None:
    for _ in range(times):
        partition.wait(1_000)
        lease = partition.grant(0, 1)
        partition.nack(lease, 0, 1, **more)


def test_pauses_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(SharedSettings(jitter="none", retry_max_ms=10_000))
    pauses = [policy.pause_us(0, attempt, 0) // SECOND for attempt in range(1, 8)]
    assert pauses == [1, 2, 4, 8, 10, 10, 10]


def test_a_factor_of_one_keeps_the_pause() -> None:
    policy = RetryPolicy(SharedSettings(jitter="none", retry_factor=100))
    assert policy.pause_us(0, 1, 0) == policy.pause_us(0, 500, 0) == SECOND


def test_no_pause_stays_no_pause() -> None:
    policy = RetryPolicy(SharedSettings(retry_min_ms=0))
    assert policy.pause_us(3, 9, 4) == 0


@given(st.integers(0, 2**62), st.integers(1, 1000), st.integers(1, 2**62))
def test_jitter_takes_a_part_of_the_pause(offset: int, attempt: int, entry: int) -> None:
    plain = RetryPolicy(SharedSettings(jitter="none")).pause_us(offset, attempt, entry)
    policy = RetryPolicy(SharedSettings())
    pause = policy.pause_us(offset, attempt, entry)
    assert 0 <= pause <= plain
    assert pause == policy.pause_us(offset, attempt, entry)


def test_jitter_spreads_records_evenly() -> None:
    policy = RetryPolicy(SharedSettings())
    pauses = [policy.pause_us(offset, 1, 7) for offset in range(1_000)]
    quarters = [sum(1 for p in pauses if p * 4 // (SECOND + 1) == q) for q in range(4)]
    assert min(quarters) > 200
    assert len(set(pauses)) > 990


def test_jitter_never_changes_by_itself() -> None:
    assert RetryPolicy(SharedSettings()).pause_us(12, 3, 456) == 1_670_683


def test_a_nack_is_retried_after_the_pause() -> None:
    partition = Partition()
    lease = partition.grant(0, 2)
    partition.nack(lease, 0, 2, reason="Timeout", error="trace")
    ready = partition.now_us + SECOND
    assert partition.told(RecordsDelayed).records == [(0, ready), (1, ready)]
    (attempt,) = partition.group.troubles[0].attempts
    assert (attempt.kind, attempt.reason, attempt.error) == ("failed", "Timeout", "trace")
    assert (attempt.member, attempt.host) == ("ann", "host")
    assert attempt.ended_us == partition.now_us


def test_the_handler_may_say_when() -> None:
    partition = Partition()
    lease = partition.grant(0, 1)
    partition.nack(lease, 0, 1, ready_at_us=5)
    assert partition.told(RecordsDelayed).records == [(0, 5)]


def test_a_record_without_attempts_left_is_moved() -> None:
    partition = Partition(attempts_max=3)
    fail(partition, 3)
    assert partition.state(0) == "MOVING"
    assert partition.group.attempts(0) == (3, 3, 0, 0)
    assert partition.group.troubles[0].doom == "attempts"
    assert partition.effects_of(MovesWaiting)
    assert partition.told(RecordsSettled).done == []


def test_failures_and_timeouts_count_together() -> None:
    partition = Partition(attempts_max=2)
    lease = partition.grant(0, 1)
    partition.wait(31)
    partition.expire(lease)
    fail(partition, 1)
    assert partition.state(0) == "MOVING"
    assert partition.group.attempts(0) == (2, 1, 1, 0)


def test_attempts_may_be_unlimited() -> None:
    partition = Partition(attempts_max=-1)
    fail(partition, 40)
    assert partition.state(0) == "DELAYED"
    assert len(partition.group.troubles[0].attempts) == trouble.ATTEMPTS_MAX
    assert partition.group.troubles[0].forgotten == 20


def test_some_reasons_are_never_retried() -> None:
    partition = Partition(never_retry="BadInput, Forbidden")
    fail(partition, 1, reason="Forbidden")
    assert partition.state(0) == "MOVING"
    assert partition.group.troubles[0].doom == "never_retry"


def test_a_reject_is_final() -> None:
    partition = Partition()
    lease = partition.grant(0, 1)
    partition.settle(lease, ops.REJECT, 0, 1, reason="schema", error="x" * 5_000)
    found = partition.group.troubles[0]
    assert (found.doom, found.failed) == ("rejected", 0)
    assert found.attempts[0].reason == "schema"
    assert len(found.attempts[0].error) == ops.ERROR_CHARACTERS_MAX


def test_without_dead_letters_records_are_dropped_and_counted() -> None:
    partition = Partition(dead_letters="drop", attempts_max=1)
    fail(partition, 1)
    assert partition.group.start == 1
    assert partition.group.counters.dropped == 1
    assert not partition.group.troubles


def test_what_is_done_is_forgotten() -> None:
    partition = Partition()
    fail(partition, 2, error="trace")
    partition.wait(100)
    partition.ack(partition.grant(0, 1), 0, 1)
    assert not partition.group.troubles
    assert partition.group.troubles.history_bytes == 0


def test_history_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "HISTORY_BYTES_MAX", 8 * ATTEMPT_BYTES)
    partition = Partition()
    lease = partition.grant(0, 9)
    for offset in range(9):
        partition.nack(lease, offset, 1)
    troubles = partition.group.troubles
    assert troubles.history_bytes <= 8 * ATTEMPT_BYTES
    assert (troubles[0].forgotten, troubles[0].failed) == (1, 1)
    assert (troubles[8].forgotten, len(troubles[8].attempts)) == (0, 1)


# ----- settings


def test_every_setting_has_a_default_that_it_admits() -> None:
    defaults = {name: getattr(SharedSettings(), name) for name in SharedSettings.__struct_fields__}
    assert list(defaults) == list(KEYS)
    assert parse(defaults) == dict(sorted(defaults.items()))
    assert [row["name"] for row in describe({})] == list(KEYS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease_ms": "10ms"},
        {"lease_ms": "13h"},
        {"attempts_max": 0},
        {"attempts_max": "five"},
        {"retry_factor": 99},
        {"jitter": "some"},
        {"retry_min_ms": "1h", "retry_max_ms": "1m"},
        {"concurrency": 3},
        {"never_retry": "a,,b"},
        {"never_retry": 7},
        {"strict": True},
        {"colour": "red"},
    ],
)
def test_other_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        parse(wrong)


def test_settings_may_be_written_as_people_do() -> None:
    found = parse({"lease_ms": "1m30s", "attempts_max": "-1", "never_retry": " A , B "})
    assert found == {"lease_ms": 90_000, "attempts_max": -1, "never_retry": "A,B"}
    assert merge(found, {"never_retry": None, "attempts_max": "7"}) == {
        "lease_ms": 90_000,
        "attempts_max": 7,
    }


def test_one_nack_may_have_a_time_for_each_span() -> None:
    partition = Partition()
    lease = partition.grant(0, 9)
    soon = partition.now_us + SECOND
    partition.nack(lease, 0, 2, 2, 3, 7, 1, times=[soon, 0, soon + 5])
    policy = partition.now_us + SECOND * partition.group.settings.retry_min_ms // 1000
    ready = [partition.group.window.ready_at(offset) for offset in range(9)]
    assert ready == [soon, soon, policy, policy, policy, 0, 0, soon + 5, 0]
    assert partition.group.leases[lease].left == 3


def test_only_a_nack_has_times_and_one_for_each_span() -> None:
    partition = Partition()
    lease = partition.grant(0, 9)
    assert partition.nack(lease, 0, 2, 2, 3, times=[5]).code == BadRequest.code
    assert partition.settle(lease, ops.ACK, 0, 2, times=[5]).code == BadRequest.code
    assert partition.group.leases[lease].left == 9


def test_records_that_went_through_the_same_share_what_is_known_of_it() -> None:
    partition = Partition()
    lease = partition.grant(0, 50)
    partition.nack(lease, 0, 50, reason="Timeout")
    troubles = partition.group.troubles
    assert len(troubles) == 50
    assert len({id(each) for each in troubles.values()}) == 1
    assert len(troubles.rows()) == 1


def test_those_of_different_ways_stay_apart_in_a_snapshot() -> None:
    partition = Partition()
    for _ in range(2):
        partition.wait(1_000)
        lease = partition.grant(3, 2)
        partition.nack(lease, 3, 1)
        partition.ack(lease, 4, 1) if partition.lease == 1 else None
    partition.wait(1_000)
    lease = partition.grant(0, 3, 5, 2)
    partition.nack(lease, 0, 3, 5, 2)
    rows = partition.group.troubles.rows()
    assert [(first, count, each.failed) for first, count, each in rows] == [
        (3, 1, 2), (0, 3, 1), (5, 2, 1),
    ]  # fmt: skip
    again = trouble.Troubles(rows)
    assert list(again.items()) == list(partition.group.troubles.items())
    assert again.history_bytes == partition.group.troubles.history_bytes
