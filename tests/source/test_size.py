"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

from tests.source.tree import companions, length_without_docstring, packages

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70


def test_no_file_is_longer_than_the_limit() -> None:
    found = [
        f"{file.at(file.lines)}: {file.lines} lines, at most {FILE_LINES_MAX}"
        for file in (*packages(), *companions())
        if file.lines > FILE_LINES_MAX
    ]
    assert not found, "\n".join(["split these files by subject:", *found])


def test_no_function_is_longer_than_the_limit() -> None:
    found = [
        f"{file.at(function.lineno)}: {function.name} has {length} lines"
        for file in (*packages(), *companions())
        for function in file.functions()
        if (length := length_without_docstring(function)) > FUNCTION_LINES_MAX
    ]
    assert not found, "\n".join([f"split these, at most {FUNCTION_LINES_MAX}:", *found])
