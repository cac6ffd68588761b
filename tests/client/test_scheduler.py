"""Tickets, processes, timers and bells."""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from random import Random

import pytest

from penstock._core.scheduler import Bell, Scheduler, Ticket
from penstock.errors import ClientClosed, Throttled


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(Random(1), lambda: None)


def pass_time(scheduler: Scheduler, now: float) -> None:
    scheduler.advance(now, 0)
    scheduler.run()


def test_a_process_goes_on_with_the_value_of_the_ticket_it_waits_for(scheduler: Scheduler) -> None:
    ticket: Ticket[int] = Ticket()

    def body() -> Generator:
        first = yield ticket
        second = yield ticket
        return first + second

    process = scheduler.spawn(body())
    assert not process.done
    scheduler.complete(ticket, 20)
    assert not process.done
    scheduler.run()
    assert process.result() == 40


def test_a_failed_ticket_is_raised_where_it_is_waited_for(scheduler: Scheduler) -> None:
    ticket: Ticket[int] = Ticket()

    def body() -> Generator:
        try:
            yield ticket
        except Throttled as error:
            return str(error)

    process = scheduler.spawn(body())
    scheduler.fail(ticket, Throttled("slowly"))
    scheduler.run()
    assert process.result() == "slowly"


def test_an_error_is_raised_as_a_fresh_copy_for_every_waiter(scheduler: Scheduler) -> None:
    ticket: Ticket[int] = Ticket()
    scheduler.fail(ticket, Throttled("slowly", limit=7))
    caught = []
    for _ in range(2):
        with pytest.raises(Throttled) as info:
            ticket.result()
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert caught[1].detail == {"limit": 7}


def test_the_first_settlement_counts(scheduler: Scheduler) -> None:
    ticket: Ticket[int] = Ticket()
    scheduler.complete(ticket, 1)
    scheduler.complete(ticket, 2)
    scheduler.fail(ticket, Throttled())
    assert ticket.result() == 1


def test_cancelling_runs_the_cleanup_and_tells_the_waiters(scheduler: Scheduler) -> None:
    cleaned = []

    def body() -> Generator:
        try:
            yield Ticket()
        finally:
            cleaned.append(True)

    process = scheduler.spawn(body())
    process.waiters.append("somebody")
    process.cancel()
    assert cleaned == [True]
    assert scheduler.take_woken() == ["somebody"]
    assert not scheduler.processes
    with pytest.raises(ClientClosed):
        process.result()
    process.cancel()


def test_a_cancelled_process_is_not_resumed_by_its_ticket(scheduler: Scheduler) -> None:
    ticket: Ticket[int] = Ticket()

    def body() -> Generator:
        yield ticket
        raise AssertionError("it was cancelled")

    process = scheduler.spawn(body())
    scheduler.complete(ticket, 1)
    process.cancel()
    scheduler.run()
    waiting = scheduler.spawn(body())
    waiting.cancel()
    assert process.done
    assert waiting.done


def test_a_process_that_cancels_itself_goes_on(scheduler: Scheduler) -> None:
    def body() -> Generator:
        yield ticket
        for process in list(scheduler.processes):
            process.cancel()
        return "to the end"

    ticket: Ticket[None] = Ticket()
    process = scheduler.spawn(body())
    scheduler.complete(ticket)
    scheduler.run()
    assert process.result() == "to the end"


def test_the_failure_of_an_essential_process_is_kept(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def body() -> Generator:
        yield ticket
        raise ZeroDivisionError

    ticket: Ticket[None] = Ticket()
    scheduler.spawn(body(), essential=True)
    scheduler.complete(ticket)
    scheduler.run()
    assert isinstance(scheduler.crashed, ZeroDivisionError)
    assert "a part of the client failed" in caplog.text


def test_timers_fire_in_order_and_once(scheduler: Scheduler) -> None:
    fired: list[str] = []
    scheduler.at(3.0, lambda: fired.append("c"))
    scheduler.at(1.0, lambda: fired.append("a"))
    scheduler.at(1.0, lambda: fired.append("b"))
    cancelled = scheduler.at(2.0, lambda: fired.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    assert scheduler.next_deadline() == 1.0
    pass_time(scheduler, 1.0)
    assert fired == ["a", "b"]
    assert scheduler.next_deadline() == 3.0
    pass_time(scheduler, 9.0)
    assert fired == ["a", "b", "c"]
    assert scheduler.next_deadline() == inf


def test_cancelled_timers_do_not_pile_up(scheduler: Scheduler) -> None:
    for number in range(10_000):
        scheduler.at(1000.0 + number, lambda: None).cancel()
    assert len(scheduler._timers) < 1000


def test_a_bell_wakes_all_who_wait_at_that_moment(scheduler: Scheduler) -> None:
    bell = Bell(scheduler)
    first, second = bell.wait(), bell.wait(until=5.0)
    bell.ring()
    later = bell.wait()
    assert (first.done, second.done, later.done) == (True, True, False)
    assert scheduler.next_deadline() == inf


def test_a_wait_for_a_bell_ends_at_its_time(scheduler: Scheduler) -> None:
    bell = Bell(scheduler)
    ticket = bell.wait(until=5.0)
    pass_time(scheduler, 4.9)
    assert not ticket.done
    pass_time(scheduler, 5.0)
    assert ticket.done


def test_watched_deadlines_are_swept_together(scheduler: Scheduler) -> None:
    swept: list[float] = []

    def sweep(now: float) -> float:
        swept.append(now)
        return 7.0 if len(swept) == 1 else inf

    scheduler.add_sweeper(sweep)
    scheduler.watch(2.0)
    scheduler.watch(3.0)
    pass_time(scheduler, 2.0)
    assert swept == []
    pass_time(scheduler, 2.1)
    assert swept == [2.1]
    assert scheduler.next_deadline() == pytest.approx(7.05)
    pass_time(scheduler, 8.0)
    assert scheduler.next_deadline() == inf


def test_a_turn_is_asked_for_once() -> None:
    signals: list[int] = []
    scheduler = Scheduler(Random(1), lambda: signals.append(1))
    ticket: Ticket[None] = Ticket()
    scheduler.complete(ticket)
    scheduler.request_turn()
    assert len(signals) == 1
    scheduler.release()
    scheduler.request_turn()
    assert len(signals) == 2
    scheduler.hold()
    scheduler.request_turn()
    assert len(signals) == 2


def test_a_forgotten_waiter_is_not_woken(scheduler: Scheduler) -> None:
    ticket: Ticket[None] = Ticket()
    ticket.waiters.extend(["a", "b", "c"])
    scheduler.forget(ticket, "a")
    scheduler.complete(ticket)
    scheduler.forget(ticket, "b")
    assert scheduler.take_woken() == ["c"]
    assert scheduler.take_woken() == []
