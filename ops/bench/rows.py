"""How what was measured is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable


def print_rows(rows: Iterable[tuple[str, float, str]], *, as_json: bool) -> None:
    """Print rows of (what, value, unit), each as soon as it is known."""
    for what, value, unit in rows:
        if as_json:
            print(json.dumps({"what": what, "value": value, "unit": unit}), flush=True)
        else:
            print(f"{what:55} {value:14,.2f} {unit}", flush=True)
