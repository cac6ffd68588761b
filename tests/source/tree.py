"""The source files of the project, parsed once: what the tests in this folder look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("client", "broker")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class SourceFile:
    """One Python file: its import name, its place and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def at(self, line: int) -> str:
        """`file:line`, relative to the root of the project, for messages."""
        return f"{self.path.relative_to(ROOT)}:{line}"

    def functions(self) -> Iterator[Function]:
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def public_names(self) -> list[str] | None:
        """The content of `__all__`, or None where the module has none."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and _assigns(node, "__all__"):
                return [str(name) for name in ast.literal_eval(node.value)]
        return None


def _assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _import_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parse(paths: Iterator[Path], root: Path) -> Iterator[SourceFile]:
    for path in sorted(paths):
        text = path.read_text(encoding="utf-8")
        yield SourceFile(_import_name(path, root), path, text, ast.parse(text, str(path)))


@cache
def packages() -> tuple[SourceFile, ...]:
    """Every module of `penstock` and `penstock_broker`."""
    roots = [ROOT / name for name in SOURCE_ROOTS]
    return tuple(file for root in roots for file in _parse(root.rglob("*.py"), root))


@cache
def companions() -> tuple[SourceFile, ...]:
    """Every Python file of the project outside the packages: tests, examples, operations."""
    folders = ("tests", "examples", "ops")
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(_parse(paths, ROOT))


def length_without_docstring(function: Function) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total
