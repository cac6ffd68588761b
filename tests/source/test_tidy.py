"""Nothing half done or unexplained stays in the source (leftover `print`s are found by ruff)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.source.tree import SourceFile, companions, packages

LEFTOVER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|NotImplementedError)\b|\bbreakpoint\(|\bpdb\b")
# A reason is what follows the code, in the same line, behind a dash.
REASON_CHARACTERS_MIN = 5
SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover)(?P<rest>.*)")
CODE = re.compile(r"^(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[a-z-]+(?:,\s*[a-z-]+)*\]|)")


def lines_of(file: SourceFile) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file.text.splitlines(), 1):
        yield file.at(number), line


def test_no_unfinished_work_is_left() -> None:
    found = [
        f"{place}: {line.strip()}"
        for file in packages()
        for place, line in lines_of(file)
        if LEFTOVER.search(line)
    ]
    assert not found, "\n".join(["finish these:", *found])


def test_every_suppressed_check_names_its_code_and_its_reason() -> None:
    found = [
        f"{place}: {line.strip()}"
        for file in (*packages(), *companions())
        for place, line in lines_of(file)
        if (match := SUPPRESSION.search(line)) and not is_explained(match)
    ]
    assert not found, "\n".join(["name the check and say why it is off:", *found])


def is_explained(match: re.Match[str]) -> bool:
    """Whether the comment names its check and gives a reason."""
    rest = match["rest"]
    code = CODE.match(rest)
    named = code.group() if code else ""
    if "pragma" not in match[1] and not named:
        return False
    return len(rest[len(named) :].strip(" -#:")) >= REASON_CHARACTERS_MIN


def test_every_module_opens_with_what_it_owns() -> None:
    found = [file.at(1) for file in packages() if not ast.get_docstring(file.tree)]
    assert not found, "\n".join(["these modules have no docstring:", *found])


def test_every_test_file_has_a_test() -> None:
    found = [
        file.at(1)
        for file in companions()
        if file.path.name.startswith("test_") and not has_test(file)
    ]
    assert not found, "\n".join(["these test files test nothing:", *found])


def has_test(file: SourceFile) -> bool:
    for node in ast.walk(file.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    return True
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(attr="TestCase")):
                return True
    return False
