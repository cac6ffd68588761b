"""Records as JSON objects and back, without losing a byte. Pure.

    {"topic":"orders","partition":0,"offset":7,"timestamp":"2026-01-31T09:30:00.000Z",
     "key":"a","value":"...","headers":{"source":"web"}}

Bytes that are UTF-8 are text; others stand in a twin field (`key_base64`, `value_base64`,
`headers_base64`). `consume -o ndjson` writes these objects and `publish --format ndjson` reads
them: key, value, headers and timestamp are published, the place they came from is ignored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.cli.units import parse_time, show_time, time_us

if TYPE_CHECKING:
    from penstock import Record


@dataclass(frozen=True)
class Outgoing:
    """One record to publish."""

    value: bytes | None
    key: bytes | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    timestamp: datetime | None = None


def text_of(data: bytes | None) -> str | None:
    """The bytes as text; None where they are not UTF-8."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def record_name(record: Record) -> str:
    """`TOPIC/PARTITION/OFFSET`."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def record_row(record: Record) -> dict[str, Any]:
    """The record as a JSON object."""
    row: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": show_time(record.timestamp_us),
    }
    if record.key is not None:
        _put(row, "key", record.key)
    _put(row, "value", record.value)
    for name, data in (record.headers or {}).items():
        text = text_of(data)
        if text is not None:
            row.setdefault("headers", {})[name] = text
        else:
            row.setdefault("headers_base64", {})[name] = base64.b64encode(data).decode()
    return row


def _put(row: dict[str, Any], name: str, data: bytes | None) -> None:
    text = text_of(data)
    if text is None and data is not None:
        row[f"{name}_base64"] = base64.b64encode(data).decode()
    else:
        row[name] = text


def parse_row(line: bytes) -> Outgoing:
    """Read one line of NDJSON.

    Raises:
        ValueError: it is not such an object.
    """
    try:
        row = msgspec.json.decode(line, type=_Row)
        if row.value is not None and row.value_base64 is not None:
            raise ValueError("it has both value and value_base64")
        headers = {name: text.encode() for name, text in row.headers.items()}
        headers.update({name: _bytes(text) for name, text in row.headers_base64.items()})
        return Outgoing(
            value=_either(row.value, row.value_base64),
            key=_either(row.key, row.key_base64),
            headers=headers,
            timestamp=parse_time(row.timestamp) if row.timestamp is not None else None,
        )
    except (msgspec.MsgspecError, RecursionError, binascii.Error) as error:
        raise ValueError(str(error)) from None


class _Row(msgspec.Struct):
    value: str | None = None
    value_base64: str | None = None
    key: str | None = None
    key_base64: str | None = None
    headers: dict[str, str] = {}
    headers_base64: dict[str, str] = {}
    timestamp: str | None = None


def _either(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        return _bytes(encoded)
    return None if text is None else text.encode()


def _bytes(encoded: str) -> bytes:
    return base64.b64decode(encoded, validate=True)


def timestamp_us_of(outgoing: Outgoing) -> int | None:
    """The record's own time in microseconds since 1970, if it has one."""
    return None if outgoing.timestamp is None else time_us(outgoing.timestamp)


def scope_of(record: Record) -> Mapping[str, Callable[[], object]]:
    """What the names of a `--where` expression mean for a record."""
    return {
        "topic": lambda: record.topic,
        "partition": lambda: record.partition,
        "offset": lambda: record.offset,
        "timestamp": lambda: show_time(record.timestamp_us),
        "key": lambda: text_of(record.key),
        "value": lambda: text_of(record.value),
        "json": lambda: _json(record.value),
        "size": lambda: len(record.value or b""),
        "headers": lambda: {name: text_of(data) for name, data in (record.headers or {}).items()},
    }


def _json(data: bytes | None) -> object:
    try:
        value: object = msgspec.json.decode(data or b"")
    except (msgspec.MsgspecError, RecursionError):
        return None
    return value
