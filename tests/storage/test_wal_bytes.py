"""WAL files are looked through piece by piece: nothing is missed where two pieces meet."""

from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, layout
from penstock_broker.storage.wal_bytes import PIECE_BYTES, WalBytes
from penstock_broker.storage.wal_format import FIRST_FLUSH, FLUSH
from tests.storage.helpers import control_entry, flush, open_store

LARGE = StorageConfig(wal_file_bytes=8 << 20)
SIZES = [300_000, 5_000, 1_040_000, 70_000, 2_500_000, 900_000, 1_048_576 - 4096, 10]


class WatchedFile:
    """A file that remembers how much was read at once."""

    def __init__(self, file, lengths: list[int]) -> None:
        self._file = file
        self._lengths = lengths

    def size(self) -> int:
        return self._file.size()

    def pread(self, length: int, position: int) -> bytes:
        self._lengths.append(length)
        return self._file.pread(length, position)


def filled() -> MemoryFiles:
    """Files with flushes of all kinds of sizes."""
    files = MemoryFiles()
    store = open_store(files, LARGE)
    for index, size in enumerate(SIZES, 1):
        store.append(1, [control_entry(index, bytes([index]) * size, term=1)], None, 0)
        flush(store)
    store.close()
    return files


def test_flushes_that_lie_across_pieces_come_back() -> None:
    entries = open_store(filled(), LARGE).recovered[1].entries
    assert [entry.index for entry in entries] == list(range(1, len(SIZES) + 1))
    for entry, size in zip(entries, SIZES, strict=True):
        assert bytes(entry.data[-size:]) == bytes([entry.index]) * size


def test_a_damaged_length_reads_no_more_than_a_header() -> None:
    files = filled()
    file = files.open(layout.wal_file(1))
    head = bytearray(file.pread(FLUSH.size, FIRST_FLUSH))
    nonce = int.from_bytes(head[8:16], "little")
    head[40:48] = (1 << 40).to_bytes(8, "little")
    file.pwrite([bytes(head)], FIRST_FLUSH)
    assert len(WalBytes(file).flush(FIRST_FLUSH, nonce)) == FLUSH.size
    assert len(WalBytes(file).flush(FIRST_FLUSH, nonce + 1)) == FLUSH.size


def test_what_is_kept_is_one_piece() -> None:
    lengths: list[int] = []
    found = WalBytes(WatchedFile(filled().open(layout.wal_file(1)), lengths))
    for at in range(0, found.size, 4096):
        assert found.piece(at, 64) == found.piece(at, 64)
    assert len(found.piece(4096, 3 << 20)) == 3 << 20
    assert lengths == [PIECE_BYTES] * (found.size // PIECE_BYTES) + [3 << 20]
    assert len(found.piece(found.size - 10, 64)) == 10
