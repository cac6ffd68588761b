"""Zstandard for batch payloads, safe against hostile frames.

Owns the level, the threshold below which compressing is not worth it, and every check before a
decompression. Invariant: decompressing never allocates more than the size that the batch header
declares, and that size is at most `RAW_BYTES_MAX`. The library's own output limit is ignored as
soon as a frame declares its size, a second frame is dropped silently and trailing bytes are
allowed by default, so each of these is checked here.

Compressor and decompressor objects cost some 8 us and a good deal of memory to make and must not
be used by two threads at once: idle ones wait in a list, whose `pop` and `append` are atomic.
"""

from __future__ import annotations

from typing import Final

import zstandard

from penstock.errors import CorruptBatch
from penstock.protocol.batch import RAW_BYTES_MAX, Buffer

COMPRESS_BYTES_MIN: Final = 200
"""Payloads below this size stay as they are: a frame's own cost eats the gain."""
WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
LEVEL: Final = 1

_FRAME_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_IDLE_MAX: Final = 8
_compressors: list[zstandard.ZstdCompressor] = []
_decompressors: list[zstandard.ZstdDecompressor] = []


def compress(payload: Buffer) -> bytes | None:
    """One zstd frame that declares its content size, or None where that would not be smaller."""
    size = len(payload)
    if size < COMPRESS_BYTES_MIN:
        return None
    try:
        tool = _compressors.pop()
    except IndexError:
        tool = zstandard.ZstdCompressor(level=LEVEL)
    packed = tool.compress(payload)
    if len(_compressors) < _IDLE_MAX:
        _compressors.append(tool)
    return packed if len(packed) < size else None


def decompress(payload: Buffer, raw_len: int) -> bytes:
    """Undo `compress`, allocating exactly `raw_len` bytes.

    Raises:
        CorruptBatch: the payload is not exactly one sound frame of `raw_len` bytes of content.
    """
    _check_frame(payload, raw_len)
    try:
        tool = _decompressors.pop()
    except IndexError:
        tool = zstandard.ZstdDecompressor()
    try:
        raw = tool.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptBatch(f"the compressed payload is damaged: {error}") from None
    if len(_decompressors) < _IDLE_MAX:
        _decompressors.append(tool)
    return raw


def _check_frame(payload: Buffer, raw_len: int) -> None:
    if bytes(payload[:4]) != _FRAME_MAGIC:
        raise CorruptBatch("the compressed payload is not a zstd frame")
    try:
        frame = zstandard.get_frame_parameters(payload)
    except zstandard.ZstdError as error:
        raise CorruptBatch(f"the compressed payload has a bad frame header: {error}") from None
    if raw_len > RAW_BYTES_MAX or frame.content_size != raw_len:
        raise CorruptBatch("the compressed payload does not declare the size in the batch header")
    if frame.window_size > max(raw_len, WINDOW_BYTES_MAX) or frame.dict_id:
        raise CorruptBatch("the compressed payload needs a larger window or a dictionary")
