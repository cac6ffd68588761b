import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadRequest, RemoteProtocolError
from penstock.protocol import frames as f
from tests.protocol.bounded import memory_below

LIMIT = 1000


def some_frames():
    return [
        f.frame(1, 0, 7, b"hello"),
        f.frame(2, 1, 8),
        f.publish_head(9, 3, 2, 100, 5) + b"batch",
        f.fetch_request(10, 3, 2**63, 1, 2, 3),
    ]


def test_frames_are_found_where_they_lie():
    run = b"xx" + b"".join(some_frames())
    found, unfinished = f.scan(run, 2, len(run), LIMIT)
    assert unfinished == 0
    assert [run[each.start : each.end] for each in found] == some_frames()
    assert [(each.type, each.flags, each.correlation, each.group) for each in found] == [
        (1, 0, 7, 0),
        (2, 1, 8, 0),
        (f.PUBLISH, 0, 9, 3),
        (f.FETCH, 0, 10, 3),
    ]
    assert all(type(each) is f.Frame for each in found)


def test_cut_frame_is_announced_with_its_length():
    run = b"".join(some_frames())
    first = len(some_frames()[0])
    for end in range(len(run)):
        found, unfinished = f.scan(run, 0, end, LIMIT)
        done = found[-1].end if found else 0
        assert done <= end
        if end - done < f.FRAME_HEADER_BYTES:
            assert unfinished == 0
        else:
            assert done + unfinished > end
        if end < first:
            assert not found


@pytest.mark.parametrize("length", [0, 1, 15, LIMIT + 1, 2**31, 2**32 - 1])
def test_impossible_length_is_refused_in_no_memory(length):
    run = length.to_bytes(4, "little") + bytes(12)
    with memory_below(10_000), pytest.raises(RemoteProtocolError):
        f.scan(run, 0, len(run), LIMIT)


def test_bytes_that_must_be_zero_are_checked():
    run = bytearray(f.frame(1, 0, 7))
    run[6] = 1
    with pytest.raises(RemoteProtocolError):
        f.scan(run, 0, len(run), LIMIT)


def test_largest_allowed_frame_is_found():
    run = f.frame(1, 0, 7, bytes(LIMIT - 16))
    assert len(f.scan(run, 0, len(run), LIMIT)[0]) == 1


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 20))
def test_any_frames_come_back_whole(bodies, cut):
    run = b"".join(f.frame(5, 0, at, body, at) for at, body in enumerate(bodies))
    end = max(0, len(run) - cut)
    found, _ = f.scan(run, 0, end, LIMIT)
    for at, each in enumerate(found):
        assert run[each.start + 16 : each.end] == bodies[at]
        assert (each.correlation, each.group) == (at, at)
    if not cut:
        assert len(found) == len(bodies)


def test_publish_request_is_read():
    request = f.publish_head(1, 2, f.ACKS_LEADER, 2500, 96) + bytes(96)
    assert f.read_publish(request, 0, len(request)) == (f.ACKS_LEADER, 2500)
    shifted = b"??" + request
    assert f.read_publish(shifted, 2, len(shifted)) == (f.ACKS_LEADER, 2500)


def test_publish_request_without_room_for_a_batch_is_refused():
    request = f.publish_head(1, 2, 2, 0, 96) + bytes(96)
    for end in range(16, len(request)):
        with pytest.raises(BadRequest):
            f.read_publish(request, 0, end)


@pytest.mark.parametrize("at", [16, 17, 18, 19])
def test_publish_request_with_a_wrong_field_is_refused(at):
    request = bytearray(f.publish_head(1, 2, 2, 0, 96) + bytes(96))
    request[at] = 3
    with pytest.raises(BadRequest):
        f.read_publish(request, 0, len(request))


def test_fetch_request_is_read_and_has_one_length():
    request = f.fetch_request(1, 2, 2**64 - 1, 1000, 10, 500)
    assert f.read_fetch(request, 0, len(request)) == (2**64 - 1, 1000, 10, 500, 0)
    for end in (39, 41):
        with pytest.raises(BadRequest):
            f.read_fetch(request + b"\0", 0, end)
    flagged = f.fetch_request(1, 2, 5, 1000, 10, 500, f.FETCH_ANY_REPLICA | f.FETCH_LINEARIZABLE)
    assert f.read_fetch(flagged, 0, len(flagged))[4] == f.FETCH_FLAGS
    wrong = bytearray(request)
    wrong[-1] = 1
    with pytest.raises(BadRequest):
        f.read_fetch(wrong, 0, len(wrong))
