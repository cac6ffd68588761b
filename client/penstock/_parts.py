"""The broker's code, reached by name only: the client never imports it.

The names are the entry points of the group `penstock.broker`. In a source tree whose package is
not installed there are none: then the same table of dotted names is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from penstock.errors import PenstockError

GROUP: Final = "penstock.broker"
SOURCE: Final[Mapping[str, str]] = {
    "serve": "penstock_broker.runtime.serve:serve",
    "embed": "penstock_broker.runtime.embed:start",
    "inspect": "penstock_broker.runtime.inspect:inspect",
    "recover": "penstock_broker.runtime.recover:recover",
    "cron": "penstock_broker.node.cron:parse",
}
"""What pyproject.toml declares, for a tree that is not installed."""


def load(name: str) -> Any:  # noqa: ANN401 - each part has a shape of its own
    """The broker's object of that name.

    Raises:
        PenstockError: the broker is not installed.
    """
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        return _import(entry.value)
    return _import(SOURCE[name])


def _import(place: str) -> Any:  # noqa: ANN401 - as above
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "penstock_broker":
            raise
        raise PenstockError(
            f"this needs the broker, which is not here: no module {error.name}"
        ) from None
