"""What leaving a record's block says about it, and how an exception is told to the broker."""

from __future__ import annotations

import traceback
from functools import partial
from typing import Final

from penstock._core.scheduler import log
from penstock._core.sharing.share import Share
from penstock._core.sharing.shared_record import SharedBatch, SharedRecord
from penstock._core.sharing.signals import Reject, Retry
from penstock.protocol.leases import ERROR_CHARACTERS_MAX

FRAMES_MAX: Final = 12
"""How many calls of a traceback are told, the innermost ones."""


def settle_failed(target: SharedRecord | SharedBatch, share: Share, error: BaseException) -> bool:
    """Settle what a handler failed on; returns whether the exception ends here.

    `Retry` and `Reject` do what they say, any other exception fails the attempt. What is no
    `Exception`, such as a cancellation or Ctrl-C, says nothing about the record: it is released.
    """
    cause = single_cause(error)
    if isinstance(cause, Retry):
        target.nack(cause.delay, at=cause.at, reason=cause.reason or "Retry")
        return True
    if isinstance(cause, Reject):
        target.reject(cause.reason, cause.error)
        return True
    if not isinstance(error, Exception):
        target.release()
        return False
    reason = type(cause).__name__
    target.nack(reason=reason, error=describe(error))
    subscription = share.subscription
    place = target.offset if isinstance(target, SharedRecord) else target.first
    log.warning(
        "the handler of %s/%d@%d failed", target.topic, target.partition, place, exc_info=error
    )
    tell = partial(
        subscription.events.add,
        "handler_failed",
        topic=target.topic,
        partition=target.partition,
        offset=place,
        reason=reason,
        error=str(cause),
    )
    subscription.guard(tell)
    return subscription.on_error == "nack"


def single_cause(error: BaseException) -> BaseException:
    """The one exception inside of groups of one; otherwise the exception itself."""
    found = error
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found


def describe(error: BaseException) -> str:
    """The end of the traceback, as much as a verdict may carry, cut between lines."""
    lines = traceback.format_exception(
        type(error), error, error.__traceback__, limit=-FRAMES_MAX, chain=False
    )
    text = "".join(lines).rstrip()
    if len(text) <= ERROR_CHARACTERS_MAX:
        return text
    text = text[-ERROR_CHARACTERS_MAX:]
    return text[text.find("\n") + 1 :]
