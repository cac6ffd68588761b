"""Exit codes: what each means, and which error ends the program with which code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from penstock import errors


class Exit(IntEnum):
    """The exit codes of every command; they never change their meaning."""

    OK = 0
    ERROR = 1
    USAGE = 2
    PARTIAL = 3
    NOT_FOUND = 4
    DENIED = 5
    REFUSED = 6
    UNREACHABLE = 7
    UNHEALTHY = 10
    DISK_FAILED = 70
    STALE = 71
    DIVERGED = 72
    INTERRUPTED = 130


MEANING: Final[Mapping[Exit, str]] = {
    Exit.OK: "done",
    Exit.ERROR: "an error that is none of the others",
    Exit.USAGE: "the command line, a name or a setting is wrong",
    Exit.PARTIAL: "a part was done; the message says which",
    Exit.NOT_FOUND: "no such topic, partition, group, record or schedule",
    Exit.DENIED: "not allowed",
    Exit.REFUSED: "refused: not confirmed, or the state does not permit it",
    Exit.UNREACHABLE: "no broker answers, or not in time",
    Exit.UNHEALTHY: "it answers, but it is not well (doctor, log, lag limits)",
    Exit.DISK_FAILED: "the broker stopped itself because its disk failed (serve)",
    Exit.STALE: "the broker ended itself: an older copy, or one that was removed (serve)",
    Exit.DIVERGED: "the broker ended itself: its metadata differs from the others' (serve)",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}

# The first class that matches wins, so a subclass stands before its base.
_BY_ERROR: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (errors.TopicNotFound, Exit.NOT_FOUND),
    (errors.PartitionNotFound, Exit.NOT_FOUND),
    (errors.GroupNotFound, Exit.NOT_FOUND),
    (errors.ScheduleNotFound, Exit.NOT_FOUND),
    (errors.BadRequest, Exit.USAGE),
    (errors.InvalidName, Exit.USAGE),
    (errors.InvalidConfig, Exit.USAGE),
    (errors.CorruptData, Exit.UNHEALTHY),
    (errors.StorageFailure, Exit.DISK_FAILED),
    (errors.StaleDirectory, Exit.STALE),
    (errors.MetadataDiverged, Exit.DIVERGED),
    (errors.DataDirectoryLocked, Exit.REFUSED),
    (errors.StorageFull, Exit.REFUSED),
    (errors.Throttled, Exit.REFUSED),
    (errors.ClusterUnformed, Exit.REFUSED),
    (errors.RetriableError, Exit.UNREACHABLE),
    (errors.RequestError, Exit.REFUSED),
    (TimeoutError, Exit.UNREACHABLE),
    (ConnectionError, Exit.UNREACHABLE),
    (PermissionError, Exit.DENIED),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


_EMPTY_HINTS: Final = frozenset(
    {errors.PenstockError.hint, errors.RequestError.hint, errors.LimitExceeded.hint}
)


def exit_for(error: BaseException) -> Exit:
    """The exit code for an error that ends the program."""
    for cls, code in _BY_ERROR:
        if isinstance(error, cls):
            return code
    return Exit.ERROR


_HINTS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (errors.GroupNotFound, "`penstock group list` shows those there are."),
    (errors.PartitionNotFound, "`penstock topic describe TOPIC` shows those there are."),
    (errors.ScheduleNotFound, "`penstock schedule list` shows those there are."),
)
"""Commands that help, for errors that say only what is wrong."""


def hint_for(error: BaseException) -> str:
    """What to do next about an error, or "" where there is nothing useful to say."""
    if isinstance(error, errors.PenstockError) and error.hint not in _EMPTY_HINTS:
        return error.hint
    return next((hint for cls, hint in _HINTS if isinstance(error, cls)), "")


def table() -> str:
    """The exit codes as the lines that `penstock --help` shows."""
    return "\n".join(f"{code:>4}  {MEANING[code]}" for code in Exit)
