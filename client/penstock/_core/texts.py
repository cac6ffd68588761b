"""What applications hand in, as the bytes that are stored: text is UTF-8, sizes are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from penstock.errors import BadRequest, LimitExceeded, RecordTooLarge
from penstock.protocol.encoding import HEADER_TOTAL_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX

DEDUP_ID_BYTES_MAX: Final = 64

Text = bytes | str | bytearray | memoryview


def as_bytes(value: object) -> bytes | None:
    """A value as bytes; None stays None, which deletes a key from a compacted topic.

    Raises:
        BadRequest: it is neither bytes nor text.
    """
    if isinstance(value, bytes) or value is None:
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise BadRequest("the text can't be written as UTF-8") from None
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise BadRequest(f"bytes or str is needed, not {type(value).__name__}")


def as_key(key: object) -> bytes | None:
    """A key as bytes.

    Raises:
        BadRequest: it is neither bytes nor text.
        RecordTooLarge: it is too long.
    """
    found = as_bytes(key)
    if found is not None and len(found) > KEY_BYTES_MAX:
        raise RecordTooLarge(f"a key has at most {KEY_BYTES_MAX} bytes, not {len(found)}")
    return found


def as_headers(headers: Mapping[str, bytes | str] | None) -> dict[str, bytes] | None:
    """Headers with their values as bytes; none at all is None.

    Raises:
        BadRequest: they are no mapping of text to bytes or text.
        LimitExceeded, RecordTooLarge: there is too much of them.
    """
    if not headers:
        return None
    if not isinstance(headers, Mapping):
        raise BadRequest("headers map a str to bytes or str")
    if len(headers) > HEADERS_MAX:
        raise LimitExceeded(f"a record has at most {HEADERS_MAX} headers, not {len(headers)}")
    found: dict[str, bytes] = {}
    for name, value in headers.items():
        data = as_bytes(value)
        if not isinstance(name, str) or data is None:
            raise BadRequest("headers map a str to bytes or str")
        found[name] = data
    if headers_size(found) > HEADER_TOTAL_BYTES_MAX:
        raise RecordTooLarge(f"a record's headers have at most {HEADER_TOTAL_BYTES_MAX} bytes")
    return found


def headers_size(headers: Mapping[str, bytes]) -> int:
    """Bytes of names and values, about."""
    return sum(len(name.encode(errors="replace")) + len(data) for name, data in headers.items())


def as_dedup_id(dedup_id: object) -> bytes | None:
    """A deduplication id as bytes.

    Raises:
        BadRequest: it is neither bytes nor text, empty, or too long.
    """
    found = as_bytes(dedup_id)
    if found is not None and not 0 < len(found) <= DEDUP_ID_BYTES_MAX:
        raise BadRequest(f"a dedup_id has 1 to {DEDUP_ID_BYTES_MAX} bytes, not {len(found)}")
    return found


def writable(text: str) -> str:
    """The text with what UTF-8 can't hold written out, such as the bytes of a strange file name."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
