"""Which modules a source file imports, wherever in the file the import stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.source.tree import SourceFile, packages


def imported_modules(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield (line, full module name) of every import, also inside functions and `if` blocks."""
    known = {module.name for module in packages()}
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(file, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in known else base


def _base(file: SourceFile, node: ast.ImportFrom) -> str:
    """The module after `from`, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    package = file.name.split(".") if file.is_package else file.name.split(".")[:-1]
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def type_only_lines(file: SourceFile) -> set[int]:
    """The lines under `if TYPE_CHECKING:`, which run in no program."""
    lines: set[int] = set()
    for node in ast.walk(file.tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            last = node.body[-1]
            lines.update(range(node.lineno, (last.end_lineno or last.lineno) + 1))
    return lines


def belongs_to(module: str, part: str) -> bool:
    """True if `module` is `part` or lies below it."""
    return module == part or module.startswith(part + ".")
