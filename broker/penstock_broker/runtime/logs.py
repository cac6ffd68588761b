"""Structured logging for the broker process: one line of `key=value` pairs per event on stderr.

Only the logger tree `penstock` is configured, never the root logger, and only by a process that is
a broker. Values are quoted and stripped of control characters, so no name can forge a line.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """`time level logger message key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        parts = [
            f"{moment}.{int(record.msecs):03d}Z",
            record.levelname.lower(),
            record.name,
            _clean(record.getMessage()),
        ]
        parts += [
            f"{key}={_value(value)}" for key, value in vars(record).items() if key not in _STANDARD
        ]
        if record.exc_info:
            parts.append(_value(self.formatException(record.exc_info)))
        return " ".join(parts)


def configure(level: str) -> None:
    """Send the `penstock` tree to stderr at a level; called once by a broker process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    tree = logging.getLogger("penstock")
    tree.handlers[:] = [handler]
    tree.propagate = False
    tree.setLevel(level.upper())


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _value(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(" =\"'"):
        return text
    return ascii(text)
