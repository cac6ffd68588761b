"""Listing, redriving and purging dead letters, as operations.

Nothing is kept between calls: what is a dead letter is known to the broker alone, so whatever is
interrupted can be begun again. Invariant: a dead letter is given back, or settled, only by the
broker's word; of an edited one the copy exists before the original is settled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from penstock._core.outgoing import Outgoing
from penstock._core.reader import FetchCall, Fetched
from penstock._core.scheduler import Operation
from penstock._core.sharing.letters import (
    EDITED_HEADER,
    DeadLetter,
    DeadLetterPage,
    LetterFilter,
    Place,
    RedriveReport,
    read_letter,
    with_later,
)
from penstock._core.sharing.shared_record import DEAD_HEADER
from penstock._core.sharing.shared_subscription import dead_letter_topic
from penstock._core.texts import as_bytes
from penstock.errors import (
    ConnectionLost,
    GroupNotFound,
    LeaderUnknown,
    OffsetOutOfRange,
    RetriableError,
    TimedOut,
)
from penstock.protocol.checksum import crc32c
from penstock.protocol.frames import fetch_request
from penstock.protocol.record import Record
from penstock.protocol.record_batch import read_batches
from penstock.protocol.sharing import (
    ExplainRecord,
    ExplainRecordReply,
    HeldRuns,
    HeldRunsReply,
    PurgeRecords,
    PurgeRecordsReply,
    Redrive,
    RedriveReply,
)

if TYPE_CHECKING:
    from penstock._core.client import ClientCore

FETCH_BYTES: Final = 1024 * 1024
LOOKED_AT_MAX: Final = 10_000
"""Dead letters that are looked at for one page, whether they fit or not."""
SPANS_PER_REQUEST: Final = 5000
RECORDS_PER_REQUEST: Final = 10_000
DETAILED_MAX: Final = 20
"""On pages of at most so many letters each is asked for what happened since it died first."""


class DeadLetters:
    """What a client may do with the dead letters of any shared group."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    def page(
        self,
        topic: str,
        group: str,
        wanted: LetterFilter,
        partition: int | None = None,
        after: Mapping[int, int] | None = None,
        limit: int = 1000,
        until: Mapping[int, int] | None = None,
    ) -> Operation[DeadLetterPage]:
        """Some dead letters, in the order of partitions and offsets.

        They are looked for from `after` on, as the page before gave it, and up to `until`: both
        tell an offset for each partition. Letters of small pages tell what happened after a
        redrive, too.

        Raises:
            GroupNotFound: the group has no dead-letter topic.
        """
        dead = yield from self.topic_of(topic, group)
        places = dict(after or {})
        numbers = [partition] if partition is not None else self._partitions(dead)
        letters: list[DeadLetter] = []
        held = looked_at = 0
        ended = True
        for number in numbers:
            stop = (until or {}).get(number)
            counted, done = places.get(number, 0), False
            while not done and len(letters) < limit and looked_at < LOOKED_AT_MAX:
                first = places.get(number, 0)
                runs = yield from self._held(dead, number, group, first, stop)
                held, counted = held + _count(runs.spans, counted), max(counted, runs.end)
                count = min(limit - len(letters), LOOKED_AT_MAX - looked_at)
                found, at, seen = yield from self._read(dead, number, group, runs, wanted, count)
                letters += found
                looked_at += seen
                places[number] = at
                done = at >= runs.end and runs.end >= min(runs.high_watermark, stop or runs.end)
            ended = ended and done
            if not done:
                held += yield from self._count_on(dead, number, group, counted, stop)
        if limit <= DETAILED_MAX:
            for place, letter in enumerate(letters):
                letters[place] = yield from self._in_full(letter)
        return DeadLetterPage(letters, None if ended else places, held)

    def ends(self, topic: str, group: str) -> Operation[dict[int, int]]:
        """Partition -> end of the dead-letter topic now: what dies later lies behind."""
        dead = yield from self.topic_of(topic, group)
        return (yield from self._core.admin.list_offsets(dead))

    def topic_of(self, topic: str, group: str) -> Operation[str]:
        """The dead-letter topic of a group.

        Raises:
            GroupNotFound: there is none.
        """
        dead = dead_letter_topic(topic, group)
        if self._core.metadata.topic(dead) is None:
            yield self._core.metadata.refresh(dead)
        if self._core.metadata.topic(dead) is None:
            raise GroupNotFound(f"there is no dead-letter topic of group {group!r} on {topic!r}")
        return dead

    # ----- giving back and settling

    def redrive(
        self,
        letters: Sequence[DeadLetter],
        values: Mapping[Place, bytes | str | None] | None = None,
        force: bool = False,
    ) -> Operation[RedriveReport]:
        """Give dead letters back to their group, some of them with other values."""
        report = RedriveReport(matched=len(letters))
        edits = values or {}
        plain: list[DeadLetter] = []
        for letter in letters:
            if letter.place in edits and as_bytes(edits[letter.place]) != letter.value:
                yield from self._edit(letter, as_bytes(edits[letter.place]), force, report)
            else:
                plain.append(letter)
        for (topic, number, group), spans in _by_partition(plain).items():
            yield from self._redrive(topic, number, group, spans, force, report)
        return report

    def redrive_all(self, topic: str, group: str, force: bool = False) -> Operation[RedriveReport]:
        """Give back all that are dead letters now; as nothing is asked of them, none is read."""
        dead = yield from self.topic_of(topic, group)
        ends = yield from self._core.admin.list_offsets(dead)
        report = RedriveReport()
        for number in self._partitions(dead):
            first, stop = 0, ends.get(number, 0)
            while first < stop:
                runs = yield from self._held(dead, number, group, first, stop)
                report.matched += sum(runs.spans[1::2])
                for spans in _portions(runs.spans):
                    yield from self._redrive(dead, number, group, spans, force, report)
                first = max(first + 1, runs.end)
        return report

    def purge(self, letters: Sequence[DeadLetter]) -> Operation[int]:
        """Settle dead letters without delivering them; returns how many there were."""
        purged = 0
        for (topic, number, group), spans in _by_partition(letters).items():
            purged += yield from self._purge(topic, number, group, spans)
        return purged

    def _edit(
        self, letter: DeadLetter, value: bytes | None, force: bool, report: RedriveReport
    ) -> Operation[None]:
        """Publish a copy, settle the original, give the copy back; each may be repeated."""
        topic, (number, offset), group = letter.record.topic, letter.place, letter.group
        copy = self._copy(letter, value)
        yield copy
        place = copy.receipt(0).offset
        if not (yield from self._settle_original(topic, number, group, offset)):
            # Somebody was faster: then the copy must not live.
            yield from self._purge(topic, number, group, [place, 1])
            report.absent.append(letter.place)
            return
        before = report.redriven
        yield from self._redrive(topic, number, group, [place, 1], force, report)
        report.edited += report.redriven - before

    def _settle_original(self, topic: str, number: int, group: str, offset: int) -> Operation[bool]:
        """Settle it, whoever did; False: somebody else was faster, that is sure.

        An answer that was lost leaves open who it was. Then the copy goes out: if both were away
        nobody would ever see the record, while two of it is what groups know to happen.
        """
        try:
            return (yield from self._purge(topic, number, group, [offset, 1], safe=False)) > 0
        except (ConnectionLost, TimedOut):
            yield from self._purge(topic, number, group, [offset, 1])
            return True

    def _copy(self, letter: DeadLetter, value: bytes | None) -> Outgoing:
        number, offset = letter.place
        headers = {
            **letter.headers,
            DEAD_HEADER: letter.story,
            EDITED_HEADER: f"{number}:{offset}".encode(),
        }
        topic = letter.record.topic
        dedup_id = f"edit-{number}-{offset}-{crc32c(value or b''):08x}-{crc32c(topic.encode()):08x}"
        return self._core.producer.publish(
            topic, value, letter.key, headers, number, dedup_id, None
        )

    def _redrive(
        self,
        topic: str,
        number: int,
        group: str,
        spans: list[int],
        force: bool,
        report: RedriveReport,
    ) -> Operation[None]:
        for part in _parts(spans):
            request = Redrive(topic=topic, partition=number, group=group, spans=part, force=force)
            reply = yield from self._core.requests.call(
                request, RedriveReply, node=self._leader(topic, number)
            )
            report.redriven += reply.redriven
            report.looping += [(number, offset) for offset in _offsets(reply.looping)]
            report.absent += [(number, offset) for offset in _offsets(reply.absent)]

    def _purge(
        self, topic: str, number: int, group: str, spans: list[int], safe: bool = True
    ) -> Operation[int]:
        purged = 0
        for part in _parts(spans):
            request = PurgeRecords(topic=topic, partition=number, group=group, spans=part)
            reply = yield from self._core.requests.call(
                request, PurgeRecordsReply, node=self._leader(topic, number), safe=safe
            )
            purged += reply.purged
        return purged

    # ----- reading

    def _held(
        self, topic: str, number: int, group: str, first: int, stop: int | None
    ) -> Operation[HeldRunsReply]:
        request = HeldRuns(topic=topic, partition=number, group=group, first=first)
        reply: HeldRunsReply = yield from self._core.requests.call(
            request, HeldRunsReply, node=self._leader(topic, number)
        )
        if stop is None or reply.end <= stop:
            return reply
        return HeldRunsReply(
            spans=_below(reply.spans, stop), end=stop, high_watermark=reply.high_watermark
        )

    def _count_on(
        self, topic: str, number: int, group: str, first: int, stop: int | None
    ) -> Operation[int]:
        """How many dead letters there are from an offset on."""
        held = 0
        while True:
            runs = yield from self._held(topic, number, group, first, stop)
            held += sum(runs.spans[1::2])
            if runs.end <= first or runs.end >= min(runs.high_watermark, stop or runs.end):
                return held
            first = runs.end

    def _in_full(self, letter: DeadLetter) -> Operation[DeadLetter]:
        """A letter with what happened since it was brought back, which the broker keeps."""
        topic, (number, offset) = letter.record.topic, letter.place
        request = ExplainRecord(topic=topic, partition=number, offset=offset, group=letter.group)
        reply = yield from self._core.requests.call(
            request, ExplainRecordReply, node=self._leader(topic, number)
        )
        return with_later(letter, reply.states[0]) if reply.states else letter

    def _read(
        self,
        topic: str,
        number: int,
        group: str,
        runs: HeldRunsReply,
        wanted: LetterFilter,
        count: int,
    ) -> Operation[tuple[list[DeadLetter], int, int]]:
        """The letters of some runs that fit, where to go on, and how many were looked at."""
        found: list[DeadLetter] = []
        seen = 0
        offsets = _offsets(runs.spans)
        at = 0
        while at < len(offsets) and seen < count:
            records = yield from self._fetch(topic, number, offsets[at])
            if not records:
                at += 1
                continue
            by_offset = {record.offset: record for record in records}
            last = records[-1].offset
            while at < len(offsets) and offsets[at] <= last and seen < count:
                record = by_offset.get(offsets[at])
                at += 1
                seen += 1
                if record is not None:
                    letter = read_letter(record, group)
                    if wanted.fits(letter):
                        found.append(letter)
        return found, offsets[at] if at < len(offsets) else runs.end, seen

    def _fetch(self, topic: str, number: int, offset: int) -> Operation[list[Record]]:
        """The next records from an offset on; none: there is nothing at that place."""
        core, attempt = self._core, 0
        limit = core.scheduler.now + core.options.request_timeout
        while True:
            try:
                fetched = yield from self._fetch_once(topic, number, offset)
            except OffsetOutOfRange:
                return []
            except RetriableError:
                attempt += 1
                if core.scheduler.now >= limit:
                    raise
                core.metadata.refresh(topic)
                yield core.scheduler.sleep(core.pool.backoff(attempt))
            else:
                run = fetched.run
                batches = read_batches(run, topic=topic, partition=number, from_offset=offset)
                return [record for batch in batches for record in batch.records()]

    def _fetch_once(self, topic: str, number: int, offset: int) -> Operation[Fetched]:
        core = self._core
        partition = core.metadata.partition(topic, number)
        wire = core.pool.wire_to(partition.leader) if partition.leader else None
        if wire is None:
            raise LeaderUnknown()
        deadline = core.scheduler.now + core.options.request_timeout
        call = FetchCall(core.scheduler, deadline)
        request = fetch_request(wire.expect(call), partition.group, offset, FETCH_BYTES, 1, 0)
        core.scheduler.watch(deadline)
        core.pool.send(wire, request)
        fetched: Fetched = yield call.ticket
        return fetched

    def _partitions(self, topic: str) -> list[int]:
        return sorted(self._core.metadata.partitions(topic))

    def _leader(self, topic: str, number: int) -> int:
        return self._core.metadata.leader(topic, number)


def _by_partition(letters: Sequence[DeadLetter]) -> dict[tuple[str, int, str], list[int]]:
    """(topic, partition, group) -> the spans of the letters there."""
    found: dict[tuple[str, int, str], list[int]] = {}
    for letter in sorted(letters, key=lambda each: each.place):
        number, offset = letter.place
        spans = found.setdefault((letter.record.topic, number, letter.group), [])
        if spans and spans[-2] + spans[-1] == offset:
            spans[-1] += 1
        else:
            spans += [offset, 1]
    return found


def _portions(spans: list[int]) -> Iterator[list[int]]:
    """Spans of at most `RECORDS_PER_REQUEST` records together."""
    part: list[int] = []
    room = RECORDS_PER_REQUEST
    for first, count in zip(spans[::2], spans[1::2], strict=True):
        while count:
            taken = min(count, room)
            part += (first, taken)
            first, count, room = first + taken, count - taken, room - taken
            if not room:
                yield part
                part, room = [], RECORDS_PER_REQUEST
    if part:
        yield part


def _parts(spans: list[int]) -> list[list[int]]:
    size = 2 * SPANS_PER_REQUEST
    return [spans[at : at + size] for at in range(0, len(spans), size)]


def _count(spans: Sequence[int], first: int) -> int:
    """Offsets from `first` on."""
    pairs = zip(spans[::2], spans[1::2], strict=True)
    return sum(max(0, low + count - max(low, first)) for low, count in pairs)


def _offsets(spans: Sequence[int]) -> list[int]:
    return [
        offset
        for first, count in zip(spans[::2], spans[1::2], strict=True)
        for offset in range(first, first + count)
    ]


def _below(spans: Sequence[int], stop: int) -> list[int]:
    found: list[int] = []
    for first, count in zip(spans[::2], spans[1::2], strict=True):
        if first < stop:
            found += [first, min(count, stop - first)]
    return found
