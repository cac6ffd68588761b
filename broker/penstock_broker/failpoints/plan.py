"""Plans: which points act, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from penstock_broker.failpoints.steps import STEPS

ACTIONS: Final = ("crash", "pause", "error")
_RULE: Final = re.compile(
    r"(?P<point>[a-z0-9.*-]+)=(?P<action>[a-z]+)(\((?P<seconds>[0-9]+(\.[0-9]+)?)\))?"
    r"(@(?P<count>[0-9]+))?(%(?P<chance>[0-9]+(\.[0-9]+)?))?"
)


class BadPlan(Exception):
    """A plan that can't be understood; the message says which part."""


@dataclass(slots=True)
class Rule:
    """What happens at one point."""

    action: str
    seconds: float = 1.0
    count: int = 0
    chance: float = 1.0


def points() -> list[str]:
    """The names of all points."""
    return [f"{step.name}.{side}" for step in STEPS for side in ("before", "after")]


def parse(plan: str) -> dict[str, Rule]:
    """Read a plan: point -> what happens there.

    Raises:
        BadPlan: it has not the form, or names what is not there.
    """
    rules: dict[str, Rule] = {}
    known = points()
    for part in filter(None, (part.strip() for part in plan.split(";"))):
        found = _RULE.fullmatch(part)
        if found is None or found["action"] not in ACTIONS:
            raise BadPlan(f"not NAME=ACTION: {part!r}")
        rule = Rule(
            found["action"],
            float(found["seconds"] or 1.0),
            int(found["count"] or 0),
            float(found["chance"] or 1.0),
        )
        names = known if found["point"] == "*" else [found["point"]]
        if not set(names) <= set(known):
            raise BadPlan(f"there is no point {found['point']!r}")
        rules.update((name, rule) for name in names)
    return rules
