"""`client/PROTOCOL.md` says what the code does."""

import re

import pytest

from penstock.protocol import columns, extensions, frames
from penstock.protocol.batch import MAGIC, Kind
from penstock.protocol.conversation import MOVES, State
from tests.protocol.specification import DOCUMENT, header_fields, renewed

TEXT = DOCUMENT.read_text()


def section(title):
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text, pattern):
    return [match.groups() for match in re.finditer(pattern, text, re.MULTILINE)]


def test_tables_made_from_the_code_are_up_to_date():
    assert renewed(TEXT) == TEXT, "run: python -m tests.protocol.specification"


def test_batch_header_table_is_the_struct():
    found = rows(section("Record batches"), r"^\| (\d+) \| (u\d+) \| (\w+) \|")
    assert [(int(at), type_, name) for at, type_, name in found] == header_fields()


def test_magic_and_kinds_are_those_of_the_code():
    text = section("Record batches")
    assert f"0x{MAGIC:08x}" in text
    assert MAGIC.to_bytes(4, "little") == b"PSB1"
    kinds = re.search(r"\| kind \| (.*) \|", text).group(1)
    assert [int(number) for number in re.findall(r"\d+", kinds)] == [kind.value for kind in Kind]


def test_columns_and_extensions_are_those_of_the_code():
    found = dict(rows(section("Columns"), r"^\| (\d+) \| (\w+) \|"))
    assert {int(number): name.upper() for number, name in found.items()} == {
        getattr(columns, name): name
        for name in ("VALUES", "KEYS", "TIMESTAMPS", "HEADERS", "OFFSETS")
    }
    types = {int(number) for (number,) in rows(section("Record batches"), r"^   \| (\d+) \|")}
    assert types == {getattr(extensions, name) for name in dir(extensions) if name[:4] == "EXT_"}


@pytest.mark.parametrize(
    ("layout", "title", "names"),
    [
        (frames.FRAME_HEADER, "Frames", 6),
        (frames.PUBLISH_REQUEST, "Publish and fetch", 4),
        (frames.FETCH_REQUEST, "Publish and fetch", 5),
    ],
)
def test_frame_layouts_fit_their_structs(layout, title, names):
    sizes = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
    codes = dict(zip("BHIQ", sizes.values(), strict=True))
    at, expected = 0, []
    for code in layout.format[1:]:
        expected.append((at, codes[code]))
        at += codes[code]
    found = [
        (int(offset), sizes[type_])
        for offset, type_ in rows(section(title), r"^\| (\d+) \| (u\d+) \|")
    ]
    wanted = expected[-names:]
    assert any(found[start : start + names] == wanted for start in range(len(found)))


def test_every_state_of_the_conversation_is_described():
    text = section("Conversation")
    for state in State:
        assert state.name.lower() in text
        assert state in MOVES
