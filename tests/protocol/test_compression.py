import os
import struct
import tracemalloc
from contextlib import suppress

import pytest
import zstandard

from penstock.errors import CorruptBatch
from penstock.protocol import compression
from penstock.protocol.batch import CHECKSUM_CRC32C, CODEC_ZSTD, RAW_BYTES_MAX, build, crc32c
from penstock.protocol.compression import COMPRESS_BYTES_MIN, compress, decompress
from penstock.protocol.records import RecordBatch
from tests.protocol.bounded import memory_below, peak_of
from tests.protocol.samples import stamped

RAW = b"the same words again and again " * 100
MAGIC = b"\x28\xb5\x2f\xfd"


def frame(descriptor, fields, blocks):
    return MAGIC + bytes((descriptor,)) + fields + blocks


def raw_block(data, last=True):
    return ((len(data) << 3) | last).to_bytes(3, "little") + data


def repeat_block(byte, count, last=True):
    return ((count << 3) | 2 | last).to_bytes(3, "little") + byte


def test_compressed_payload_comes_back():
    packed = compress(RAW)
    assert packed is not None
    assert len(packed) < len(RAW)
    assert decompress(packed, len(RAW)) == RAW
    assert decompress(memoryview(packed), len(RAW)) == RAW


def test_what_is_small_or_does_not_shrink_stays_as_it_is():
    assert compress(b"a" * (COMPRESS_BYTES_MIN - 1)) is None
    assert compress(bytes(range(256)) * 0 + os.urandom(2000)) is None


def test_every_truncation_is_refused():
    packed = compress(RAW)
    for size in range(len(packed)):
        with pytest.raises(CorruptBatch):
            decompress(packed[:size], len(RAW))


def test_every_flipped_bit_gives_the_same_size_or_an_error():
    packed = compress(RAW)
    for position in range(len(packed)):
        for bit in range(8):
            damaged = bytearray(packed)
            damaged[position] ^= 1 << bit
            with suppress(CorruptBatch):
                assert len(decompress(damaged, len(RAW))) == len(RAW)


@pytest.mark.parametrize("tail", [b"\0", b"x" * 100, compress(RAW)])
def test_nothing_may_follow_the_frame(tail):
    with pytest.raises(CorruptBatch):
        decompress(compress(RAW) + tail, len(RAW))


@pytest.mark.parametrize("wrong", [0, 1, len(RAW) - 1, len(RAW) + 1, RAW_BYTES_MAX, 2**40])
def test_size_must_be_the_one_in_the_batch_header(wrong):
    with pytest.raises(CorruptBatch):
        decompress(compress(RAW), wrong)


def test_frame_without_a_size_is_refused():
    tool = zstandard.ZstdCompressor(write_content_size=False)
    with pytest.raises(CorruptBatch):
        decompress(tool.compress(RAW), len(RAW))


def test_skippable_frame_is_refused():
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd"
    for payload in (skippable, skippable + compress(RAW)):
        with pytest.raises(CorruptBatch):
            decompress(payload, len(RAW))


def test_frame_for_a_dictionary_is_refused():
    dictionary = zstandard.ZstdCompressionDict(RAW[:500], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    named = frame(0b00100001, b"\x07" + bytes((len(b"abc"),)), raw_block(b"abc"))
    with pytest.raises(CorruptBatch, match="dictionary"):
        decompress(named, 3)
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(RAW)
    with pytest.raises(CorruptBatch):
        decompress(packed, len(RAW))


def test_hand_made_frame_is_read():
    assert decompress(frame(0b00100000, b"\x03", raw_block(b"abc")), 3) == b"abc"


@pytest.mark.parametrize("size", [4, 1 << 20, RAW_BYTES_MAX])
def test_frame_that_holds_less_than_it_claims_is_refused(size):
    lying = frame(0b10100000, struct.pack("<I", size), raw_block(b"abc"))
    with memory_below(size + (1 << 20)), pytest.raises(CorruptBatch):
        decompress(lying, size)


def test_frame_that_holds_more_than_it_claims_is_refused_at_its_size():
    block = repeat_block(b"a", 128 * 1024 - 1, last=False)
    bomb = frame(0b10100000, struct.pack("<I", 1000), block * 100 + raw_block(b""))
    with memory_below(200_000), pytest.raises(CorruptBatch):
        decompress(bomb, 1000)


def test_bomb_costs_no_more_than_the_size_that_its_batch_declares():
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 << 20))
    assert len(bomb) < 20_000
    with memory_below(1 << 20), pytest.raises(CorruptBatch):
        decompress(bomb, 1000)
    with memory_below(1 << 20), pytest.raises(CorruptBatch):
        decompress(bomb, 256 << 20)


def test_claim_of_a_terabyte_is_refused():
    claim = frame(0b11100000, struct.pack("<Q", 1 << 40), raw_block(b"abc"))
    with memory_below(1 << 20), pytest.raises(CorruptBatch):
        decompress(claim, 1 << 40)


@pytest.mark.parametrize("exponent", range(14, 32))
def test_window_above_8_mib_is_refused(exponent):
    """Window descriptor: the exponent above 2**10 in the high five bits (RFC 8878, 3.1.1.1.2)."""
    windowed = frame(0b10000000, bytes((exponent << 3,)) + struct.pack("<I", 3), raw_block(b"abc"))
    with memory_below(1 << 20), pytest.raises(CorruptBatch):
        decompress(windowed, 3)


def test_window_of_8_mib_is_accepted():
    windowed = frame(0b10000000, bytes((13 << 3,)) + struct.pack("<I", 3), raw_block(b"abc"))
    assert decompress(windowed, 3) == b"abc"


def test_bomb_in_a_sealed_batch_is_refused_by_the_reader():
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    batch = build(bomb, count=1, raw_len=1000)
    batch[52] = CHECKSUM_CRC32C | CODEC_ZSTD
    struct.pack_into("<I", batch, 48, crc32c(memoryview(batch)[52:]))
    reader = RecordBatch(stamped(batch))
    with memory_below(1 << 20), pytest.raises(CorruptBatch):
        reader.records()


def test_only_few_idle_tools_are_kept(monkeypatch):
    monkeypatch.setattr(compression, "_compressors", [])
    monkeypatch.setattr(compression, "_decompressors", [])
    monkeypatch.setattr(compression, "_IDLE_MAX", 0)
    assert decompress(compress(RAW), len(RAW)) == RAW
    assert compression._compressors == compression._decompressors == []


def test_tools_are_reused():
    packed = compress(RAW)
    peak_of(lambda: [decompress(packed, len(RAW)) for _ in range(50)])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(50):
        compress(RAW)
        decompress(packed, len(RAW))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10_000
