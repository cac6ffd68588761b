"""Prints records as they come, in one of the formats of `consume` and `tail`."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Final

from penstock.cli.output import GAP, printable, styled, terminal_width, to_json
from penstock.cli.records import record_name, record_row
from penstock.cli.units import show_time

if TYPE_CHECKING:
    from penstock import Record

RECORD_OUTPUTS: Final = ("table", "json", "ndjson", "value", "name")
_TITLES: Final = ("OFFSET", "TIME", "KEY", "VALUE")
_KEY_WIDTH_MAX: Final = 24
_CELL_MAX: Final = 4096
"""Bytes of a value that a table looks at, per record."""


class Printer:
    """Writes records to standard output, flushed after each bunch."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.printed = 0
        self._columns: tuple[int, ...] = ()
        """Widths of the columns before the value, as the first records need them."""
        self._width = terminal_width()
        self._stream = sys.stdout.buffer

    def show(self, records: Sequence[Record]) -> None:
        """Print records; none is a moment to see whether anybody still reads.

        Raises:
            BrokenPipeError: whoever read the output has gone.
        """
        if not records:
            if reader_is_gone(self._stream):
                raise BrokenPipeError
            return
        titles = b""
        if not self.printed and self.output == "table":
            titles = self._titles(records)
        lines = b"".join(self._line(record, self.printed + i) for i, record in enumerate(records))
        self.printed += len(records)
        self._stream.write(titles + lines)
        self._stream.flush()

    def end(self) -> None:
        """Print what closes the whole: the end of a JSON array."""
        if self.output == "json":
            self._stream.write(b"\n]\n" if self.printed else b"[]\n")
            self._stream.flush()

    def _line(self, record: Record, number: int) -> bytes:
        if self.output == "value":
            return (record.value or b"") + b"\n"
        if self.output == "name":
            return f"{record_name(record)}\n".encode()
        if self.output == "ndjson":
            return f"{to_json(record_row(record))}\n".encode()
        if self.output == "json":
            return f"{',' if number else '['}\n  {to_json(record_row(record))}".encode()
        return f"{self._row(_cells(record))}\n".encode()

    def _titles(self, records: Sequence[Record]) -> bytes:
        rows = [_TITLES, *map(_cells, records)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        self._columns = (*widths[:2], min(widths[2], _KEY_WIDTH_MAX))
        return f"{styled(self._row(_TITLES), bold=True)}\n".encode()

    def _row(self, cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._columns, strict=False)]
        line = GAP.join([*padded, cells[-1]]).rstrip()
        if self._width is not None and len(line) > self._width:
            line = line[: self._width - 1] + "…"
        return line


def _cells(record: Record) -> tuple[str, str, str, str]:
    place = f"{record.partition}:{record.offset}"
    return place, show_time(record.timestamp_us), show_bytes(record.key), show_bytes(record.value)


def reader_is_gone(stream: BinaryIO) -> bool:
    """Has the other end of a pipe been closed? Without this, a quiet topic would hide it."""
    try:
        poller = select.poll()
        poller.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poller.poll(0))
    except (OSError, ValueError):
        return False  # not a descriptor: nothing can be gone


def show_bytes(data: bytes | None) -> str:
    """Bytes in one cell: text as it is, other bytes and control characters escaped."""
    if data is None:
        return "-"
    text = data[:_CELL_MAX].decode("utf-8", "backslashreplace")
    return printable(text) + ("…" if len(data) > _CELL_MAX else "")
