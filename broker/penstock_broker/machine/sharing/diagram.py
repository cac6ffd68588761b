"""The pictures of record states for the documentation, as a diagram and as a table.

`python -m penstock_broker.machine.sharing.diagram [shared] [hold] [timer]` prints them. They are
made from the one table of transitions, so what stands in a document can be compared with what the
code allows: `block` cuts it out of a document again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from penstock_broker.machine.sharing.state import KINDS, NAMES, TRANSITIONS, Transition

BEGIN: Final = "<!-- record states: {} -->"
END: Final = "<!-- end of record states -->"
_TERMINAL: Final = "DONE"


def mermaid(kind: str) -> str:
    """A mermaid state diagram of one kind of group, one arrow for each pair of states."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in _of(kind):
        arrows.setdefault((_name(row.source), NAMES[row.target]), []).append(row.when)
    lines = [
        f"    {source} --> {target}: {' / '.join(dict.fromkeys(labels))}"
        for (source, target), labels in arrows.items()
    ]
    return "\n".join(["stateDiagram-v2", *lines, f"    {_TERMINAL} --> [*]"])


def table(kind: str) -> str:
    """A Markdown table of the transitions of one kind of group."""
    lines = ["| from | to | by | when |", "| --- | --- | --- | --- |"]
    for row in _of(kind):
        source = "(new)" if row.source is None else NAMES[row.source]
        lines.append(f"| {source} | {NAMES[row.target]} | {row.op} | {row.when} |")
    return "\n".join(lines)


def document(kind: str) -> str:
    """What a document holds between its two marks."""
    return "\n".join([BEGIN.format(kind), "```mermaid", mermaid(kind), "```", "", table(kind), END])


def block(text: str, kind: str) -> str | None:
    """The part of a document that `document` made; None: it has none."""
    start = text.find(BEGIN.format(kind))
    end = text.find(END, start)
    return None if start < 0 or end < 0 else text[start : end + len(END)]


def _of(kind: str) -> Iterable[Transition]:
    return (row for row in TRANSITIONS if kind in row.kinds)


def _name(state: int | None) -> str:
    return "[*]" if state is None else NAMES[state]


if __name__ == "__main__":
    sys.stdout.write("\n\n".join(map(document, sys.argv[1:] or KINDS)) + "\n")
