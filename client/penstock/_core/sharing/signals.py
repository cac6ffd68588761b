"""What a handler raises to say more about a record than that it failed."""

from __future__ import annotations

from datetime import datetime

from penstock._core.times import Delay


class Retry(Exception):
    """Deliver this record again, at a time of the handler's choosing.

    Counts as a failed attempt, as any exception does.

    Args:
        delay: seconds, a timedelta, or text such as "10m"; neither this nor `at`: as the group's
            policy says.
        at: an aware datetime.
        reason: why, in a word or two.
    """

    def __init__(
        self, delay: Delay | None = None, *, at: datetime | None = None, reason: str = ""
    ) -> None:
        super().__init__(reason or "try again later")
        self.delay = delay
        self.at = at
        self.reason = reason


class Reject(Exception):
    """Move this record to the dead letters at once: trying again can't help.

    Args:
        reason: why, in a word or two.
        error: more about it.
    """

    def __init__(self, reason: str = "rejected", error: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
