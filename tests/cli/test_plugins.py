from __future__ import annotations

import pytest

from penstock import _parts
from penstock.cli import plugins
from penstock.cli.settings import Failure


@pytest.mark.parametrize("name", sorted(_parts.SOURCE))
def test_every_name_leads_to_something(name: str) -> None:
    assert callable(plugins.load(name))


def test_a_client_without_the_broker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parts, "SOURCE", {"nothing": "penstock_broker.nowhere:start"})
    with pytest.raises(Failure, match="needs the broker") as caught:
        plugins.load("nothing")
    assert "pip install penstock" in caught.value.hint
