from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli import reading
from penstock.cli.reading import InputError, read_lines, read_records


class Chunks:
    """A source that hands out exactly these chunks."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks = [chunk for chunk in chunks if chunk]

    def read1(self, size: int = -1, /) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def lines(*chunks: bytes) -> list[bytes]:
    return [line for bunch in read_lines(Chunks(chunks)) for line in bunch]


@given(st.lists(st.binary(max_size=8), max_size=8))
def test_lines_do_not_depend_on_the_chunks(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    wanted = whole.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    last = [] if whole.endswith(b"\n") or not whole else [wanted.pop()]
    assert lines(*chunks) == [line.removesuffix(b"\r") for line in wanted] + last


def test_each_chunk_is_published_when_it_comes() -> None:
    assert list(read_lines(Chunks([b"a\nb\nc", b"\n"]))) == [[b"a", b"b"], [b"c"]]


def test_a_line_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RECORD_BYTES_MAX", 10)
    with pytest.raises(InputError, match="line 2 is longer"):
        lines(b"ok\n", b"0123456", b"789abc")


def test_a_separator_cuts_key_and_value() -> None:
    [[first, second]] = read_records(Chunks([b"a:1\nb:2:3\n"]), "lines", separator=b":")
    assert (first.key, first.value) == (b"a", b"1")
    assert (second.key, second.value) == (b"b", b"2:3")


def test_a_line_without_separator_is_named() -> None:
    with pytest.raises(InputError, match="line 3 has no separator ':'"):
        list(read_records(Chunks([b"a:1\nb:2\nc\n"]), "lines", separator=b":"))


def test_ndjson_skips_empty_lines_and_names_wrong_ones() -> None:
    [[record]] = read_records(Chunks([b'{"value":"a"}\n\n']), "ndjson", key=b"k")
    assert (record.value, record.key) == (b"a", b"k")
    with pytest.raises(InputError, match="line 3 is no record"):
        list(read_records(Chunks([b'{"value":"a"}\n\n', b"oops\n"]), "ndjson"))


def test_raw_is_one_record_of_everything() -> None:
    source = io.BytesIO(b"a\nb\n")
    [[record]] = read_records(source, "raw", key=b"k")
    assert (record.value, record.key) == (b"a\nb\n", b"k")
