"""What `publish` reads: a stream cut into records, as soon as there is something to cut.

Reading returns what is there, so that a slow program on the other side of a pipe is published line
by line and a file in large batches. A record is at most `RECORD_BYTES_MAX` long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from penstock.cli.records import Outgoing, parse_row

CHUNK_BYTES: Final = 1 << 18
RECORD_BYTES_MAX: Final = 8 << 20


class Source(Protocol):
    """A binary stream that returns what it has: a raw file, or a buffered one with `read1`."""

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes as soon as there are any; nothing at the end."""


class InputError(ValueError):
    """A line of the input is not what the format asks for; the message names the line."""


def read_lines(source: Source) -> Iterator[list[bytes]]:
    """The lines of a stream, without their ends, in bunches as they arrive.

    Raises:
        InputError: a line is longer than `RECORD_BYTES_MAX`.
    """
    number, rest = 1, b""
    while chunk := source.read1(CHUNK_BYTES):
        *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
        if len(rest) > RECORD_BYTES_MAX:
            raise InputError(f"line {number + len(lines)} is longer than {RECORD_BYTES_MAX} bytes")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
            number += len(lines)
    if rest:
        yield [rest]


def read_records(
    source: Source,
    form: str,
    *,
    key: bytes | None = None,
    separator: bytes | None = None,
) -> Iterator[list[Outgoing]]:
    """The records of a stream in bunches; `form` is lines, ndjson or raw.

    A `separator` cuts each line into key and value; `key` is the key of records without one.

    Raises:
        InputError: a line is too long, no JSON record, or has no separator.
    """
    if form == "raw":
        yield [Outgoing(read_all(source), key)]
        return
    number = 1
    for lines in read_lines(source):
        if form == "ndjson":
            yield [_row(line, at, key) for at, line in enumerate(lines, number) if line.strip()]
        elif separator is not None:
            yield [_cut(line, at, separator) for at, line in enumerate(lines, number)]
        else:
            yield [Outgoing(line, key) for line in lines]
        number += len(lines)


def read_all(source: Source) -> bytes:
    """The whole stream as one value.

    Raises:
        InputError: it is longer than `RECORD_BYTES_MAX`.
    """
    data = bytearray()
    while chunk := source.read1(CHUNK_BYTES):
        data += chunk
        if len(data) > RECORD_BYTES_MAX:
            raise InputError(f"the input is longer than {RECORD_BYTES_MAX} bytes")
    return bytes(data)


def _cut(line: bytes, number: int, separator: bytes) -> Outgoing:
    key, found, value = line.partition(separator)
    if not found:
        raise InputError(f"line {number} has no separator {separator.decode(errors='replace')!r}")
    return Outgoing(value, key)


def _row(line: bytes, number: int, key: bytes | None) -> Outgoing:
    try:
        record = parse_row(line)
    except ValueError as error:
        raise InputError(f"line {number} is no record: {error}") from None
    if record.key is None and key is not None:
        return Outgoing(record.value, key, record.headers, record.timestamp)
    return record
