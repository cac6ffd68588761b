from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.output import Column, print_rows, printable, render_table, show_text, to_json

COLUMNS = (
    Column("topic", "TOPIC"),
    Column("records", "RECORDS", "number"),
    Column("size", "SIZE", "size"),
    Column("id", "ID", wide=True),
)
ROWS = [
    {"topic": "orders", "records": 1_234_567, "size": 1536, "id": "x"},
    {"topic": "a", "records": 0, "size": 0, "id": "y"},
]


def test_columns_are_aligned_numbers_to_the_right() -> None:
    assert render_table(ROWS, COLUMNS[:3]) == [
        "TOPIC     RECORDS     SIZE",
        "orders  1,234,567  1.5 KiB",
        "a               0      0 B",
    ]


@given(st.text(max_size=200), st.integers(0, 2**63), st.text(max_size=200))
def test_a_table_fits_eighty_columns(name: str, count: int, other: str) -> None:
    columns = (Column("a", "A"), Column("n", "N", "number"), Column("b", "B"))
    lines = render_table([{"a": name, "n": count, "b": other}], columns, width=80)
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_numbers_are_never_cut() -> None:
    columns = (Column("name", "NAME"), Column("n", "N", "number"))
    lines = render_table([{"name": "x" * 100, "n": 123_456_789}], columns, width=40)
    assert lines[1].endswith("…  123,456,789")


def test_a_cell_never_breaks_its_line() -> None:
    assert printable("a\nb\x1b[31m\t") == "a\\nb\\x1b[31m\\t"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("", "-"), (True, "yes"), ([1, 2], "1,2"), ([], "-"), ({"a": 1}, "a=1")],
)
def test_a_cell_shows_plain_values(value: object, shown: str) -> None:
    assert show_text(value) == shown


def test_every_format_shows_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    def out(output: str) -> str:
        print_rows(ROWS, COLUMNS, output, name="topic")
        return capsys.readouterr().out

    assert json.loads(out("json")) == ROWS
    assert [json.loads(line) for line in out("ndjson").splitlines()] == ROWS
    assert out("name") == "orders\na\n"
    assert "ID" not in out("table")
    assert "ID" in out("wide").splitlines()[0]


def test_no_rows_are_an_empty_list_and_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], COLUMNS, "table", name="topic")
    assert capsys.readouterr().out == ""
    print_rows([], COLUMNS, "json", name="topic")
    assert capsys.readouterr().out.strip() == "[]"


def test_off_a_terminal_there_are_no_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, "table", name="topic")
    assert "\x1b" not in capsys.readouterr().out


def test_bytes_in_json_are_base64() -> None:
    assert to_json({"a": b"\xff"}) == '{"a":"/w=="}'
