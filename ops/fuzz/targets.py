"""What is fuzzed: valid bytes to start from, how to use an input, and which promises must hold.

A target answers with its outcome: what was found, or which error was raised. Anything that is not
an error of the tree is a crash.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from crc32c import crc32c

from ops.fuzz import corpus, live
from penstock.errors import BadRequest, PenstockError, RecordTooLarge
from penstock.protocol import batch as batches
from penstock.protocol import leases
from penstock.protocol.codec import (
    decode_error,
    decode_reply,
    decode_request,
    encode_error,
    encode_message,
)
from penstock.protocol.compression import compress, decompress
from penstock.protocol.connection import Connection, Role
from penstock.protocol.durations import format_duration, parse_duration
from penstock.protocol.events import Closed, Event, Failed, Fetched, Malformed, Pause, Publish
from penstock.protocol.frames import FRAME_HEADER_BYTES, scan
from penstock.protocol.messages import REPLIES, REQUESTS
from penstock.protocol.names import check_name
from penstock.protocol.records import RecordBatch, encode_batch, encode_compacted, read_batches


class Target(NamedTuple):
    """One thing to fuzz."""

    corpus: Sequence[bytes]
    run: Callable[[bytes], str]
    repair: Callable[[bytearray, Random], None] | None = None
    """Makes lengths and checksums right again, so that mutations get past them."""


def outcome_of(error: PenstockError) -> str:
    """An error without the numbers and names in it."""
    text = re.sub(r"[0-9]+|`[^`]*`|'[^']*'|\"[^\"]*\"", "#", error.message)
    return f"{type(error).__name__}: {text[:80]}"


def frames(data: bytes) -> str:
    """Cut a byte stream into frames."""
    found, unfinished = scan(data, 0, len(data), 5_000)
    at = 0
    for each in found:
        assert each.start == at
        assert each.end - each.start >= FRAME_HEADER_BYTES
        at = each.end
    assert at <= len(data)
    assert not unfinished or at + unfinished > len(data)
    return f"{min(len(found), 5)} frames, {'cut' if at < len(data) else 'whole'}"


def codec(data: bytes) -> str:
    """Decode a message of any type; what is accepted must come back the same."""
    if len(data) < 2:
        return "short"
    kind, type_, body = data[0] % 3, data[1], memoryview(data)[2:]
    if kind == 2:
        error = decode_error(body)
        assert type(decode_error(encode_error(1, 2, error)[16:])) is type(error)
        return f"error {error.code}"
    decode = decode_request if kind else decode_reply
    message = decode(type_, body)
    try:
        frame = encode_message(message, 1)
    except (BadRequest, RecordTooLarge) as refusal:
        return outcome_of(refusal)
    again = decode(type_, frame[16:])
    # Not `==` alone: a float that is not a number differs from itself.
    assert again == message or repr(again) == repr(message)
    return type(message).__name__


def connection(data: bytes) -> str:
    """Feed a connection in pieces; single and bulk reading must agree."""
    if len(data) < 2:
        return "short"
    role = Role.CLIENT if data[0] & 1 else Role.BROKER
    size = data[1] * 4 + 1
    single = _converse(role, data[2:], size, bulk=False)
    bulk = _converse(role, data[2:], 1 << 20, bulk=True)
    assert single == bulk, (single, bulk)
    return f"{role.name}: {' '.join(name for name, _ in single[:6])}"


def _converse(role: Role, data: bytes, size: int, bulk: bool) -> list[tuple[str, str]]:
    side = corpus.opened(role)
    seen: list[tuple[str, str]] = []
    for at in range(0, len(data) + size, size):
        side.receive_data(data[at : at + size])
        try:
            seen.extend(map(_shown, side.next_events() if bulk else _one_by_one(side)))
        except PenstockError as error:
            return [*seen, (outcome_of(error), error.message)]
        if at >= len(data):
            break
    return seen


def _one_by_one(side: Connection) -> Iterator[Event]:
    while not isinstance(event := side.next_event(), Pause):
        yield event
        if isinstance(event, Closed):
            return


def _shown(event: Event) -> tuple[str, str]:
    name = type(event).__name__
    if isinstance(event, Failed | Malformed):
        return name, f"{event.correlation} {event.type} {event.error.message}"
    if isinstance(event, Publish):
        return name, f"{event.correlation} {bytes(event.batch)!r}"
    if isinstance(event, Fetched):
        return name, f"{event.correlation} {bytes(event.batches)!r}"
    return name, repr(event)


def publish_check(data: bytes) -> str:
    """Check a batch as the broker does; what passes can be stamped, verified and walked."""
    head = batches.check_publish(data)
    stored = bytearray(data)
    batches.stamp(stored, batches.Kind.DATA, 1, 2, 3, 4, 5)
    header = batches.verify(stored)
    assert [(at, each.length) for at, each in batches.iterate(stored)] == [(0, len(data))]
    assert batches.header_is_intact(stored)
    assert batches.next_offset(stored, header) == 4 + head[0]
    batches.extensions(stored, header)
    return f"ok {header.flags} {header.codec} {bool(header.ext_len)}"


def records(data: bytes) -> str:
    """Read a stored batch to the last column; what is read can be compacted and built again."""
    batch = RecordBatch(data)
    found = batch.records("t", 1)
    assert len(found) == len(batch) == len(batch.values) == len(batch.keys)
    assert list(batch.offsets) == [each.offset for each in found]
    assert batch.base_offset + len(batch) <= batch.next_offset
    slots = batch.key_slots
    assert slots is None or len(slots) == len(found)
    kept = RecordBatch(encode_compacted(batch, range(0, len(found), 2)))
    assert kept.records("t", 1) == found[::2]
    assert kept.next_offset == batch.next_offset
    _build_again(batch)
    return f"ok {min(len(found), 20)} {batch.header.flags} {batch.header.codec} {slots is None}"


def _build_again(batch: RecordBatch) -> None:
    try:
        built = encode_batch(
            batch.values, batch.keys, headers=batch.headers, key_slots=batch.key_slots
        )
    except PenstockError:  # a reader is laxer than a producer: longer keys, no records
        return
    again = RecordBatch(built, verify=False)
    assert (again.values, again.keys, again.headers) == (batch.values, batch.keys, batch.headers)


def run_of_batches(data: bytes) -> str:
    """Read a run of batches, as a client reads the reply to a fetch."""
    count = last = 0
    for batch in read_batches(data, from_offset=1001):
        assert all(offset >= 1001 for offset in batch.offsets)
        last = max(last, len(batch.records()))
        count += 1
    return f"{min(count, 5)} batches, {min(last, 20)} records"


def decompression(data: bytes) -> str:
    """Undo a compression whose size the first four bytes declare."""
    if len(data) < 4:
        return "short"
    raw_len = int.from_bytes(data[:4], "little") % (1 << 21)
    raw = decompress(memoryview(data)[4:], raw_len)
    assert len(raw) == raw_len
    packed = compress(raw)
    assert packed is None or decompress(packed, raw_len) == raw
    return f"ok {raw_len.bit_length()}"


def member_frames(data: bytes) -> str:
    """Read the body of an acquire or a settle, or of its answer, behind a byte for which."""
    if not data:
        return "short"
    frame = bytes(FRAME_HEADER_BYTES) + data[1:]
    end = len(frame)
    kind = data[0] % 4
    if kind == 0:
        wanted = leases.read_acquire(frame, 0, end)
        again = leases.acquire_request(0, 0, wanted)
        assert leases.read_acquire(again, 0, len(again)) == wanted
        return f"acquire {len(wanted.have)}"
    if kind == 1:
        handle, verdicts = leases.read_settle(frame, 0, end)
        again = leases.settle_request(0, 0, handle, verdicts)
        if len(again) <= leases.SETTLE_BYTES_MAX:
            assert leases.read_settle(again, 0, len(again)) == (handle, verdicts)
        return f"settle {min(len(verdicts), 9)}"
    if kind == 2:
        found = leases.read_acquired(frame, 0, end)
        again = leases.acquire_reply_head(0, 0, found, len(found.run)) + bytes(found.run)
        assert again[16:] == frame[16:]
        return f"acquired {min(len(found.spans), 9)}"
    settled = leases.read_settled(frame, 0, end)
    return f"settled {min(len(settled.lost), 9)}"


def text(data: bytes) -> str:
    """Read names and durations."""
    given = data.decode(errors="replace")
    try:
        check_name(given)
        name = "name"
        assert given.isascii()
        assert "/" not in given
    except PenstockError as error:
        name = type(error).__name__
    try:
        duration = parse_duration(given)
    except PenstockError as error:
        return f"{name} {type(error).__name__}"
    assert parse_duration(format_duration(duration)) == duration
    return f"{name} {duration.bit_length()}"


def whole_frame(data: bytearray, rng: Random) -> None:
    """Make the first frame as long as the input."""
    if len(data) > 6 and rng.random() < 0.6:
        data[2:6] = (len(data) - 2).to_bytes(4, "little")


def whole_scan(data: bytearray, rng: Random) -> None:
    """Make the first frame end within the input."""
    if len(data) >= 16 and rng.random() < 0.5:
        data[0:4] = rng.randrange(16, len(data) + 1).to_bytes(4, "little")


def sealed(data: bytearray, rng: Random) -> None:
    """Make length and both checksums of a batch right."""
    if len(data) < batches.HEADER_BYTES or rng.random() < 0.1:
        return
    struct.pack_into("<II", data, 0, batches.MAGIC, len(data))
    if data[52] & 15 == batches.CODEC_NONE and rng.random() < 0.9:
        slots = 2 * int.from_bytes(data[56:60], "little") if data[53] & 1 else 0
        raw = len(data) - batches.HEADER_BYTES - int.from_bytes(data[54:56], "little") - slots
        struct.pack_into("<I", data, 60, max(raw, 0) & 0xFFFF_FFFF)
    struct.pack_into("<I", data, 48, crc32c(memoryview(data)[52:]))
    struct.pack_into("<I", data, 8, crc32c(memoryview(data)[12:96]))


TARGETS = {
    "frames": Target(corpus.frames(), frames, whole_scan),
    "codec": Target(corpus.bodies(), codec),
    "connection": Target(corpus.streams(), connection, whole_frame),
    "publish": Target(corpus.unstamped(), publish_check, sealed),
    "records": Target(corpus.stored(), records, sealed),
    "runs": Target(corpus.runs(), run_of_batches),
    "decompression": Target(corpus.compressed(), decompression),
    "text": Target(corpus.texts(), text),
    "leases": Target(corpus.member_frames(), member_frames),
    "sharing": Target(live.corpus(), live.run, live.repair),
}
assert set(REQUESTS) >= set(REPLIES)
