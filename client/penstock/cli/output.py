"""Printing data: tables, JSON, NDJSON and names, all from the same rows.

A row is a plain mapping with every field; a `Column` says which fields the table shows and how.
JSON shows rows as they are, so numbers stay numbers. Tables are cut to the terminal's width on a
terminal and are never cut elsewhere; borders are never drawn.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from penstock.cli.units import show_count, show_duration, show_size, show_time

Row = Mapping[str, Any]
GAP: Final = "  "
WIDTH_MIN: Final = 8
"""No column is cut below this many characters."""
SPARE_MIN: Final = 14
"""Down to this many characters a spare column gives way before the others do."""


def _number(value: object) -> str:
    return show_count(value) if isinstance(value, int | float) else show_text(value)


def show_text(value: object) -> str:
    """One cell: nothing is "-", lists are joined by commas, what would break the line escaped."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(show_text(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={show_text(item)}" for key, item in value.items()) or "-"
    return printable(str(value))


def printable(text: str) -> str:
    """The text on one line: control characters, which could also steer a terminal, are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


KINDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "text": show_text,
    "number": _number,
    "decimal": lambda value: f"{value:.2f}" if value is not None else "-",
    "size": lambda value: show_size(value) if value is not None and value >= 0 else "-",
    "time": lambda value: show_time(value) if value is not None else "-",
    "seconds": lambda value: show_duration(value) if value is not None else "-",
    "ago": lambda value: f"{show_duration(value)} ago" if value is not None else "-",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: the field of a row.
        kind: how the field is shown, one of `KINDS`; only `text` is ever cut.
        wide: shown by `-o wide` only.
        spare: gives way before the others when the terminal is too narrow.
    """

    key: str
    title: str
    kind: str = "text"
    wide: bool = False
    spare: bool = False

    def show(self, row: Row) -> str:
        """The cell of a row."""
        return KINDS[self.kind](row.get(self.key))


def render_table(
    rows: Sequence[Row], columns: Sequence[Column], *, width: int | None = None
) -> list[str]:
    """Lines of a table without borders; with a `width`, the widest text columns give way."""
    cells = [[column.title for column in columns]]
    cells += [[column.show(row) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    if width is not None:
        widths = _fit(widths, columns, width)
    lines = []
    for line in cells:
        parts = []
        for cell, size, column in zip(line, widths, columns, strict=True):
            shown = cell if len(cell) <= size else cell[: size - 1] + "…"
            parts.append(shown.ljust(size) if column.kind == "text" else shown.rjust(size))
        lines.append(GAP.join(parts).rstrip())
    return lines


def _fit(widths: list[int], columns: Sequence[Column], width: int) -> list[int]:
    fitted = list(widths)
    excess = sum(fitted) + len(GAP) * (len(fitted) - 1) - width
    while excess > 0:
        able = [
            i for i, column in enumerate(columns) if column.kind == "text" and fitted[i] > WIDTH_MIN
        ]
        if not able:
            break
        # Spare columns first; among equals the widest.
        chosen = max(able, key=lambda i: (columns[i].spare and fitted[i] > SPARE_MIN, fitted[i]))
        fitted[chosen] -= 1
        excess -= 1
    return fitted


def terminal_width() -> int | None:
    """The width to cut tables to; None off a terminal."""
    if not sys.stdout.isatty():
        return None
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def styled(text: str, *, bold: bool = False, fg: str | None = None) -> str:
    """The text with a terminal style, on a terminal and without NO_COLOR only."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, bold=bold or None, fg=fg)


def to_json(value: object, *, indent: int = 0) -> str:
    """JSON of plain values and message structs; bytes become base64."""
    import msgspec

    data = msgspec.json.encode(value)
    return (msgspec.json.format(data, indent=indent) if indent else data).decode()


def print_table(rows: Sequence[Row], columns: Sequence[Column], *, wide: bool = False) -> None:
    """Print rows as a table with its titles; nothing when there are no rows."""
    if not rows:
        return
    shown = [column for column in columns if wide or not column.wide]
    lines = render_table(rows, shown, width=None if wide else terminal_width())
    click.echo(styled(lines[0], bold=True))
    for line in lines[1:]:
        click.echo(line)


def print_rows(
    rows: Sequence[Row],
    columns: Sequence[Column],
    output: str,
    *,
    name: str | Callable[[Row], str],
) -> None:
    """Print rows in a format; `name` gives what `-o name` prints for one."""
    if output in ("table", "wide"):
        print_table(rows, columns, wide=output == "wide")
    elif output == "json":
        click.echo(to_json(list(rows), indent=2))
    elif output == "ndjson":
        for row in rows:
            click.echo(to_json(row))
    else:
        for row in rows:
            click.echo(row[name] if isinstance(name, str) else name(row))


def print_object(value: Row, output: str, *, name: str, show: Callable[[], None]) -> None:
    """Print one object: `show` prints it for people, JSON as it is, `-o name` one field."""
    if output in ("table", "wide"):
        show()
    elif output == "name":
        click.echo(value[name])
    else:
        click.echo(to_json(value, indent=2 if output == "json" else 0))


def print_fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print `title  value` lines, the titles aligned; on a terminal long values are wrapped."""
    for line in field_lines(pairs, width=terminal_width()):
        click.echo(line)


def field_lines(
    pairs: Iterable[tuple[str, Any]], *, indent: str = "", width: int | None = None
) -> list[str]:
    """`title  value` lines, the titles aligned; with a `width`, long values are wrapped."""
    shown = [(title, show_text(value)) for title, value in pairs]
    broad = max((len(title) for title, _ in shown), default=0)
    lines = []
    for title, value in shown:
        room = None if width is None else width - len(indent) - broad - len(GAP)
        first, *rest = wrap(value, room)
        lines.append(f"{indent}{styled(title.ljust(broad), bold=True)}{GAP}{first}")
        lines += [f"{indent}{' ' * broad}{GAP}{line}" for line in rest]
    return lines


def wrap(text: str, width: int | None) -> list[str]:
    """The text in lines of at most so many characters, cut between words where that is possible."""
    if width is None or len(text) <= width:
        return [text]
    import textwrap

    return textwrap.wrap(text, max(width, WIDTH_MIN), break_on_hyphens=False) or [""]
