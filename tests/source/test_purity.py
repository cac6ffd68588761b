"""Pure parts are handed time, randomness, bytes and files; they never fetch them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.source.imports import belongs_to, imported_modules, type_only_lines
from tests.source.tree import SourceFile, packages

PURE = (
    "penstock.errors",
    "penstock.protocol",
    "penstock._core",
    "penstock_broker.raft",
    "penstock_broker.machine",
    "penstock_broker.storage",
    "penstock_broker.node",
)
OUTSIDE_WORLD = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "glob", "mmap", "multiprocessing", "os"),
    *("pathlib", "queue", "random", "secrets", "select", "selectors", "shutil", "signal"),
    *("socket", "socketserver", "ssl", "subprocess", "tempfile", "threading", "time", "trio"),
    "uuid",
}
CLOCK_READERS = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def forbidden_imports(file: SourceFile) -> Iterator[str]:
    harmless = type_only_lines(file) | handed_random_lines(file)
    for line, module in imported_modules(file):
        if module.split(".")[0] in OUTSIDE_WORLD and line not in harmless:
            yield f"{file.at(line)}: {file.name} is pure and must not import {module}"


def handed_random_lines(file: SourceFile) -> set[int]:
    """Lines with `from random import Random`: the type of the generator that a caller hands in."""
    return {
        node.lineno
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == "random"
        and [alias.name for alias in node.names] == ["Random"]
    }


def forbidden_calls(file: SourceFile) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id="open" | "input" | "print" as name):
                yield f"{file.at(node.lineno)}: {file.name} is pure and must not call {name}"
            case ast.Name(id="Random") if not node.args:
                yield f"{file.at(node.lineno)}: {file.name} must not seed itself"
            case ast.Attribute(attr=verb, value=ast.Name(id=owner) | ast.Attribute(attr=owner)):
                if (owner, verb) in CLOCK_READERS:
                    yield f"{file.at(node.lineno)}: {file.name} must not read the clock"


@pytest.mark.parametrize("part", PURE)
def test_pure_part_reaches_for_nothing_outside(part: str) -> None:
    files = [file for file in packages() if belongs_to(file.name, part)]
    assert files, f"{part} has no source file"
    found = [text for file in files for text in (*forbidden_imports(file), *forbidden_calls(file))]
    assert not found, "\n".join(["a pure part reaches outside:", *found])
