"""The package's metadata and what the code expects of it agree."""

from __future__ import annotations

import importlib
import tomllib
from typing import Any

from penstock import _parts
from tests.source.tree import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLACES = [
    *PROJECT["scripts"].values(),
    *(place for group in PROJECT["entry-points"].values() for place in group.values()),
]


def test_the_source_tree_finds_the_broker_where_the_package_does() -> None:
    assert PROJECT["entry-points"][_parts.GROUP] == _parts.SOURCE


def test_every_entry_point_exists() -> None:
    for place in PLACES:
        module, _, attribute = place.partition(":")
        found = importlib.import_module(module)
        assert not attribute or hasattr(found, attribute), place


def test_the_files_that_the_package_names_exist() -> None:
    assert (ROOT / PROJECT["readme"]).is_file()
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")
