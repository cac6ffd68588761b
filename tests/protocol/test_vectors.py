"""The committed bytes are encoded and decoded; both ways must agree with what is written there."""

import msgspec
import pytest

from penstock import errors
from penstock.protocol.batch import check_publish, verify
from penstock.protocol.codec import (
    decode_error,
    decode_reply,
    decode_request,
    encode_error,
    encode_message,
)
from penstock.protocol.connection import Connection, Role
from penstock.protocol.events import Fetch, Fetched, Publish, Published, Reply, Request
from penstock.protocol.frames import FRAME_HEADER
from penstock.protocol.messages import REPLIES, REQUESTS
from penstock.protocol.partitioning import key_slot, partition_for_key
from penstock.protocol.records import RecordBatch, encode_batch
from tests.protocol.make_vectors import contents, load
from tests.protocol.samples import HELLO, WELCOME, stamped

BATCHES, FRAMES, MESSAGES, ERRORS = map(load, ("batches", "frames", "messages", "errors"))
BYTE_COLUMNS = ("values", "keys", "dedup_id", "trace_id")


def named(vector):
    return vector["name"]


def from_plain(arguments):
    """Encoder arguments with their bytes as bytes again."""

    def unhex(value):
        return None if value is None else bytes.fromhex(value)

    found = dict(arguments)
    for name in ("values", "keys"):
        if name in found:
            found[name] = [unhex(each) for each in found[name]]
    for name in ("dedup_id", "trace_id"):
        if name in found:
            found[name] = unhex(found[name])
    if "headers" in found:
        found["headers"] = [
            each and {name: unhex(value) for name, value in each.items()}
            for each in found["headers"]
        ]
    return found


@pytest.mark.parametrize("vector", BATCHES, ids=named)
def test_batch_is_read_as_written(vector):
    stored = bytes.fromhex(vector["stored"])
    verify(stored)
    found = contents(stored)
    assert found == {name: vector[name] for name in found}


@pytest.mark.parametrize("vector", BATCHES[:-1], ids=named)
def test_batch_is_built_as_written(vector):
    built = encode_batch(**from_plain(vector["arguments"]))
    unstamped = bytes.fromhex(vector["unstamped"])
    if vector["name"] != "schedule":  # which no client may send
        check_publish(unstamped)
    if vector["exact"]:
        assert built == unstamped
    else:  # another zstd may compress otherwise, but not to other records
        ours, theirs = (RecordBatch(each, verify=False) for each in (built, unstamped))
        assert ours.raw_payload() == theirs.raw_payload()
    if vector["exact"]:
        assert stamped(built).hex() == vector["stored"]


@pytest.mark.parametrize("vector", MESSAGES, ids=named)
def test_message_is_encoded_and_decoded_as_written(vector):
    registry, decode = (
        (REQUESTS, decode_request) if vector["direction"] == "request" else (REPLIES, decode_reply)
    )
    cls = registry[vector["type"]]
    message = msgspec.convert(vector["fields"], cls, strict=False, str_keys=True)
    frame = bytes.fromhex(vector["frame"])
    assert cls.__name__ == vector["name"]
    assert encode_message(message, vector["correlation"]) == frame
    assert FRAME_HEADER.unpack_from(frame)[1] == vector["type"]
    assert decode(vector["type"], frame[16:]) == message


def test_every_message_and_every_error_has_a_vector():
    registered = (*REQUESTS.values(), *REPLIES.values())
    classes = {cls.__name__ for cls in registered if cls.__module__.startswith("penstock.")}
    assert {vector["name"] for vector in MESSAGES} == classes
    assert {vector["code"] for vector in ERRORS} == set(errors.BY_CODE) - {99}


@pytest.mark.parametrize("vector", ERRORS, ids=named)
def test_error_is_encoded_and_decoded_as_written(vector):
    cls = errors.BY_CODE[vector["code"]]
    frame = bytes.fromhex(vector["frame"])
    error = cls(vector["message"], **vector["detail"])
    assert encode_error(vector["correlation"], vector["type"], error) == frame
    found = decode_error(frame[16:])
    assert (type(found), found.message, found.detail) == (cls, "why", {"leader": 3})


def events():
    """The hot frames as events."""
    by_name = {vector["name"]: vector for vector in FRAMES}

    def fields(name, *names):
        return {each: by_name[name][each] for each in names}

    publish = fields("publish_request", "correlation", "group", "acks", "timeout_ms")
    fetch = dict(by_name["fetch_request"])
    del fetch["name"], fetch["frame"]
    published = ("correlation", "base_offset", "append_ts_us", "duplicate", "group")
    fetched = ("correlation", "high_watermark", "log_start_offset", "group")
    batch = bytes.fromhex(by_name["publish_request"]["batch"])
    run = bytes.fromhex(by_name["fetch_reply"]["batches"])
    return {
        "publish_request": Publish(**publish, batch=batch),
        "publish_reply": Published(**fields("publish_reply", *published)),
        "publish_reply_duplicate": Published(**fields("publish_reply_duplicate", *published)),
        "fetch_request": Fetch(**fetch),
        "fetch_reply": Fetched(**fields("fetch_reply", *fetched), batches=run),
    }


@pytest.mark.parametrize("vector", FRAMES, ids=named)
def test_hot_frame_is_encoded_and_decoded_as_written(vector):
    client, broker = Connection(Role.CLIENT), Connection(Role.BROKER)
    broker.receive_data(client.send(Request(1, HELLO)))
    broker.next_events()
    client.receive_data(broker.send(Reply(1, WELCOME)))
    client.next_events()
    event, frame = events()[vector["name"]], bytes.fromhex(vector["frame"])
    if "reply" in vector["name"]:
        request = Publish(258, 5, bytes(96)) if event.correlation == 258 else Fetch(259, 5, 0, 1)
        broker.receive_data(client.send(request))
        broker.next_events()
        client, broker = broker, client
    assert client.send(event) == frame
    broker.receive_data(frame)
    assert broker.next_event() == event


@pytest.mark.parametrize("vector", load("partitioning"), ids=lambda vector: vector["key"])
def test_partition_and_slot_never_change(vector):
    key = bytes.fromhex(vector["key"])
    assert key_slot(key) == vector["slot"]
    for partitions, partition in vector["partitions"].items():
        assert partition_for_key(key, int(partitions)) == partition
