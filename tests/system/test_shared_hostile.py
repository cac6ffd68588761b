"""Members that no honest program is: absurd numbers, hostile names, floods."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import msgspec
import pytest

from penstock import sync
from penstock.errors import LimitExceeded, PenstockError
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.frames import FLAG_ERROR, frame
from penstock.protocol.leases import (
    ACK,
    NACK,
    SETTLE,
    Acquire,
    Verdict,
    acquire_request,
    settle_request,
)
from penstock.protocol.sharing import AttachGroup, AttachGroupReply, RenewLeases
from tests.system.process import BrokerProcess, healthy
from tests.system.raw import HELLO, Raw
from tests.system.test_connections import crowd

pytestmark = pytest.mark.system

MIB = 1 << 20
HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("shared")).start() as running:
        with sync.connect(running.address) as client:
            client.admin.create_topic("orders")
            client.admin.create_group("orders", "billing")
            client.publish_many("orders", [b"v"] * 100)
        yield running
        with sync.connect(running.address) as client:
            client.publish("orders", b"last")
            with client.subscribe("orders", group="billing", mode="shared") as records:
                got = records.fetch(200, wait=5.0)
                assert got
                records.ack_many(got)
                records.flush()
        assert running.stop() == 0
        assert "Traceback" not in running.log()


@pytest.fixture(autouse=True)
def unharmed(broker: BrokerProcess) -> Iterator[None]:
    """Whatever a test does, others are served and the memory stays within its bounds."""
    before = broker.memory_bytes()
    yield
    healthy(broker)
    assert broker.memory_bytes() - before < 150 * MIB


def error_of(reply: tuple[int, int, int, bytes]) -> PenstockError | None:
    return decode_error(reply[3]) if reply[1] & FLAG_ERROR else None


def attached(raw: Raw, member: str = "m", in_flight: int = 100) -> AttachGroupReply:
    asked = AttachGroup(
        topic="orders", partition=0, group="billing", member=member, max_in_flight=in_flight
    )
    raw.send(encode_message(asked, 1))
    type_, flags, _, body = raw.frame()
    assert not flags & FLAG_ERROR, decode_error(body)
    reply = decode_reply(type_, body)
    assert isinstance(reply, AttachGroupReply)
    return reply


def test_verdicts_with_absurd_numbers_are_refused_or_change_nothing(broker: BrokerProcess) -> None:
    chance = random.Random(1)
    with Raw(broker.address) as raw:
        me = attached(raw)
        for _ in range(300):
            said = [
                Verdict(
                    chance.choice((0, 1 << 32 | 1, *HUGE, 2**64 - 1)),
                    chance.choice((100, 5000, *HUGE)),
                    chance.choice((1, 2**31 - 1)),
                    chance.choice((ACK, NACK)),
                    chance.choice((0, *HUGE)),
                )
            ]
            raw.send(settle_request(1, me.group_id, me.handle, said))
            assert raw.frame()[0] == SETTLE
        with sync.connect(broker.address) as client:
            (found,) = client.admin.describe_shared("orders", "billing").partitions
            assert (found.start, found.counters["acked"]) == (0, 0)


def test_mutated_settles_are_answered(broker: BrokerProcess) -> None:
    chance = random.Random(2)
    body = msgspec.msgpack.encode([Verdict(1, 2, 3, 1, 0, "r", "e"), Verdict(4, 5, 6, 2)])
    with Raw(broker.address) as raw:
        me = attached(raw)
        for _ in range(500):
            changed = bytearray(body)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            head = me.handle.to_bytes(4, "little")
            raw.send(frame(SETTLE, 0, 9, head + bytes(changed), me.group_id))
            assert raw.frame()[2] == 9


@pytest.mark.parametrize("name", ["", "x" * 201, "x" * 10_000])
def test_a_member_name_that_can_not_be_is_refused(broker: BrokerProcess, name: str) -> None:
    with Raw(broker.address) as raw:
        asked = AttachGroup(topic="orders", partition=0, group="billing", member=name)
        raw.send(encode_message(asked, 1))
        assert error_of(raw.frame()) is not None


def test_leases_that_nobody_has_are_told_as_lost(broker: BrokerProcess) -> None:
    with Raw(broker.address) as raw:
        asked = RenewLeases(
            topic="orders", partition=0, group="billing", member="m", leases=[*HUGE, 2**64 - 1]
        )
        raw.send(encode_message(asked, 1))
        type_, flags, _, body = raw.frame()
        assert flags & FLAG_ERROR or decode_reply(type_, body).lost  # type: ignore[attr-defined] # of this reply


def test_acquires_beyond_the_limit_of_a_connection_are_refused(broker: BrokerProcess) -> None:
    with Raw(broker.address) as raw:
        me = attached(raw, in_flight=1)
        waiting = Acquire(me.handle, 1, 1000, 60_000)
        for number in range(4200):
            raw.send(acquire_request(number, me.group_id, waiting))
        kinds = set()
        while LimitExceeded not in kinds:
            kinds.add(type(error_of(raw.frame())))


def test_floods_of_waiting_acquires_are_bounded(broker: BrokerProcess) -> None:
    before = broker.memory_bytes()
    asked = AttachGroup(topic="orders", partition=0, group="billing", member="flood")
    flood = HELLO + encode_message(asked, 1)
    with Raw(broker.address) as raw:
        gid = attached(raw).group_id
    for handle in (1, 2):
        flood += acquire_request(2, gid, Acquire(handle, 2**32 - 1, 2**32 - 1, 60_000)) * 5000
    with crowd(broker, 20, flood):
        healthy(broker)
        assert broker.memory_bytes() - before < 100 * MIB


def test_a_flood_of_settles_whose_answers_are_not_read_is_bounded(broker: BrokerProcess) -> None:
    before = broker.memory_bytes()
    said = [Verdict(7, 2 * number, 1, NACK, 0, "r" * 10) for number in range(9000)]
    with Raw(broker.address, receive_bytes=4096) as raw:
        me = attached(raw)
        request = settle_request(1, me.group_id, me.handle, said)
        raw.sock.settimeout(2.0)
        with contextlib.suppress(TimeoutError):
            raw.sock.sendall(request * 100)
        healthy(broker)
        assert broker.memory_bytes() - before < 150 * MIB
