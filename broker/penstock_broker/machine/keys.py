"""Settings as tables: the keys, their types and ranges, and how their values are written.

Only the keys that were set are stored, so that a better default reaches them later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from penstock.errors import InvalidConfig
from penstock.protocol.durations import parse_duration
from penstock_broker.machine.commands import Scalar

Value = int | str

SECOND: Final = 1000
DAY: Final = 86_400 * SECOND
CENTURY: Final = 36_525 * DAY

_SIZES: Final[Mapping[str, int]] = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]{1,18}) ?([A-Za-z]{0,3})", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_TEXT_MAX: Final = 64
_WORDS_CHARACTERS_MAX: Final = 2_000
_WORD: Final = re.compile(r"[^\s,][^,]{0,199}")


class Key(NamedTuple):
    """What a key admits: a number in a range, one of some words, or a list of free words."""

    unit: Literal["ms", "bytes", "count", "percent", "word", "words"]
    help: str
    low: int = 0
    high: int = CENTURY
    choices: tuple[str, ...] = ()
    unlimited: bool = False
    """-1 is allowed and means: no limit."""


class Keys:
    """A table of keys."""

    def __init__(self, what: str, keys: Mapping[str, Key]) -> None:
        self._what = what
        self._keys = keys

    def parse(self, values: Mapping[str, Scalar]) -> dict[str, Value]:
        """Check keys and values; quantities may be written as "7d" or "1GiB".

        Raises:
            InvalidConfig: an unknown key, or a value of the wrong type or out of its range.
        """
        return {
            name: _parse_value(name, self._key(name), value)
            for name, value in sorted(values.items())
        }

    def merge(
        self, current: Mapping[str, Value], changes: Mapping[str, Scalar]
    ) -> dict[str, Value]:
        """The settings after a change; None resets a key to its default.

        Raises:
            InvalidConfig: as `parse`.
        """
        for name in changes:
            self._key(name)
        merged = {key: value for key, value in current.items() if key not in changes}
        merged |= self.parse({key: value for key, value in changes.items() if value is not None})
        return dict(sorted(merged.items()))

    def describe(
        self, values: Mapping[str, Value], defaults: object, settings: object
    ) -> list[dict[str, object]]:
        """Every key with its value, its default, whether it was set, its unit and its meaning."""
        return [
            {
                "name": name,
                "value": getattr(settings, name),
                "default": getattr(defaults, name),
                "set": name in values,
                "unit": key.unit,
                "help": key.help,
            }
            for name, key in self._keys.items()
        ]

    def _key(self, name: str) -> Key:
        key = self._keys.get(name)
        if key is None:
            there = ", ".join(self._keys)
            raise InvalidConfig(f"{name[:80]!r} is no {self._what} setting; there are: {there}")
        return key


def _parse_value(name: str, key: Key, value: Scalar) -> Value:
    if key.unit == "word":
        if not isinstance(value, str) or value not in key.choices:
            raise InvalidConfig(f"{name} must be one of: {', '.join(map(repr, key.choices))}")
        return value
    if key.unit == "words":
        return _words(name, value)
    number = _quantity(name, key, value.strip()) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidConfig(f"{name} must be a whole number of {key.unit}")
    if key.unlimited and number == -1:
        return number
    if not key.low <= number <= key.high:
        beside = ", or -1" if key.unlimited else ""
        raise InvalidConfig(f"{name} must be between {key.low} and {key.high}{beside}")
    return number


def _words(name: str, value: Scalar) -> str:
    if not isinstance(value, str) or len(value) > _WORDS_CHARACTERS_MAX:
        raise InvalidConfig(f"{name} must be text of at most {_WORDS_CHARACTERS_MAX} characters")
    words = [word.strip() for word in value.split(",")] if value.strip() else []
    if not all(map(_WORD.fullmatch, words)):
        raise InvalidConfig(f"{name} must be words with commas between them")
    return ",".join(words)


def _quantity(name: str, key: Key, text: str) -> int:
    if text == "-1":
        return -1
    if key.unit == "ms":
        try:
            return parse_duration(text)
        except InvalidConfig as error:
            raise InvalidConfig(f"{name}: {error}") from None
    if key.unit in ("count", "percent"):
        if _NUMBER.fullmatch(text) is None:
            raise InvalidConfig(f"{name} must be a whole number")
        return int(text)
    match = _SIZE.fullmatch(text[:_TEXT_MAX])
    if match is None or match[2] not in _SIZES:
        raise InvalidConfig(f"{name} must be a size such as 1048576, 1MiB or 10GB")
    return int(match[1]) * _SIZES[match[2]]
