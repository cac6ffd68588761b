"""The disk's side of a round: flushes and jobs go to threads, what was finished comes back.

Three threads: the committer writes one flush at a time, the background thread segments and
checkpoints, the reader what is not in memory. Their eventfds lie in the reactor's epoll. A disk
error stops the process: it is never retried.
"""

from __future__ import annotations

import select
from typing import Final

from penstock.errors import PenstockError, StorageFailure
from penstock_broker.node.fetches import ColdRead
from penstock_broker.node.node import Node
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.runtime.worker import Worker
from penstock_broker.storage import Job

BACKGROUND_JOBS_MAX: Final = 2
AWAITED_FLUSH_BYTES_MAX: Final = 256 * 1024
AWAITED_FLUSH_SECONDS_MAX: Final = 0.002
"""How long a round waits for a small flush: longer than a quick disk needs."""
SLOW_DISK_SECONDS: Final = 0.25
"""How long no flush is waited for after one that took longer."""
JOB_SECONDS_MAX: Final = 2.0
"""How long the end of the broker waits for a job that is under way."""

NODE_WORK: Final = (Job, ColdRead, SharedRead)


class Fatal(Exception):
    """The process must stop: what the disk holds is no longer certain."""


class Disk:
    """Carries out a node's flushes, jobs and reads.

    Attributes:
        committer: the thread that writes flushes.
        workers: all threads, by their eventfds.
    """

    def __init__(self, node: Node, epoll: select.epoll) -> None:
        self.committer = Worker("penstock-committer")
        self._background = Worker("penstock-background")
        self._reader = Worker("penstock-reader")
        threads = (self.committer, self._background, self._reader)
        self.workers = {worker.eventfd: worker for worker in threads}
        for eventfd in self.workers:
            epoll.register(eventfd, select.EPOLLIN)
        self._node = node
        self._await_flushes_at = 0.0

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return any(worker.busy for worker in self.workers.values())

    @property
    def writing(self) -> bool:
        """Whether a flush or a job is under way."""
        return bool(self.committer.busy or self._background.busy)

    def commit(self) -> None:
        """Hand the next flush to the committer; a small one may be done, and answered, at once.

        While this thread sleeps the committer need not ask for the interpreter lock at each of its
        calls, which takes longer than a quick disk does.

        Raises:
            Fatal: the flush that was waited for failed.
        """
        committer = self.committer
        for may_wait in (True, True, False):
            flush = None if committer.busy else self._node.store.take_flush()
            if flush is None:
                return
            committer.submit(flush)
            if not may_wait or flush.length > AWAITED_FLUSH_BYTES_MAX:
                return
            if self._node.clock < self._await_flushes_at:
                return
            if not committer.wait(AWAITED_FLUSH_SECONDS_MAX):
                self._await_flushes_at = self._node.clock + SLOW_DISK_SECONDS
                return
            self.take_finished(committer)
            self._node.end_round()

    def submit_jobs(self) -> None:
        """Hand out what is to be done beside the log."""
        node = self._node
        while self._background.busy < BACKGROUND_JOBS_MAX:
            job = node.store.take_job()
            if job is None:
                break
            self._background.submit(job)
        for read in node.take_reads():
            self._reader.submit(read)

    def take_finished(self, worker: Worker) -> None:
        """Tell the node what a thread has done.

        Raises:
            Fatal: a job failed.
        """
        for job, error in worker.finished():
            assert isinstance(job, NODE_WORK), "the node knows of no others"
            if error is not None and not isinstance(error, PenstockError):
                raise Fatal(f"a disk job failed: {error!r}") from error
            if isinstance(error, StorageFailure):
                raise Fatal(str(error)) from error
            self._node.job_done(job, error)

    def close(self) -> bool:
        """End the threads; False: the disk hangs, and a thread with it."""
        ended = [worker.close(JOB_SECONDS_MAX) for worker in self.workers.values()]
        return all(ended)
