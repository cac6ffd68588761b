from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.storage.index import SparseIndex, Summary, decode_index


def built(rows: list[tuple[int, int, int, int]]) -> SparseIndex:
    index = SparseIndex()
    for row in rows:
        index.add(*row)
    return index


def test_an_offset_lies_between_two_rows():
    index = built([(0, 0, 1, 0), (10, 500, 11, 5), (25, 1200, 26, 9)])
    assert index.for_offset(0) == (0, 500)
    assert index.for_offset(9) == (0, 500)
    assert index.for_offset(10) == (500, 1200)
    assert index.for_offset(99) == (1200, None)


@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 4), max_size=50), st.integers(0, 2**40))
def test_an_index_file_reads_back(rows, base):
    index = built(rows)
    summary = Summary(10, 20, 30, 40)
    data = index.encode(base, summary)
    found = decode_index(data, base)
    assert found is not None
    assert found[1] == summary
    for column in ("offsets", "positions", "indexes", "times"):
        assert getattr(found[0], column) == getattr(index, column)
    assert decode_index(data, base + 1) is None


@given(st.data())
def test_a_damaged_index_file_is_recognised(data):
    encoded = bytearray(built([(1, 2, 3, 4)] * 3).encode(7, Summary(1, 2, 3, 4)))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_index(bytes(encoded), 7) is None
    cut = data.draw(st.integers(0, len(encoded) - 1))
    assert decode_index(bytes(encoded[:cut]), 7) is None
