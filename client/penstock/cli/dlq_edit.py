"""New values for dead letters that are redriven: from a file, or from a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from penstock.cli.dead_view import place_of
from penstock.cli.reading import InputError, Source, read_lines
from penstock.cli.records import parse_row
from penstock.cli.settings import Failure

if TYPE_CHECKING:
    from penstock import DeadLetter

Values = dict[tuple[int, int], bytes | None]
"""Partition and offset in the dead-letter topic -> the new value."""
COMMAND_SECONDS: Final = 60.0


class Editor(Protocol):
    """Gives dead letters new values."""

    def wants(self, letter: DeadLetter) -> bool:
        """Whether it is to be redriven at all."""

    def values(self, letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], Values]:
        """Those of the letters that can be redriven, and new values for some."""


class Unchanged:
    """Every dead letter as it is."""

    def wants(self, letter: DeadLetter) -> bool:
        """Yes."""
        return True

    def values(self, letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], Values]:
        """All, and no new values."""
        return list(letters), {}


@dataclass
class FromFile:
    """Only the dead letters that the file names, with its values."""

    new: Mapping[str, bytes | None]
    """By place."""

    def wants(self, letter: DeadLetter) -> bool:
        """Whether the file names it."""
        return place_of(letter) in self.new

    def values(self, letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], Values]:
        """All, and those values that differ."""
        changed: Values = {}
        for letter in letters:
            value = self.new[place_of(letter)]
            if value != letter.record.value:
                changed[letter.record.partition, letter.record.offset] = value
        return list(letters), changed


class _Place(msgspec.Struct):
    place: str


def read_edits(source: Source) -> FromFile:
    """Read what `dlq export` wrote, with values changed since.

    Raises:
        InputError: a line is not such an object.
    """
    new: dict[str, bytes | None] = {}
    number = 0
    for lines in read_lines(source):
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                new[msgspec.json.decode(line, type=_Place).place] = parse_row(line).value
            except (ValueError, msgspec.MsgspecError) as error:
                raise InputError(f"line {number} is no dead letter: {error}") from None
    return FromFile(new)


@dataclass
class WithCommand:
    """Each value goes through a shell command: on its input, back from its output."""

    command: str
    failed: list[tuple[DeadLetter, str]] = field(default_factory=list)
    """Those for which the command failed, and why: they are left alone."""

    def wants(self, letter: DeadLetter) -> bool:
        """Yes."""
        return True

    def values(self, letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], Values]:
        """Those for which the command ended well, and what it made of them."""
        fine: list[DeadLetter] = []
        changed: Values = {}
        for letter in letters:
            old = letter.record.value
            try:
                new = self._run(old or b"")
            except _CommandError as error:
                self.failed.append((letter, str(error)))
                continue
            fine.append(letter)
            if new != old:
                changed[letter.record.partition, letter.record.offset] = new
        return fine, changed

    def _run(self, value: bytes) -> bytes:
        import subprocess

        try:
            done = subprocess.run(
                ["/bin/sh", "-c", self.command],
                input=value,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _CommandError(f"the command took over {COMMAND_SECONDS:.0f} s") from None
        except OSError as error:
            raise Failure(f"the command can't be run: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise _CommandError(": ".join([f"exit code {done.returncode}", *said[-1:]]))
        # Programs end their output with a line end that was not in the value.
        ends = done.stdout.endswith(b"\n") and not value.endswith(b"\n")
        return done.stdout[:-1] if ends else done.stdout


class _CommandError(Exception):
    pass
