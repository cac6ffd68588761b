"""Dead letters as applications see them: the record, where it came from, and how it died."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from penstock._core.positions import Start, resolvable
from penstock._core.sharing.shared_record import DEAD_HEADER
from penstock._core.texts import as_bytes
from penstock.errors import BadRequest
from penstock.protocol.record import Record
from penstock.protocol.sharing import AttemptInfo, RecordState

EDITED_HEADER: Final = "penstock-edited"

Place = tuple[int, int]
"""Partition and offset in the dead-letter topic."""


class Story(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The header `penstock-dead`, as JSON; unknown fields are passed over."""

    topic: str
    partition: int
    offset: int
    group: str = ""
    reason: str = ""
    died_us: int = 0
    delivered: int = 0
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0
    attempts: list[AttemptInfo] = msgspec.field(default_factory=list)
    attempts_left_out: int = 0
    unreadable: str = ""


_STORY: Final = msgspec.json.Decoder(Story)


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that its group could not handle, with its history.

    Not tracked by the garbage collector, as `Record`.

    Attributes:
        record: as it lies in the dead-letter topic, without the header that tells the history.
        reason: why it was given up: attempts, never_retry, rejected, max_age or overtaken.
        died_us: when, in microseconds since 1970.
        attempts: what went wrong each time, oldest first; `attempts_left_out` older ones are gone.
            Letters of pages of more than 20 tell of the time before their first redrive only.
        unreadable: why there is no value, if the record could not be read any more.
        edited_from: where the letter lay of which this is an edited copy.
    """

    record: Record
    origin_topic: str
    origin_partition: int
    origin_offset: int
    group: str
    reason: str
    died_us: int
    delivered: int
    failed: int
    timed_out: int
    redrives: int
    attempts: list[AttemptInfo]
    attempts_left_out: int = 0
    unreadable: str = ""
    edited_from: str = ""
    story: bytes = b""
    """The header as it is stored."""

    @property
    def cause(self) -> str:
        """What it died of: the reason of its last attempt, or `reason` if none has any."""
        for attempt in reversed(self.attempts):
            if attempt.reason:
                return attempt.reason
        return self.reason

    @property
    def place(self) -> Place:
        """Partition and offset in the dead-letter topic."""
        return self.record.partition, self.record.offset

    @property
    def value(self) -> bytes | None:
        """The record's value."""
        return self.record.value

    @property
    def key(self) -> bytes | None:
        """The record's key."""
        return self.record.key

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The record's own headers."""
        return self.record.headers


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Some of a group's dead letters; iterate over it, or go on with `after`.

    Attributes:
        letters: those that fit, each partition in its order.
        after: partition -> offset to go on from; None: there are no more.
        held: how many there are that were not looked through before this page, fitting or not.
    """

    letters: list[DeadLetter]
    after: dict[int, int] | None
    held: int = 0

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(self.letters)

    def __len__(self) -> int:
        return len(self.letters)


class RedriveReport(msgspec.Struct):
    """What came of a redrive.

    Attributes:
        matched: dead letters that fitted; with `dry_run` nothing else is counted.
        redriven: how many are on their way to their group, edited ones among them.
        edited: how many were given another value.
        looping: places of those that were redriven `redrives_max` times already; left alone.
        absent: places of those that were no dead letters any more.
    """

    matched: int = 0
    redriven: int = 0
    edited: int = 0
    looping: list[Place] = msgspec.field(default_factory=list)
    absent: list[Place] = msgspec.field(default_factory=list)

    def add(self, other: RedriveReport) -> None:
        """Take over what another one counted, but for `matched`."""
        self.redriven += other.redriven
        self.edited += other.edited
        self.looping += other.looping
        self.absent += other.absent


def read_letter(record: Record, group: str) -> DeadLetter:
    """A record of a group's dead-letter topic; one without its history has an empty one."""
    headers = dict(record.headers)
    raw = headers.pop(DEAD_HEADER, b"")
    try:
        story = _STORY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        story = Story(topic="", partition=-1, offset=-1, reason="unknown")
    edited = headers.pop(EDITED_HEADER, b"").decode(errors="replace")
    plain = Record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp_us,
        record.value,
        record.key,
        headers,
    )
    return DeadLetter(
        record=plain,
        origin_topic=story.topic,
        origin_partition=story.partition,
        origin_offset=story.offset,
        group=story.group or group,
        reason=story.reason,
        died_us=story.died_us or record.timestamp_us,
        delivered=story.delivered,
        failed=story.failed,
        timed_out=story.timed_out,
        redrives=story.redrives,
        attempts=story.attempts,
        attempts_left_out=story.attempts_left_out,
        unreadable=story.unreadable,
        edited_from=edited,
        story=raw,
    )


def with_later(letter: DeadLetter, state: RecordState) -> DeadLetter:
    """A letter and what happened to it where it lies: after a redrive it fails in its place."""
    if not state.redrives and not state.attempts:
        return letter
    attempts = [*letter.attempts, *state.attempts]
    return msgspec.structs.replace(
        letter,
        reason=state.reason or letter.reason,
        died_us=max([letter.died_us, *(each.ended_us for each in state.attempts)]),
        delivered=letter.delivered + state.delivered,
        failed=letter.failed + state.failed,
        timed_out=letter.timed_out + state.timed_out,
        redrives=letter.redrives + state.redrives,
        attempts=attempts,
    )


class LetterFilter:
    """Which dead letters: those that fit everything that is given.

    Args:
        reason: exactly this is their cause or their reason.
        error: the error of some attempt contains this text.
        key: they have this key.
        headers: they have all these headers.
        since, until: they died at or after, and before, a datetime or "-1h".
        failed: so many attempts failed or ran out of time, at least.
        where: a function says so.
        wall_us: what "-1h" counts from.

    Raises:
        BadRequest: a time can't be read.
    """

    __slots__ = (
        "_error",
        "_failed",
        "_headers",
        "_key",
        "_reason",
        "_since_us",
        "_until_us",
        "_where",
    )

    def __init__(
        self,
        *,
        reason: str | None = None,
        error: str | None = None,
        key: bytes | str | None = None,
        headers: Mapping[str, bytes | str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        failed: int = 0,
        where: Callable[[DeadLetter], bool] | None = None,
        wall_us: int,
    ) -> None:
        self._reason = reason
        self._error = error
        self._key = as_bytes(key)
        self._headers = {name: as_bytes(value) for name, value in (headers or {}).items()}
        self._since_us = _moment(since, wall_us)
        self._until_us = _moment(until, wall_us)
        self._failed = failed
        self._where = where

    @property
    def fits_all(self) -> bool:
        """Whether nothing is asked of them."""
        conditions = (self._reason, self._error, self._key, self._since_us, self._until_us)
        asked = self._failed > 0 or self._headers or self._where is not None
        return not asked and all(each is None for each in conditions)

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is one of them."""
        return (
            (self._reason is None or self._reason == letter.reason or self._reason == letter.cause)
            and (self._error is None or any(self._error in a.error for a in letter.attempts))
            and (self._key is None or letter.key == self._key)
            and (self._since_us is None or letter.died_us >= self._since_us)
            and (self._until_us is None or letter.died_us < self._until_us)
            and letter.failed + letter.timed_out >= self._failed
            and (not self._headers or self._headers.items() <= letter.headers.items())
            and (self._where is None or self._where(letter))
        )


def _moment(time: Start | None, wall_us: int) -> int | None:
    if time is None:
        return None
    found = resolvable(time, wall_us)
    if found < 0:
        raise BadRequest(f"{time!r} is no moment: give a datetime or '-1h'")
    return found
