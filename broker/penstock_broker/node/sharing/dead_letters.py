"""What a dead letter is: the record as it was, and a header that tells how it died.

The header `penstock-dead` holds JSON. It is bounded: of many long error texts the latest attempt's
is kept longest. It may make a record's headers larger than a producer's may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from penstock_broker.machine.sharing.trouble import Attempt, Trouble

DEAD_HEADER: Final = "penstock-dead"
STORY_BYTES_MAX: Final = 8 * 1024
"""What the header holds at most, unless even without error texts it is more."""
_ERROR_CHARACTERS: Final = (2_000, 500, 120, 0)
"""To how much the error texts of earlier attempts are cut, until the story fits."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """The value of the header, as JSON."""

    topic: str
    partition: int
    offset: int
    """Where the record lies, or lay, in the topic."""
    group: str
    reason: str
    died_us: int
    delivered: int
    failed: int
    timed_out: int
    redrives: int
    attempts: list[dict[str, object]]
    """Oldest first: member, host, kind, reason, error, granted_us, ended_us."""
    attempts_left_out: int = 0
    unreadable: str = ""
    """Why there is no value: the record could not be read any more."""


def tell(
    origin: tuple[str, int, int, str],
    reason: str,
    trouble: Trouble | None,
    now_us: int,
    unreadable: str = "",
) -> bytes:
    """The header's value.

    Args:
        origin: topic, partition, offset, group.
        reason: why the record was given up.
        trouble: what went wrong with it before, if that is known.
        now_us: for its time of death, if no attempt tells.
        unreadable: why the record itself is missing.
    """
    topic, partition, offset, group = origin
    trouble = trouble or Trouble()
    attempts = trouble.attempts
    body = b""
    for characters in _ERROR_CHARACTERS:
        body = msgspec.json.encode(
            Story(
                topic=topic,
                partition=partition,
                offset=offset,
                group=group,
                reason=reason,
                died_us=attempts[-1].ended_us if attempts else now_us,
                delivered=trouble.delivered,
                failed=trouble.failed,
                timed_out=trouble.timed_out,
                redrives=trouble.redrives,
                attempts=_attempts(attempts, characters),
                attempts_left_out=trouble.forgotten,
                unreadable=unreadable,
            )
        )
        if len(body) <= STORY_BYTES_MAX:
            break
    return body


def _attempts(attempts: Sequence[Attempt], characters: int) -> list[dict[str, object]]:
    last = len(attempts) - 1
    return [
        {
            "member": each.member,
            "host": each.host,
            "kind": each.kind,
            "reason": each.reason,
            "error": each.error if number == last else each.error[:characters],
            "granted_us": each.granted_us,
            "ended_us": each.ended_us,
        }
        for number, each in enumerate(attempts)
    ]
