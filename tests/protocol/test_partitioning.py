import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadRequest
from penstock.protocol.partitioning import (
    key_slot,
    key_slots,
    partition_for_key,
    partitions_for_keys,
    tenant_slots,
)

KEYS = {
    "words": [b"customer-%d" % number for number in range(8000)],
    "decimals": [b"%d" % number for number in range(8000)],
    "little_endian": [struct.pack("<Q", number) for number in range(8000)],
    "big_endian": [struct.pack(">Q", number) for number in range(8000)],
    "multiples": [struct.pack("<I", number * 4096) for number in range(8000)],
}


@given(st.binary(max_size=40), st.integers(1, 100_000))
def test_partition_is_in_range_and_the_same_in_bulk(key, partitions):
    found = partition_for_key(key, partitions)
    assert 0 <= found < partitions
    assert partitions_for_keys([key, b"", key], partitions)[::2] == [found, found]
    assert 0 < key_slot(key) < 65_536


@pytest.mark.parametrize("partitions", [2, 3, 8, 12, 64, 100])
@pytest.mark.parametrize("kind", KEYS)
def test_keys_spread_evenly(kind, partitions):
    """Chi-squared of the counts stays near its mean, the degrees of freedom."""
    counts = [0] * partitions
    for partition in partitions_for_keys(KEYS[kind], partitions):
        counts[partition] += 1
    expected = len(KEYS[kind]) / partitions
    chi_squared = sum((count - expected) ** 2 / expected for count in counts)
    freedom = partitions - 1
    assert chi_squared < freedom + 5 * (2 * freedom) ** 0.5 + 5


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_one_partition_have_many_slots(kind):
    keys = [key for key in KEYS[kind] if partition_for_key(key, 16) == 3]
    assert len({key_slot(key) for key in keys}) > len(keys) * 0.5


def test_a_tenant_is_the_first_part_of_a_key():
    keys = [b"acme:1", b"acme:2:3", b"acme", b"", b":x", None]
    acme, nobody = key_slot(b"acme"), key_slot(b"")
    assert tenant_slots(keys, b":") == [acme, acme, acme, nobody, nobody, 0]
    assert key_slots(keys) == [*map(key_slot, keys[:-1]), 0]


@pytest.mark.parametrize("partitions", [0, -1])
def test_there_must_be_partitions(partitions):
    with pytest.raises(BadRequest):
        partition_for_key(b"", partitions)
    with pytest.raises(BadRequest):
        partitions_for_keys([b""], partitions)
