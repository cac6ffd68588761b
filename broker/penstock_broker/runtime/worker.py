"""Threads that run the store's jobs: one job at a time each, results through an eventfd.

A job is any object with `run()`. It touches only files and what it owns, so nothing is locked. The
reactor learns of a finished job from the eventfd, which lies in its epoll like any socket.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Protocol


class Work(Protocol):
    """A piece of work."""

    def run(self) -> None:
        """Do it; blocks."""


class Worker:
    """One thread and its queue."""

    def __init__(self, name: str) -> None:
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.busy = 0
        self.since: float | None = None
        """Since when it works without having finished anything; None: it has nothing to do."""
        self._jobs: SimpleQueue[Work | None] = SimpleQueue()
        self._done: deque[tuple[Work, BaseException | None]] = deque()
        self._poll = select.poll()
        self._poll.register(self.eventfd, select.POLLIN)
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Work) -> None:
        """Queue a job; the owner bounds how many are under way."""
        if not self.busy:
            self.since = time.monotonic()
        self.busy += 1
        self._jobs.put(job)

    def finished(self) -> list[tuple[Work, BaseException | None]]:
        """Take what was finished since the last call, with the error of each, if any."""
        try:
            os.eventfd_read(self.eventfd)
        except BlockingIOError:
            return []
        done = []
        while self._done:
            done.append(self._done.popleft())
        self.busy -= len(done)
        self.since = time.monotonic() if self.busy else None
        return done

    def wait(self, seconds_max: float) -> bool:
        """Block until a job is finished; False: it takes longer than this.

        The thread has the interpreter for itself meanwhile.
        """
        return bool(self._poll.poll(seconds_max * 1000))

    def close(self, seconds_max: float) -> bool:
        """End the thread after the jobs queued so far; False: a job hangs, and is left alone."""
        self._jobs.put(None)
        self._thread.join(seconds_max)
        if self._thread.is_alive():
            return False
        os.close(self.eventfd)
        return True

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            error: BaseException | None = None
            try:
                job.run()
            except BaseException as failure:
                error = failure
            self._done.append((job, error))
            os.eventfd_write(self.eventfd, 1)
