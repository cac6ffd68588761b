from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import RemoteProtocolError
from penstock_broker.node.peers.frames import SNAPSHOT_BYTES_MAX, checked_frame
from penstock_broker.node.peers.snapshots import Assembly, Outgoing, fits, unpack_piece
from penstock_broker.raft import Configuration, InstallSnapshot, Snapshot
from tests.node.peers.damage import U32, U64, refuses_any_change, refuses_any_cut

ME, YOU = 7, 8
IDS = st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True)
SNAPSHOTS = st.builds(
    lambda terms, index, voters, blob: InstallSnapshot(
        ME, YOU, max(terms), Snapshot(index, min(terms), Configuration.of(voters), blob)
    ),
    st.tuples(U32, U32), U64, IDS, st.binary(max_size=300),
)  # fmt: skip


def pieces(gid: int, message: InstallSnapshot, piece_bytes: int = 1 << 20) -> list[bytes]:
    outgoing, found = Outgoing(gid, message, piece_bytes), []
    while not outgoing.done:
        found.append(b"".join(outgoing.take()))
    return found


def decode(frame: bytes) -> object:
    return unpack_piece(memoryview(frame), 0, len(frame), ME, YOU)


def add(assembly: Assembly, frame: bytes) -> InstallSnapshot | None:
    return assembly.add(unpack_piece(memoryview(frame), 0, len(frame), ME, YOU))


@given(U32, SNAPSHOTS, st.integers(1, 400))
def test_a_snapshot_comes_out_as_it_went_in(
    gid: int, message: InstallSnapshot, piece_bytes: int
) -> None:
    assembly = Assembly()
    *some, last = pieces(gid, message, piece_bytes)
    assert [add(assembly, frame) for frame in some] == [None] * len(some)
    assert add(assembly, last) == message
    assert assembly.size_bytes == 0


@given(SNAPSHOTS, U32, U32)
def test_a_damaged_snapshot_is_refused(message: InstallSnapshot, place: int, value: int) -> None:
    (frame,) = pieces(1, message)

    refuses_any_change(frame, decode, place, value)
    refuses_any_cut(frame, decode, place)


def made(blob: object, index: int = 1) -> InstallSnapshot:
    return InstallSnapshot(ME, YOU, 1, Snapshot(index, 1, Configuration.of([1]), blob))


def test_a_lost_piece_costs_the_whole_and_the_next_attempt_is_taken() -> None:
    assembly, message = Assembly(), made(b"0123456789")
    frames = pieces(1, message, 3)
    for frame in (frames[0], *frames[2:]):
        assert add(assembly, frame) is None
    assert assembly.size_bytes == 0
    assert [add(assembly, frame) for frame in frames][-1] == message


def test_pieces_of_two_snapshots_are_not_mixed() -> None:
    assembly = Assembly()
    one, other = pieces(1, made(b"a" * 9), 3), pieces(1, made(b"b" * 9, 2), 3)
    for frame in (one[0], one[1], other[2], other[0], one[1], one[2]):
        assert add(assembly, frame) is None
    elsewhere = pieces(2, made(b"c" * 9), 3)
    both = [add(assembly, frame) for pair in zip(one, elsewhere, strict=True) for frame in pair]
    assert both[-2:] == [made(b"a" * 9), made(b"c" * 9)]


def test_what_is_put_together_is_bounded() -> None:
    assembly = Assembly(bytes_max=10)
    frames = pieces(1, made(bytes(12)), 4)
    assert [add(assembly, frame) for frame in frames] == [None] * 3
    assert assembly.size_bytes == 0
    add(assembly, frames[0])
    assembly.forget(ME)
    assert assembly.size_bytes == 0


@given(st.binary(max_size=200))
def test_a_snapshot_of_anything_is_refused(body: bytes) -> None:
    try:
        decode(checked_frame(0x76, body))
    except RemoteProtocolError:
        return
    raise AssertionError("it was taken for a snapshot")


class Huge(bytes):
    """Says that it is larger than any snapshot may be."""

    def __len__(self) -> int:
        return SNAPSHOT_BYTES_MAX + 1


def test_a_snapshot_has_a_limit() -> None:
    assert fits(made(bytes(100)))
    assert not fits(made(Huge()))
    assert not fits(made(None))
