"""Worker threads: jobs in order, errors handed back."""

from __future__ import annotations

import select
import threading

from penstock_broker.runtime.worker import Worker


class Note:
    """A job that notes that it ran."""

    def __init__(self, ran: list[int], number: int) -> None:
        self.ran = ran
        self.number = number

    def run(self) -> None:
        self.ran.append(self.number)
        if self.number == 2:
            raise OSError(5, "simulated")


def test_jobs_run_in_order_and_errors_come_back() -> None:
    worker = Worker("test")
    ran: list[int] = []
    for number in range(4):
        worker.submit(Note(ran, number))
    done = []
    while len(done) < 4:
        select.select([worker.eventfd], [], [], 5)
        done += worker.finished()
    assert ran == [0, 1, 2, 3]
    assert [error is not None for _, error in done] == [False, False, True, False]
    assert worker.busy == 0
    assert worker.finished() == []
    assert worker.close(5)


def test_a_quick_job_can_be_waited_for_and_a_slow_one_is_given_up() -> None:
    worker = Worker("test")
    goes_on = threading.Event()

    class Slow:
        def run(self) -> None:
            goes_on.wait()

    worker.submit(Slow())
    assert not worker.wait(0.001)
    goes_on.set()
    assert worker.wait(5)
    assert len(worker.finished()) == 1
    assert worker.close(5)
