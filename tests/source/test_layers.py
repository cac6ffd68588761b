"""The layers of the project, as one table: a layer imports itself, what its line says, no more."""

from __future__ import annotations

from tests.source.imports import belongs_to, imported_modules
from tests.source.tree import SourceFile, packages

BASE = {"penstock.errors", "penstock.protocol"}
CLIENT = BASE | {"penstock._core", "penstock._drivers"}
RULES = {"penstock_broker.raft", "penstock_broker.machine", "penstock_broker.storage"}

LAYERS: dict[str, set[str]] = {
    "penstock._version": set(),
    "penstock.errors": set(),
    "penstock._parts": {"penstock.errors"},
    "penstock.protocol": {"penstock.errors", "penstock._version"},
    "penstock._core": BASE | {"penstock._version"},
    "penstock._drivers": BASE | {"penstock._core", "penstock._version"},
    "penstock.sync": CLIENT,
    "penstock.jobs": CLIENT | {"penstock", "penstock.sync"},
    "penstock.testing": CLIENT | {"penstock", "penstock.sync", "penstock._parts"},
    "penstock.cli": CLIENT
    | {"penstock", "penstock.sync", "penstock.jobs", "penstock._parts", "penstock._version"},
    "penstock": CLIENT | {"penstock.sync", "penstock._version"},
    "penstock_broker.raft": BASE,
    "penstock_broker.machine": BASE,
    "penstock_broker.storage": BASE,
    "penstock_broker.node": BASE | RULES,
    "penstock_broker.failpoints": set(),
    "penstock_broker.simulation": BASE
    | RULES
    | {"penstock_broker.node", "penstock_broker.failpoints"},
    "penstock_broker.http": BASE | RULES | {"penstock_broker.node"},
    "penstock_broker.console": set(),
    "penstock_broker.runtime": BASE
    | RULES
    | {"penstock_broker.node", "penstock_broker.http", "penstock_broker.console"}
    | {"penstock_broker.simulation", "penstock_broker.failpoints", "penstock._version"},
    "penstock_broker": {"penstock._version"},
}
# A line for a root package speaks of its own `__init__` (and `__main__`), not of all below it.
ROOTS = {"penstock", "penstock_broker"}


def layer_of(module: str) -> str | None:
    """The longest line of the table that covers the module."""
    if module.removesuffix(".__main__") in ROOTS:
        return module.removesuffix(".__main__")
    covering = [name for name in LAYERS if name not in ROOTS and belongs_to(module, name)]
    return max(covering, key=len, default=None)


def breaches(file: SourceFile) -> list[str]:
    own = layer_of(file.name)
    if own is None:
        return [f"{file.at(1)}: {file.name} has no line in the table of layers"]
    found = []
    for line, module in imported_modules(file):
        if module.split(".")[0] not in ROOTS:
            continue
        layer = layer_of(module)
        if layer != own and layer not in LAYERS[own]:
            found.append(f"{file.at(line)}: {own} must not import {module}")
    return found


def test_every_layer_imports_only_what_its_line_allows() -> None:
    found = [breach for file in packages() for breach in breaches(file)]
    assert not found, "\n".join(["a layer reaches too far:", *found])


def test_the_table_has_no_cycle() -> None:
    def below(layer: str, seen: tuple[str, ...]) -> None:
        assert layer not in seen, " -> ".join([*seen, layer])
        for other in LAYERS[layer]:
            below(other, (*seen, layer))

    for layer in LAYERS:
        below(layer, ())


def test_the_broker_knows_only_the_errors_and_the_protocol_of_the_client() -> None:
    allowed = BASE | {"penstock._version"}
    for layer, imports in LAYERS.items():
        if belongs_to(layer, "penstock_broker"):
            assert {name for name in imports if belongs_to(name, "penstock")} <= allowed


def test_the_client_never_imports_the_broker() -> None:
    for layer, imports in LAYERS.items():
        if belongs_to(layer, "penstock"):
            assert not any(belongs_to(name, "penstock_broker") for name in imports)
