"""Batches, messages and events that several tests use."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from penstock.protocol.batch import CODEC_ZSTD, Kind, stamp
from penstock.protocol.events import Fetch, Fetched, Publish, Published, Reply, Request
from penstock.protocol.messages import (
    REPLIES,
    REQUESTS,
    BrokerStatus,
    Hello,
    HelloReply,
    Message,
    Metadata,
)
from penstock.protocol.partitioning import key_slots, tenant_slots
from penstock.protocol.records import RecordBatch, encode_batch, encode_compacted

HELLO = Hello(magic="penstock", version_min=1, version_max=1, client="a test")
WELCOME = HelloReply(
    version=1,
    node=7,
    cluster="c-1",
    broker="0.1",
    frame_bytes_max=8 << 20,
    batch_bytes_max=1 << 20,
    credit_bytes=16 << 20,
)


def stamped(batch: bytearray, base_offset: int = 1000, kind: int = Kind.DATA) -> bytearray:
    """A batch as a leader stores it."""
    stamp(batch, kind, 17, 3, 2, base_offset, 1_700_000_000_000_001)
    return batch


def batches() -> dict[str, bytes]:
    """One unstamped batch of every shape."""
    many = [b'{"id": %d, "name": "somebody"}' % number for number in range(40)]
    keys = [b"a", b"b", None]
    return {
        "one_value": bytes(encode_batch([b"hello"])),
        "tombstone": bytes(encode_batch([None], [b"key"])),
        "empty_value": bytes(encode_batch([b"", b"x"])),
        "keys": bytes(encode_batch([b"1", b"2", b"3"], keys, base_ts_us=5)),
        "timestamps": bytes(encode_batch([b"1", b"2"], timestamps_ms=[9_000, 9_500])),
        "headers": bytes(encode_batch([b"1", b"2"], headers=[{"source": b"web", "n": b""}, None])),
        "idempotent": bytes(
            encode_batch([b"1"], producer_id=2**63 + 1, producer_epoch=4, base_sequence=2**40)
        ),
        "compressed": bytes(encode_batch(many, codec=CODEC_ZSTD, base_ts_us=1)),
        "everything": bytes(
            encode_batch(
                [b"1" * 300, None, b"3"],
                keys,
                [1_000, 1_001, 1_003],
                [None, {"a": b"b"}, {}],
                codec=CODEC_ZSTD,
                producer_id=1,
                producer_epoch=2,
                base_sequence=3,
                dedup_id=b"order-1",
                deliver_at_us=2**50,
                trace_id=bytes(range(16)),
                key_slots=key_slots(keys),
                tenant_slots=tenant_slots(keys, b":"),
            )
        ),
    }


def stored_batches() -> dict[str, bytes]:
    """The same as a leader stores them, and compacted ones."""
    stored = {name: bytes(stamped(bytearray(batch))) for name, batch in batches().items()}
    whole = RecordBatch(stored["everything"])
    stored["compacted"] = bytes(encode_compacted(whole, [0, 2]))
    stored["compacted_to_nothing"] = bytes(encode_compacted(whole, []))
    return stored


def client_events(batch: bytes) -> list[Any]:
    return [
        Request(2, Metadata(topics=["orders"])),
        Publish(3, 5, batch, 2, 30_000),
        Fetch(4, 5, 10, 1 << 20, 1, 500),
        Publish(6, 5, batch, 0, 0),
        Request(2**32 - 1, BrokerStatus()),
    ]


def broker_events(run: bytes) -> list[Any]:
    """Answers to `client_events` that are not errors, in another order."""
    return [
        Fetched(4, 100, 2, run, 5),
        Published(3, 99, 1_700_000_000_000_000, True, 5),
        Reply(2, example(REPLIES[2])),
    ]


def example(cls: type[Struct]) -> Any:
    """A message with every field set to something that is easy to recognise."""
    return cls(**{field.name: _value(field.type, field.name) for field in fields(cls)})


_SIMPLE: dict[Any, Callable[[str], Any]] = {
    int: lambda name: 1 + sum(name.encode()) % 40,
    str: lambda name: name.replace("_", "-"),
    bool: lambda name: True,
    bytes: str.encode,
    float: lambda name: 0.5,
    object: lambda name: f"a {name}",
}


def _value(type_: Any, name: str) -> Any:
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if type_ in _SIMPLE:
        return _SIMPLE[type_](name)
    if origin is list:
        return [_value(args[0], name)]
    if origin is tuple:
        return tuple(_value(arg, name) for arg in args)
    if origin is dict:
        return {_value(args[0], name): _value(args[1], name)}
    if origin is types.UnionType:
        return _value(args[0], name)
    return example(type_)


MESSAGES = [*REQUESTS.values(), *REPLIES.values()]

_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
).filter(lambda value: _depth(value) <= 3)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def messages(cls: type[Struct]) -> st.SearchStrategy[Message]:
    """Any message of a class."""
    return st.builds(cls, **{field.name: _strategy(field.type) for field in fields(cls)})


def _strategy(type_: Any) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    scalars = {
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False),
        str: st.text(max_size=20),
        bytes: st.binary(max_size=20),
        bool: st.booleans(),
        object: _plain,
        type(None): st.none(),
    }
    if type_ in scalars:
        return scalars[type_]
    if origin is list:
        return st.lists(_strategy(args[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(_strategy, args))
    if origin is dict:
        return st.dictionaries(_strategy(args[0]), _strategy(args[1]), max_size=3)
    if origin is types.UnionType:
        return st.one_of(*map(_strategy, args))
    return messages(type_)
