"""Log lines: one event a line, key=value, nothing forged."""

from __future__ import annotations

import logging

from penstock_broker.runtime.logs import LineFormatter


def line(message: str, **extra: object) -> str:
    record = logging.LogRecord("penstock.broker", logging.INFO, "f", 1, message, (), None)
    vars(record).update(extra)
    return LineFormatter().format(record)


def test_a_line_has_time_level_logger_message_and_values() -> None:
    text = line("listening", address="127.0.0.1:7400", node=1)
    assert text.endswith("Z info penstock.broker listening address=127.0.0.1:7400 node=1")


def test_values_with_spaces_are_quoted() -> None:
    assert line("x", reason="no such file").endswith("reason='no such file'")


def test_a_name_can_not_forge_a_line() -> None:
    text = line("bad\nname", topic="a\nb\x1b[31m")
    assert "\n" not in text
    assert "\x1b" not in text
