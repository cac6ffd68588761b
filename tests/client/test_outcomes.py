"""What leaving a record's block says about it."""

from __future__ import annotations

import asyncio
import logging

import pytest
import trio

import penstock
from penstock._drivers.outcomes import describe, single_cause
from penstock._drivers.sharing import SharedBatch, SharedRecord
from penstock.protocol.leases import ACK, NACK, REJECT, RELEASE
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def record(on_error: str = "nack") -> tuple[World, SharedRecord]:
    there = World(FakeCluster(t=1)).connect()
    there.publish(b"x")
    there.advance(0.1)
    shared = there.share(on_error=on_error, kinds=(SharedRecord, SharedBatch))
    [found] = there.take(shared)
    return there, found


def verdict(there: World) -> tuple[int, str, str]:
    """The verdict, its reason and its error."""
    there.advance(0.1)
    group = there.cluster.shared[("t", "g", 0)]
    [(_, kind)] = group.verdicts
    _, reason, error = group.reasons[0] if group.reasons else (0, "", "")
    return kind, reason, error


def fail(depth: int = 0) -> None:
    if depth:
        fail(depth - 1)
    raise LookupError("nothing is there")


def test_a_block_that_is_left_in_order_acks():
    there, found = record()
    with found as same:
        assert same is found
    assert verdict(there)[0] == ACK


def test_a_block_that_settled_by_itself_is_left_alone():
    there, found = record()
    with found:
        found.release()
    assert verdict(there)[0] == RELEASE


def test_an_exception_fails_the_attempt_and_is_told(caplog: pytest.LogCaptureFixture):
    there, found = record()
    with caplog.at_level(logging.WARNING, "penstock.client"), found:
        fail()
    kind, reason, error = verdict(there)
    assert (kind, reason) == (NACK, "LookupError")
    assert error.startswith("Traceback")
    assert error.endswith("LookupError: nothing is there")
    assert there.events("handler_failed")[0]["reason"] == "LookupError"
    assert "t/0@0" in caplog.text


def test_an_exception_is_raised_if_that_is_wanted():
    there, found = record("raise")
    with pytest.raises(LookupError), found:
        fail()
    assert verdict(there)[:2] == (NACK, "LookupError")


@pytest.mark.parametrize("on_error", ["nack", "raise"])
def test_retry_and_reject_end_in_the_block(on_error):
    there, found = record(on_error)
    with found:
        raise penstock.Retry("5m", reason="Busy")
    assert verdict(there)[:2] == (NACK, "Busy")
    assert there.cluster.shared[("t", "g", 0)].ready_us[0] > there.cluster.wall_us
    there, found = record(on_error)
    with found:
        raise penstock.Reject("bad", "no such field")
    assert verdict(there) == (REJECT, "bad", "no such field")


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_what_says_nothing_about_a_record_releases_it(error):
    there, found = record()
    with pytest.raises(error), found:
        raise error
    assert verdict(there)[0] == RELEASE


async def test_a_cancelled_scope_releases_at_once():
    there, found = record()
    with trio.CancelScope() as scope:
        async with found:
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert verdict(there)[0] == RELEASE


def test_a_group_of_one_is_what_is_in_it():
    error = ExceptionGroup("outer", [ExceptionGroup("inner", [penstock.Reject("bad")])])
    assert isinstance(single_cause(error), penstock.Reject)
    there, found = record()
    with found:
        raise error
    assert verdict(there)[:2] == (REJECT, "bad")


def test_a_group_with_a_cancellation_is_none_of_the_record():
    there, found = record()
    with pytest.raises(BaseExceptionGroup), found:
        raise BaseExceptionGroup("both", [ValueError("x"), KeyboardInterrupt()])
    assert verdict(there)[0] == RELEASE


def test_a_long_traceback_keeps_its_end():
    try:
        fail(100)
    except LookupError as error:
        text = describe(error)
    assert len(text) <= 2000
    assert text.endswith("LookupError: nothing is there")
    assert text.startswith(("Traceback", "  File", "    "))
    assert len(describe(LookupError("y" * 5000))) <= 2000


def test_a_batch_is_a_context_too():
    there = World(FakeCluster(t=1)).connect()
    for number in range(5):
        there.publish(b"%d" % number)
    there.advance(0.1)
    shared = there.share(kinds=(SharedRecord, SharedBatch))
    there.advance(0.1)
    batch = shared.take_batch()
    assert isinstance(batch, SharedBatch)
    asyncio.run(_leave(batch))
    there.run(shared.flush())
    group = there.cluster.shared[("t", "g", 0)]
    assert group.verdicts == [(offset, NACK) for offset in range(len(batch))]
    assert group.failed[0] == 1


async def _leave(batch: SharedBatch) -> None:
    async with batch:
        raise ValueError("no")
