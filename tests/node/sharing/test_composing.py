"""Batches of moved records: what they keep, and what does not go together."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.protocol.batch import EXT_DEDUP_ID, EXT_DELIVER_AT, EXT_TRACE_ID, SYSTEM_PRODUCERS
from penstock.protocol.encoding import TIMESTAMP_SPAN_MS_MAX
from penstock.protocol.records import RecordBatch, encode_batch
from penstock_broker.node.sharing import composing
from penstock_broker.node.sharing.composing import Item, Load, compose, forward
from penstock_broker.node.sharing.timers import Timers

MOVER = SYSTEM_PRODUCERS + 1


def items_of(buffer: bytearray, sequence: int = 0, **fields: Any) -> list[Item]:
    batch = RecordBatch(buffer, verify=False)
    return [Item(sequence + place, batch, place, buffer, **fields) for place in range(len(batch))]


def test_a_whole_batch_is_not_opened() -> None:
    buffer = encode_batch(
        [b"a" * 500, b"b"], [b"k", None], codec=1, dedup_id=b"x", deliver_at_us=7,
        trace_id=bytes(16), key_slots=[3, 4], tenant_slots=[5, 6],
    )  # fmt: skip
    made = RecordBatch(compose(items_of(buffer, 40), MOVER), verify=False)
    assert made.raw_payload() == RecordBatch(buffer, verify=False).raw_payload()
    assert (made.header.producer_id, made.header.base_sequence) == (MOVER, 40)
    assert set(made.extensions) == {EXT_TRACE_ID}
    assert (list(made.key_slots or []), list(made.tenant_slots or [])) == ([3, 4], [5, 6])


def test_what_is_to_wait_on_keeps_its_time() -> None:
    buffer = encode_batch([b"a", b"b"], deliver_at_us=7, dedup_id=b"x")
    whole = RecordBatch(forward(buffer, MOVER, 0, 7), verify=False)
    part = RecordBatch(compose(items_of(buffer, deliver_at_us=7)[:1], MOVER), verify=False)
    for made in (whole, part):
        assert made.extensions[EXT_DELIVER_AT] == (7).to_bytes(8, "little")
        assert EXT_DEDUP_ID not in made.extensions


def test_records_of_several_batches_are_put_together() -> None:
    first = items_of(encode_batch([b"a", b"b"], headers=[{"x": b"1"}, None], key_slots=[1, 2]))
    second = items_of(encode_batch([b"c"], [b"k"], key_slots=[3]), 2, headers={"y": b"2"})
    made = RecordBatch(compose(first + second, MOVER), verify=False)
    assert made.values == [b"a", b"b", b"c"]
    assert made.keys == [None, None, b"k"]
    assert [dict(each) for each in made.headers] == [{"x": b"1"}, {}, {"y": b"2"}]
    assert list(made.key_slots or []) == [1, 2, 3]


def test_only_what_is_alike_goes_together() -> None:
    plain = items_of(encode_batch([b"a"]))[0]
    slots = items_of(encode_batch([b"b"], key_slots=[1]), 1)[0]
    for other in (
        slots,
        plain._replace(sequence=5),
        plain._replace(sequence=1, time_ms=3),
        plain._replace(sequence=1, deliver_at_us=3),
        plain._replace(sequence=1, batch=None),
    ):
        load = Load()
        assert load.take(plain, 1)
        assert not load.take(other, 1)
        assert not load.take(plain._replace(sequence=1), 2)
        assert load.take(plain._replace(sequence=1), 1)


def test_times_that_no_batch_can_hold_together_are_parted() -> None:
    load, item = Load(), items_of(encode_batch([b"a"]), time_ms=5)[0]
    assert load.take(item, 1)
    far = item._replace(sequence=1, time_ms=6 + TIMESTAMP_SPAN_MS_MAX)
    assert not load.take(far, 1)
    assert load.take(far._replace(time_ms=5 + TIMESTAMP_SPAN_MS_MAX), 1)


def test_a_batch_has_a_limit_of_bytes_unless_one_record_has_more() -> None:
    load, item = Load(), items_of(encode_batch([bytes(composing.BYTES_MAX + 1)]))[0]
    assert load.take(item, 1)
    assert not load.take(item._replace(sequence=1), 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(10**7), 10**13), max_size=40), st.integers(-(10**7), 10**13))
def test_upcoming_entries_are_told_in_order_from_any_time_on(delays: list[int], since: int) -> None:
    start = 1_700_000_000_000_000
    timers = Timers(start)
    for offset, delay in enumerate(delays):
        timers.add(offset, start + delay)
    entries = sorted((start + delay, offset) for offset, delay in enumerate(delays))
    expected = [entry for entry in entries if entry[0] >= start + since]
    assert list(timers.upcoming(start + since)) == expected
    assert len(timers) == len(delays)
