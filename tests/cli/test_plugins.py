from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from penstock.cli import plugins
from penstock.cli.settings import Failure

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_a_source_tree_knows_the_same_names_as_an_installation() -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["entry-points"][plugins.GROUP]
    assert dict(plugins.SOURCE) == declared


@pytest.mark.parametrize("name", sorted(plugins.SOURCE))
def test_every_name_leads_to_something(name: str) -> None:
    assert callable(plugins.load(name))


def test_a_client_without_the_broker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "SOURCE", {"nothing": "penstock_broker.nowhere:start"})
    with pytest.raises(Failure, match="needs the broker") as caught:
        plugins.load("nothing")
    assert "pip install penstock" in caught.value.hint
