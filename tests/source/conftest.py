"""Prints a census of the source after the tests that look at it."""

from __future__ import annotations

import pytest

from tests.source.tree import companions, length_without_docstring, packages

FILE_LINES_USUAL = 300
FUNCTION_LINES_USUAL = 30


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    files = packages()
    lengths = [
        length_without_docstring(function) for file in files for function in file.functions()
    ]
    large = sum(file.lines > FILE_LINES_USUAL for file in files)
    long = sum(length > FUNCTION_LINES_USUAL for length in lengths)
    code = sum(file.lines for file in files)
    other = sum(file.lines for file in companions())
    terminalreporter.write_line(
        f"source: {code} lines in {len(files)} files, {large} over {FILE_LINES_USUAL} lines; "
        f"{len(lengths)} functions, {long} over {FUNCTION_LINES_USUAL} lines; "
        f"{other} lines of tests, examples and operations"
    )
