"""The pictures of record states, and the documents that show them."""

from __future__ import annotations

import pytest

from penstock_broker.machine.sharing import diagram
from penstock_broker.machine.sharing.state import ALLOWED, DONE, KINDS, NAMES, TRANSITIONS
from tests.source.documents import DOCUMENTS


@pytest.mark.parametrize("kind", KINDS)
def test_the_pictures_in_the_documents_are_those_of_the_code(kind: str) -> None:
    found = 0
    for path in DOCUMENTS:
        shown = diagram.block(path.read_text(), kind)
        assert shown in (None, diagram.document(kind)), f"{path}: print it anew"
        found += shown is not None
    assert found, "some document shows it"


@pytest.mark.parametrize("kind", KINDS)
def test_every_transition_is_in_its_picture(kind: str) -> None:
    picture, table = diagram.mermaid(kind), diagram.table(kind)
    for row in TRANSITIONS:
        source = "[*]" if row.source is None else NAMES[row.source]
        assert (f"{source} --> {NAMES[row.target]}: " in picture) or kind not in row.kinds
        assert (row.when in table) or kind not in row.kinds
    assert picture.count(":") == picture.count("-->") - 1, "a colon ends an arrow's label"


def test_a_block_is_found_again_in_a_document() -> None:
    text = f"# Before\n\n{diagram.document('hold')}\n\nAfter\n"
    assert diagram.block(text, "hold") == diagram.document("hold")
    assert diagram.block(text, "shared") is None


def test_what_is_done_stays_done() -> None:
    assert not any(source == DONE for source, _ in ALLOWED)
