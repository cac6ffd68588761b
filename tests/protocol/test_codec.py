import struct

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import errors
from penstock.errors import BadRequest, PenstockError, RecordTooLarge, RemoteProtocolError
from penstock.protocol import codec
from penstock.protocol.frames import FLAG_ERROR, FLAG_RESPONSE, FRAME_HEADER
from penstock.protocol.messages import REPLIES, REQUESTS, TYPE_OF, CommitOffsets, CreateTopic
from penstock_broker.node import questions
from penstock_broker.node.peers import hello
from tests.protocol.bounded import memory_below
from tests.protocol.samples import MESSAGES, example, messages

AMONG_BROKERS = (questions, hello)
"""Messages are known once their module is; these are tested whichever tests ran before."""
TAGS = [*range(300), 1004, 43000, 55799, 2**16, 2**32, 2**64 - 1]


def decode(cls, body):
    if REQUESTS.get(TYPE_OF[cls]) is cls:
        return codec.decode_request(TYPE_OF[cls], body)
    return codec.decode_reply(TYPE_OF[cls], body)


@pytest.mark.parametrize("cls", MESSAGES)
def test_message_comes_back(cls):
    message = example(cls)
    frame = codec.encode_message(message, 2**32 - 1)
    length, type_, flags, zero, correlation, group = FRAME_HEADER.unpack_from(frame)
    assert (length, zero, correlation, group) == (len(frame), 0, 2**32 - 1, 0)
    assert flags == (FLAG_RESPONSE if REPLIES.get(type_) is cls else 0)
    assert decode(cls, frame[16:]) == message
    assert decode(cls, memoryview(frame)[16:]) == message


@given(st.sampled_from(MESSAGES).flatmap(messages))
def test_any_message_comes_back(message):
    frame = codec.encode_message(message, 1)
    assert decode(type(message), frame[16:]) == message


@pytest.mark.parametrize("cls", MESSAGES)
def test_every_truncation_and_trailing_byte_is_refused(cls):
    body = codec.encode_message(example(cls), 1)[16:]
    for bad in [*(body[:size] for size in range(len(body))), body + b"\0", body + body]:
        with pytest.raises((BadRequest, RemoteProtocolError)):
            decode(cls, bad)


def test_every_flipped_bit_gives_a_message_or_our_error():
    body = codec.encode_message(example(CreateTopic), 1)[16:]
    for position in range(len(body)):
        for bit in range(8):
            damaged = bytearray(body)
            damaged[position] ^= 1 << bit
            try:
                assert isinstance(decode(CreateTopic, damaged), CreateTopic)
            except BadRequest:
                continue


def body_of(**fields):
    return cbor2.dumps({"name": "orders", **fields})


@pytest.mark.parametrize("content", [0, b"1", "1", [1, 2], {}])
def test_no_tag_gets_through(content):
    for tag in TAGS:
        inner = body_of(config={"a": cbor2.CBORTag(tag, content)})
        for body in (inner, cbor2.dumps(cbor2.CBORTag(tag, {"name": "x"}))):
            with pytest.raises(BadRequest):
                codec.decode_request(0x03, body)


NAME = b"\xa2\x64name\x61x\x66config\xa1\x61a"
HOSTILE = {
    "empty": b"",
    "not_a_map": b"\x80",
    "null": b"\xf6",
    "undefined": NAME + b"\xf7",
    "simple_value": NAME + b"\xe5",
    "simple_value_of_two_bytes": NAME + b"\xf8\xff",
    "reserved_length": NAME + b"\x1c",
    "break_code": NAME + b"\xff",
    "indefinite_array": NAME + b"\x9f\x01\xff",
    "indefinite_map": NAME + b"\xbf\x61a\x01\xff",
    "indefinite_text": NAME + b"\x7f\x61a\xff",
    "indefinite_bytes": NAME + b"\x5f\x41a\xff",
    "array_of_2_to_31": NAME + b"\x9a\x80\x00\x00\x00",
    "array_of_2_to_62": NAME + b"\x9b\x40\0\0\0\0\0\0\0",
    "array_of_2_to_64": NAME + b"\x9b" + b"\xff" * 8,
    "map_of_2_to_62": NAME + b"\xbb\x40\0\0\0\0\0\0\0",
    "text_of_2_to_31": NAME + b"\x7a\x80\x00\x00\x00",
    "text_of_2_to_62": NAME + b"\x7b\x40\0\0\0\0\0\0\0",
    "bytes_of_2_to_62": NAME + b"\x5b\x40\0\0\0\0\0\0\0",
    "bytes_of_2_to_64": NAME + b"\x5b" + b"\xff" * 8,
    "not_utf_8": NAME + b"\x61\xff",
    "surrogate": NAME + b"\x63\xed\xa0\x80",
    "duplicate_key": b"\xa2\x64name\x61x\x64name\x61y",
    "duplicate_inner_key": NAME + b"\xa2\x01\x01\x01\x01",
    "list_as_key": NAME + b"\xa1\x80\x01",
    "map_as_key": NAME + b"\xa1\xa0\x01",
    "float_as_key": NAME + b"\xa1\xf9\x3c\x00\x01",
    "null_as_key": NAME + b"\xa1\xf6\x01",
    "bytes_as_key": NAME + b"\xa1\x41a\x01",
    "integer_below_64_bits": NAME + b"\x3b\x80" + b"\0" * 7,
    "least_integer": NAME + b"\x3b" + b"\xff" * 8,
    "integer_below_64_bits_as_key": NAME + b"\xa1\x3b" + b"\xff" * 8 + b"\x01",
    "nested_beyond_the_limit": NAME + b"\x81" * 7 + b"\x01",
    "nested_1000_times": NAME + b"\x81" * 1000 + b"\x01",
    "nested_maps_1000_times": NAME + b"\xa1\x01" * 1000 + b"\x01",
    "nested_tags_1000_times": NAME + b"\xc6" * 1000 + b"\x01",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_body_is_refused_in_little_memory(name):
    with memory_below(300_000), pytest.raises(BadRequest):
        codec.decode_request(0x03, HOSTILE[name])


def test_nesting_up_to_the_limit_is_accepted():
    message = codec.decode_request(0x03, NAME + b"\x81" * 6 + b"\x01")
    assert message.config == {"a": [[[[[[1]]]]]]}


def test_integers_have_64_bits():
    message = codec.decode_request(
        0x03, NAME + b"\x82\x3b\x7f" + b"\xff" * 7 + b"\x1b" + b"\xff" * 8
    )
    assert message.config == {"a": [-(2**63), 2**64 - 1]}


@pytest.mark.parametrize("item", [b"\x80", b"\xa0", b"\x01", b"\x60"])
def test_many_items_cost_a_bounded_multiple_of_their_bytes(item):
    count = codec.REQUEST_BODY_BYTES_MAX - 100
    body = NAME + b"\x9a" + struct.pack(">I", count) + item * count
    with memory_below(100 * codec.REQUEST_BODY_BYTES_MAX):
        codec.decode_request(0x03, body)


def test_body_beyond_its_limit_is_refused_unread():
    with pytest.raises(BadRequest, match="limit"):
        codec.decode_request(0x03, bytes(codec.REQUEST_BODY_BYTES_MAX + 1))
    with pytest.raises(RemoteProtocolError, match="limit"):
        codec.decode_reply(0x03, bytes(codec.REPLY_BODY_BYTES_MAX + 1))
    with pytest.raises(RemoteProtocolError, match="limit"):
        codec.decode_error(bytes(codec.ERROR_BODY_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": 5}, r"\$\.name"),
        ({"partitions": "3"}, r"\$\.partitions"),
        ({"partitions": True}, r"\$\.partitions"),
        ({"partitions": 1.0}, r"\$\.partitions"),
        ({"partitions": None}, r"\$\.partitions"),
        ({"config": []}, r"\$\.config"),
        ({"config": {1: 2}}, r"\$\.config"),
        ({"dry_run": 1}, r"\$\.dry_run"),
    ],
)
def test_wrong_type_is_named_with_its_field(fields, place):
    with pytest.raises(BadRequest, match=place):
        codec.decode_request(0x03, body_of(**fields))


def test_missing_field_is_named_and_an_unknown_one_is_ignored():
    with pytest.raises(BadRequest, match="name"):
        codec.decode_request(0x03, cbor2.dumps({"partitions": 3}))
    assert codec.decode_request(0x03, body_of(later=[1])) == CreateTopic(name="orders")


def test_text_is_not_taken_for_a_number_as_a_key():
    body = cbor2.dumps({"group": "g", "member": "m", "generation": 1, "offsets": {"t": {"0": 1}}})
    with pytest.raises(BadRequest, match=r"\$\.offsets"):
        codec.decode_request(TYPE_OF[CommitOffsets], body)


def test_unknown_type_is_refused():
    with pytest.raises(BadRequest, match="0xee"):
        codec.decode_request(0xEE, b"\xa0")
    with pytest.raises(RemoteProtocolError, match="0xee"):
        codec.decode_reply(0xEE, b"\xa0")


def test_message_that_can_not_be_encoded_is_a_bad_request():
    for config in ({"a": object()}, {"a": "\ud800"}):
        with pytest.raises(BadRequest, match="CreateTopic"):
            codec.encode_message(CreateTopic(name="x", config=config), 1)


def test_message_beyond_the_limit_is_not_sent():
    with pytest.raises(RecordTooLarge):
        codec.encode_message(CreateTopic(name="x" * codec.REQUEST_BODY_BYTES_MAX), 1)


@pytest.mark.parametrize("cls", errors.BY_CODE.values())
def test_every_error_comes_back(cls):
    error = cls("it went wrong", leader=3, address="host:1", ok=None, share=0.5, raw=b"\0")
    frame = codec.encode_error(9, 0x10, error)
    header = FRAME_HEADER.unpack_from(frame)
    assert header == (len(frame), 0x10, FLAG_RESPONSE | FLAG_ERROR, 0, 9, 0)
    found = codec.decode_error(frame[16:])
    assert type(found) is cls
    assert found.message == "it went wrong"
    assert found.detail.items() >= error.detail.items()


def test_unknown_error_code_is_kept():
    body = cbor2.dumps({"code": 12345, "message": "new", "detail": {}})
    found = codec.decode_error(body)
    assert type(found) is errors.UnknownError
    assert found.detail == {"code": 12345}


def test_error_is_always_encodable_and_bounded():
    class Odd(PenstockError):
        """Odd."""

    odd = Odd("\ud800" + "x" * 5000, big=2**70, small=-(2**70), thing=object(), text="\udfff")
    found = codec.decode_error(codec.encode_error(1, 2, odd)[16:])
    assert found.message == "?" + "x" * (codec.ERROR_TEXT_MAX - 1)
    assert found.detail == {
        "big": str(2**70),
        "small": str(-(2**70)),
        "thing": "object",
        "text": "?",
    }
    long = codec.encode_error(1, 2, PenstockError("m", text="x" * codec.ERROR_BODY_BYTES_MAX))
    assert codec.decode_error(long[16:]).detail == {}


@pytest.mark.parametrize(
    "body", [b"", b"\xa0", cbor2.dumps({"code": "1", "message": "m"}), b"\xff" * 20]
)
def test_malformed_error_breaks_the_protocol(body):
    with pytest.raises(RemoteProtocolError):
        codec.decode_error(body)


@given(st.binary(max_size=100), st.sampled_from([*REQUESTS, *REPLIES]))
def test_random_bytes_raise_nothing_but_our_errors(body, type_):
    for decode_any in (codec.decode_request, codec.decode_reply):
        try:
            decode_any(type_, body)
        except (BadRequest, RemoteProtocolError):
            continue
