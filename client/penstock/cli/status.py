"""`penstock status`: the figures of one broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from penstock.cli.commands import Verb
from penstock.cli.output import print_fields, print_object
from penstock.cli.settings import Settings
from penstock.cli.units import show_count, show_duration, show_size, show_time

_SCALE = {"_us": 1e-6, "_ms": 1e-3, "_seconds": 1.0}


@click.command("status", cls=Verb, examples="penstock status\npenstock status -o json")
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the figures of a broker."""
    with settings.connect() as client:
        reply = client.admin.status()
    figures = dict(flatten(reply.figures))
    value = {"node": reply.node, "version": reply.version, "figures": figures}

    def show() -> None:
        pairs = [(name, show_figure(name, figure)) for name, figure in sorted(figures.items())]
        print_fields([("node", reply.node), ("version", reply.version), *pairs])

    print_object(value, settings.output, name="node", show=show)


def flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures under dotted names."""
    for name, figure in figures.items():
        if isinstance(figure, Mapping):
            yield from flatten(figure, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", figure


def show_figure(name: str, figure: object) -> object:
    """A figure in the unit that the end of its name tells."""
    if isinstance(figure, bool) or not isinstance(figure, int | float) or name == "pid":
        return figure
    if name.endswith("_bytes"):
        return show_size(figure)
    if name.endswith(("_time_us", "_at_us")):
        return show_time(int(figure))
    for suffix, scale in _SCALE.items():
        if name.endswith(suffix):
            return show_duration(figure * scale)
    return show_count(figure) if figure == int(figure) else f"{figure:,.3f}"
