"""The broker's code for the commands that need it, or the advice to install it."""

from __future__ import annotations

from typing import Any

from penstock import _parts
from penstock.cli.settings import Failure
from penstock.errors import PenstockError


def load(name: str) -> Any:  # noqa: ANN401 - each part has a shape of its own
    """The broker's object of that name (`penstock._parts` has the table).

    Raises:
        Failure: the broker is not installed.
    """
    try:
        return _parts.load(name)
    except PenstockError as error:
        hint = "Install the whole package: pip install penstock"
        raise Failure(str(error), hint=hint) from None
