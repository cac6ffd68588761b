"""Bytes that no honest client sends, on a broker that others work with."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import cbor2
import pytest
from crc32c import crc32c

from penstock import sync
from penstock.errors import InvalidName, PenstockError
from penstock.protocol.codec import decode_error, encode_message
from penstock.protocol.frames import (
    FLAG_ERROR,
    FRAME_HEADER,
    REQUEST_BYTES_MAX,
    frame,
    publish_head,
)
from penstock.protocol.messages import TYPE_OF, CreateTopic, Hello, ListOffsets, Metadata
from penstock.protocol.records import encode_batch
from tests.system.process import BrokerProcess, healthy
from tests.system.raw import HELLO, Raw

pytestmark = pytest.mark.system

ROUNDS = 300
MIB = 1 << 20
GROWTH_BYTES_MAX = 64 * MIB


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("hostile")).start() as running:
        with sync.connect(running.address) as client:
            client.admin.create_topic("orders")
            client.publish("orders", b"kept")
        yield running
        with sync.connect(running.address) as client, client.subscribe("orders") as records:
            assert records.fetch(1, wait=5.0)[0].value == b"kept"
        assert running.stop() == 0
        assert "Traceback" not in running.log()


@pytest.fixture(autouse=True)
def unharmed(broker: BrokerProcess) -> Iterator[None]:
    """Whatever a test does, others are served and the memory stays within its bounds."""
    before = broker.memory_bytes()
    yield
    healthy(broker)
    assert broker.memory_bytes() - before < GROWTH_BYTES_MAX


def group_of(broker: BrokerProcess, topic: str = "orders") -> int:
    with sync.connect(broker.address) as client:
        return client.admin.metadata([topic]).topics[0].partitions[0].group


def error_of(reply: tuple[int, int, int, bytes]) -> PenstockError | None:
    return decode_error(reply[3]) if reply[1] & FLAG_ERROR else None


def test_random_bytes_before_the_hello_close_the_connection(broker: BrokerProcess) -> None:
    chance = random.Random(1)
    for _ in range(ROUNDS):
        with Raw(broker.address, hello=False) as raw:
            raw.send(chance.randbytes(chance.randint(16, 300)))
            raw.sock.settimeout(0.01)
            raw.ends()


def test_random_bytes_after_the_hello_close_that_connection(broker: BrokerProcess) -> None:
    chance = random.Random(2)
    for _ in range(ROUNDS):
        with Raw(broker.address) as raw:
            raw.send(chance.randbytes(chance.randint(16, 5000)))
            raw.sock.settimeout(0.01)
            raw.ends()


def test_random_bodies_in_whole_frames_of_each_type_are_answered(broker: BrokerProcess) -> None:
    chance = random.Random(3)
    with Raw(broker.address) as raw:
        for number in range(3 * ROUNDS):
            type_ = chance.randrange(256)
            raw.send(
                frame(type_, chance.randrange(256), number, chance.randbytes(chance.randrange(200)))
            )
            if type_ != 0x10:  # a publish that asks for no answer gets none
                assert raw.frame()[1] & FLAG_ERROR


def test_mutated_requests_are_answered_or_refused(broker: BrokerProcess) -> None:
    chance = random.Random(4)
    requests = [
        encode_message(Metadata(), 1),
        encode_message(CreateTopic(name="made", partitions=1), 1),
        encode_message(ListOffsets(topic="orders", positions={0: -1}), 1),
    ]
    for _ in range(ROUNDS):
        with Raw(broker.address) as raw:
            request = bytearray(chance.choice(requests))
            for _ in range(chance.randint(1, 4)):
                request[chance.randrange(16, len(request))] = chance.randrange(256)
            raw.send(bytes(request))
            raw.frame()


@pytest.mark.parametrize("length", [0, 15, REQUEST_BYTES_MAX + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("hello", [False, True])
def test_a_length_that_can_not_be_closes_the_connection(
    broker: BrokerProcess, length: int, hello: bool
) -> None:
    with Raw(broker.address, hello=hello) as raw:
        raw.send(FRAME_HEADER.pack(length, 0x10, 0, 0, 1, 1))
        assert raw.ends()


def test_a_first_frame_that_is_too_large_for_a_hello_closes_the_connection(
    broker: BrokerProcess,
) -> None:
    with Raw(broker.address, hello=False) as raw:
        raw.send(FRAME_HEADER.pack(17 * 1024, HELLO[4], 0, 0, 1, 0))
        assert raw.ends()


@pytest.mark.parametrize(
    "body",
    [
        b"\x81" * 100_000,  # arrays in arrays
        b"\xa1\x00" * 50_000,  # maps in maps
        b"\xc1" * 50_000,  # tags in tags
        b"\x9b" + b"\xff" * 8,  # an array of 2^64 - 1
        b"\xbb" + b"\x7f" * 8,  # a map
        b"\x5b" + b"\x0f" * 8,  # a byte string
        b"\x9f" * 10_000,  # without end
        b"\xd8\x23" + cbor2.dumps("(a+)+$"),  # a regular expression
        cbor2.dumps({"topics": ["x" * 100] * 20_000}),
    ],
    ids=["arrays", "maps", "tags", "long array", "long map", "long bytes", "endless", "regex",
         "many names"],
)  # fmt: skip
def test_cbor_made_to_hurt_is_refused_at_once(broker: BrokerProcess, body: bytes) -> None:
    with Raw(broker.address) as raw:
        raw.send(frame(TYPE_OF[Metadata], 0, 9, body))
        assert error_of(raw.frame()) is not None


def test_damaged_batches_are_refused_and_nothing_of_them_is_stored(broker: BrokerProcess) -> None:
    chance = random.Random(5)
    group = group_of(broker)
    batch = bytes(encode_batch([b"a" * 50] * 5, codec=0, base_ts_us=1))
    with sync.connect(broker.address) as client:
        before = client.admin.list_offsets("orders", "latest")
        with Raw(broker.address) as raw:
            for _ in range(ROUNDS):
                bad = bytearray(batch)
                bad[chance.randrange(52, len(bad))] ^= 1 << chance.randrange(8)
                raw.send(publish_head(1, group, 2, 0, len(bad)) + bytes(bad))
                assert error_of(raw.frame()) is not None
        assert client.admin.list_offsets("orders", "latest") == before


def test_a_batch_with_a_lying_count_is_refused(broker: BrokerProcess) -> None:
    group = group_of(broker)
    with Raw(broker.address) as raw:
        for place, form, value in (
            (56, "<I", 0), (56, "<I", 2**32 - 1), (60, "<I", 2**32 - 1), (54, "<H", 65_535),
        ):  # fmt: skip
            batch = encode_batch([b"a"], codec=0, base_ts_us=1)
            struct.pack_into(form, batch, place, value)
            struct.pack_into("<I", batch, 48, crc32c(memoryview(batch)[52:]))
            raw.send(publish_head(1, group, 2, 0, len(batch)) + bytes(batch))
            assert error_of(raw.frame()) is not None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../etc", "a/b", "a\x00b", "a\nb", "\x1b[2J", "{}", "%s", "x" * 201, "ä",
     "x" * 10_000, "__groups"],
)  # fmt: skip
def test_a_name_with_a_trick_in_it_is_refused(broker: BrokerProcess, name: str) -> None:
    with sync.connect(broker.address) as client:
        with pytest.raises(PenstockError):
            client.publish(name, b"a")
        with Raw(broker.address) as raw:
            raw.send(encode_message(CreateTopic(name=name, partitions=1), 1))
            error = error_of(raw.frame())
        assert isinstance(error, PenstockError)
        if name != "__groups":
            assert isinstance(error, InvalidName)
        assert all(topic.name != name for topic in client.admin.list_topics())


def test_values_beyond_their_range_are_refused(broker: BrokerProcess) -> None:
    huge = 2**63
    with Raw(broker.address) as raw:
        for request in (
            CreateTopic(name="big", partitions=huge),
            CreateTopic(name="big", partitions=0),
            CreateTopic(name="big", partitions=-1),
            CreateTopic(name="big", partitions=1, replication=-1),
            CreateTopic(name="big", partitions=1, config={"retention_ms": -huge}),
            CreateTopic(name="big", partitions=1, config={"segment_bytes": 0}),
            ListOffsets(topic="orders", positions={-1: -1}),
            ListOffsets(topic="orders", positions={huge: huge}),
        ):
            raw.send(encode_message(request, 1))
            assert error_of(raw.frame()) is not None, request


def test_a_log_line_can_not_be_forged(broker: BrokerProcess) -> None:
    with Raw(broker.address, hello=False) as raw:
        forged = "x\n2026-01-01T00:00:00Z critical penstock forged"
        raw.send(encode_message(Hello(magic=forged, version_min=1, version_max=1), 1))
        assert raw.ends()
    assert not any(line.startswith("2026-01-01") for line in broker.log().splitlines())
