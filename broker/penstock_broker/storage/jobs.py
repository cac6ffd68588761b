"""Work on the disk as objects: made and finished in the owner thread, run anywhere.

`run()` touches only the disk and what the job was given; `finish()` puts the outcome into the
owner's state. A job that must not go on raises StorageFailure from `run()`, and the broker stops.
The one error that is waited out is a full disk on a write whose bytes the WAL still holds.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import ClassVar

from penstock.errors import StorageFailure

Flushed = list[tuple[int, int, int]]
"""(group, last index, last term) of what a flush made durable."""


def is_full(error: OSError) -> bool:
    """Whether an error says that the disk, or the quota on it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Job(ABC):
    """One piece of disk work."""

    name: ClassVar[str]
    waits_for_space: ClassVar[bool] = False

    def __init__(self) -> None:
        self.full = False
        """Whether the disk was full: nothing is lost, the work is tried again later."""

    def run(self) -> None:
        """Do the work; blocks.

        Raises:
            StorageFailure: a write or sync failed.
        """
        try:
            self.work()
        except OSError as error:
            if self.waits_for_space and is_full(error):
                self.full = True
                return
            raise StorageFailure(f"{self.name} failed: {error}", job=self.name) from error

    @abstractmethod
    def work(self) -> None:
        """The disk side."""

    @abstractmethod
    def finish(self) -> Flushed:
        """The owner's side, after `run()`."""
