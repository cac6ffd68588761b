"""The broker's code, reached by name only: the client never imports it.

The names are the entry points of the group `penstock.broker`. In a source tree whose package is
not installed there are none: then the same table of dotted names is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from penstock.cli.settings import Failure

GROUP: Final = "penstock.broker"
SOURCE: Final[Mapping[str, str]] = {
    "serve": "penstock_broker.runtime.serve:serve",
    "embed": "penstock_broker.runtime.embed:start",
    "inspect": "penstock_broker.storage.inspect:inspect",
}
"""What pyproject.toml declares, for a tree that is not installed."""


def load(name: str) -> Callable[..., Any]:
    """The broker's object of that name.

    Raises:
        Failure: the broker is not installed.
    """
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        return _import(entry.value)
    return _import(SOURCE[name])


def _import(place: str) -> Callable[..., Any]:
    module, _, attribute = place.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return found
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "penstock_broker":
            raise
        raise Failure(
            f"this needs the broker, which is not here: no module {error.name}",
            hint="Install the whole package: pip install penstock",
        ) from None
