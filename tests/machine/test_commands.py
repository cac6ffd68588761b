import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadRequest, CorruptData, UnsupportedFormat
from penstock_broker.machine.commands import (
    AlterSharedGroup,
    Bundle,
    Command,
    Commit,
    ConfigureShared,
    CreateSharedGroup,
    CreateTopic,
    DeleteSharedGroup,
    EnableDelays,
    Join,
    Leave,
    RemoveShared,
    Seek,
    ShareOps,
    TopicRef,
    Trim,
    decode_command,
    encode_command,
    refuse,
)
from penstock_broker.machine.sharing import ops

ALL_OPS: list[ops.ShareOp] = [
    ops.Grant("g", 1 << 32 | 7, "m", "h", [0, 5, 9, 1], 2**60),
    ops.Settle("g", 7, ops.NACK, [0, 2], 5, "Timeout", "trace", "m"),
    ops.Settle("g", 7, ops.NACK, [0, 2, 2, 1], 0, "Timeout", "trace", "m", [5, 6]),
    ops.Renew("g", "m", [7, 8], 2**60),
    ops.Extend("g", 7, 2**60),
    ops.Expire("g", [7]),
    ops.Move("g", [1, 2], 9),
    ops.Moved("g", 3, 2**64 - 1),
    ops.Drop("g", [1, 1], "gone"),
    ops.Redrive("g", [1, 1], True),
    ops.Purge("g", [1, 1]),
    ops.Overtake("g", 9, "old"),
    ops.Outdate("g", [1, 1]),
]

REF = TopicRef(name="orders", id="id-1", partitions=3, revision=9)

SAMPLES: list[Command] = [
    CreateTopic(name="orders", id="id-1", config={"retention_ms": 1, "cleanup": None}),
    Join(group="g", member="m", topics=["orders"], session_timeout_ms=1000, refs=[REF]),
    Commit(group="g", member="m", generation=3, offsets={"orders": {0: 7, 2: 2**62}}),
    Seek(group="g", topic=REF, positions={1: 5}),
    Bundle(commands=[Leave(group="g", member="m"), Commit(group="g", offsets={})]),
    Trim(offset=2**63 - 1),
    CreateSharedGroup(topic="orders", group="g", id="i", settings={"lease_ms": "10s"}, start=-1),
    AlterSharedGroup(topic="orders", group="g", settings={"lease_ms": None}),
    DeleteSharedGroup(topic="orders", group="g"),
    EnableDelays(topic="orders", id="i"),
    ConfigureShared(group="g", revision=3, settings={"strict": "yes"}, start_offset=7, id="i"),
    RemoveShared(group="g"),
    ShareOps(ops=ALL_OPS),
]


@pytest.mark.parametrize("command", SAMPLES, ids=lambda command: type(command).__name__)
def test_a_command_survives_its_disk_form(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


def test_the_disk_form_never_changes_by_itself() -> None:
    assert encode_command(Trim(offset=5)).hex() == "0182a474797065a45472696da66f666673657405"


def test_ops_are_short() -> None:
    """A run of acks is some 20 bytes beside the name of its group."""
    one = encode_command(ShareOps(ops=[ops.Settle("g", 1, ops.ACK, [1000, 1000])]))
    assert (
        one.hex()
        == "0182a474797065a853686172654f7073a36f7073919a02a167010192cd03e8cd03e800a0a0a090"
    )
    assert {type(op) for op in ALL_OPS} == set(ops.ShareOp.__args__)


def test_another_version_is_refused() -> None:
    with pytest.raises(UnsupportedFormat):
        decode_command(b"\x02" + encode_command(Trim(offset=5))[1:])
    with pytest.raises(UnsupportedFormat):
        decode_command(b"")


@pytest.mark.parametrize(
    "body",
    [
        {"type": "Trim", "offset": 5, "more": 1},
        {"type": "Trim", "offset": "5"},
        {"type": "Trim"},
        {"type": "Explode"},
        [1, 2],
    ],
)
def test_a_form_that_is_not_exactly_known_is_refused(body: object) -> None:
    with pytest.raises(CorruptData):
        decode_command(b"\x01" + msgspec.msgpack.encode(body))


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    with contextlib.suppress(CorruptData):
        decode_command(b"\x01" + body)


def config_of(value: Any) -> CreateTopic:
    return CreateTopic(name="orders", id="id-1", config={"retention_ms": value})


@pytest.mark.parametrize("value", [[1], {}, b"x", 2**64, -(2**64), object(), "\ud800"])
def test_what_no_replica_could_read_is_never_proposed(value: Any) -> None:
    with pytest.raises(BadRequest):
        encode_command(config_of(value))


@pytest.mark.parametrize("value", [None, True, 2**64 - 1, 1.5, "7d"])
def test_any_scalar_can_be_proposed(value: Any) -> None:
    assert decode_command(encode_command(config_of(value))) == config_of(value)


def test_a_refusal_carries_the_code_and_speaks_for_itself() -> None:
    refused = refuse(BadRequest, offset=3)
    assert (refused.code, refused.detail) == (BadRequest.code, {"offset": 3})
    assert refused.message == BadRequest().message
