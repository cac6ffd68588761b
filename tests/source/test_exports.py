"""What `penstock` exports is complete and documented (that `__all__` is sorted, ruff checks)."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator

import pytest

from tests.source.imports import belongs_to
from tests.source.tree import SourceFile, packages

PUBLIC = [
    file.name
    for file in packages()
    if belongs_to(file.name, "penstock")
    and not any(part.startswith("_") for part in file.name.split("."))
    and file.public_names() is not None
]


def exported_or_defined(file: SourceFile) -> set[str]:
    """The public names that the module defines; in a package also those that it re-exports."""
    names: set[str] = set()
    for node in file.tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.ImportFrom(module=module) if file.is_package and module != "__future__":
                names.update(alias.asname or alias.name for alias in node.names)
    return {name for name in names if not name.startswith("_")}


def undocumented(module: str, name: str) -> Iterator[str]:
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        if not inspect.getdoc(value):
            yield f"{module}.{name}"
        yield from undocumented_members(f"{module}.{name}", value)
    elif inspect.isroutine(value) and not inspect.getdoc(value):
        yield f"{module}.{name}"


def undocumented_members(place: str, cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        code = member.fget if isinstance(member, property) else member
        code = code.__func__ if isinstance(code, (classmethod, staticmethod)) else code
        public = not name.startswith("_") and inspect.isfunction(code)
        if public and not inspect.getdoc(getattr(cls, name)):
            yield f"{place}.{name}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_listed(name: str) -> None:
    file = next(file for file in packages() if file.name == name)
    listed = file.public_names() or []
    missing = exported_or_defined(file) - set(listed)
    assert not missing, f"{file.at(1)}: not in __all__: {', '.join(sorted(missing))}"
    module = importlib.import_module(name)
    unknown = [entry for entry in listed if not hasattr(module, entry)]
    assert not unknown, f"{file.at(1)}: in __all__ but absent: {', '.join(unknown)}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name: str) -> None:
    listed = getattr(importlib.import_module(name), "__all__", [])
    found = [place for entry in listed for place in undocumented(name, entry)]
    assert not found, "\n".join(["these need a docstring:", *found])
