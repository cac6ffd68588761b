from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import RemoteProtocolError
from penstock_broker.node.peers.frames import SNAPSHOT_BYTES_MAX, checked_frame
from penstock_broker.node.peers.snapshots import fits, pack_snapshot, unpack_snapshot
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


def decode(frame: bytes) -> object:
    return unpack_snapshot(memoryview(frame), 0, len(frame), ME, YOU)


@given(U32, SNAPSHOTS)
def test_a_snapshot_comes_out_as_it_went_in(gid: int, message: InstallSnapshot) -> None:
    assert decode(b"".join(pack_snapshot(gid, message))) == (gid, message)


@given(SNAPSHOTS, U32, U32)
def test_a_damaged_snapshot_is_refused(message: InstallSnapshot, place: int, value: int) -> None:
    frame = b"".join(pack_snapshot(1, message))

    refuses_any_change(frame, decode, place, value)
    refuses_any_cut(frame, decode, place)


@given(st.binary(max_size=200))
def test_a_snapshot_of_anything_is_refused(body: bytes) -> None:
    try:
        decode(checked_frame(0x76, body))
    except RemoteProtocolError:
        return
    raise AssertionError("it was taken for a snapshot")


def test_a_snapshot_has_a_limit() -> None:
    small, large = bytes(100), memoryview(bytes(SNAPSHOT_BYTES_MAX + 1))

    def made(blob: object) -> InstallSnapshot:
        return InstallSnapshot(ME, YOU, 1, Snapshot(1, 1, Configuration.of([1]), blob))

    assert fits(made(small))
    assert not fits(made(large))
    assert not fits(made(None))
