"""Wrappers around steps, and what they do when they are reached."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from penstock_broker.failpoints.plan import Rule, parse
from penstock_broker.failpoints.steps import STEPS, Step

PLAN: Final = "PENSTOCK_FAILPOINTS"
LOG: Final = "PENSTOCK_FAILPOINTS_LOG"

Act = Callable[[str, Rule], None]


class Failpoints:
    """Those of one plan: how often each was reached, and how often it acted."""

    def __init__(self, rules: Mapping[str, Rule], act: Act, chance: Callable[[], float]) -> None:
        self.rules = dict(rules)
        """May be changed at any time, for the steps that were wrapped."""
        self.reached: Counter[str] = Counter()
        self.acted: Counter[str] = Counter()
        self._act = act
        self._chance = chance

    def plan(self, rules: Mapping[str, Rule]) -> None:
        """Go on with these rules: new ones are counted from now on, equal ones as before."""
        for name, rule in rules.items():
            if self.rules.get(name) != rule:
                self.reached[name] = 0
        self.rules = dict(rules)

    def reach(self, name: str) -> None:
        """A point is reached: do what the plan says."""
        self.reached[name] += 1
        rule = self.rules.get(name)
        if rule is None or (rule.count and rule.count != self.reached[name]):
            return
        if rule.chance < 1.0 and self._chance() >= rule.chance:
            return
        self.acted[name] += 1
        self._act(name, rule)

    def wrap(self, step: Step, original: Callable[..., Any]) -> Callable[..., Any]:
        """The step with its two points around it."""
        before, after = f"{step.name}.before", f"{step.name}.after"
        reach, message = self.reach, step.message

        @functools.wraps(original)
        def stepped(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the step has them
            if message and type(arguments[-1]).__name__ != message:
                return original(*arguments, **named)
            reach(before)
            result = original(*arguments, **named)
            reach(after)
            return result

        return stepped


def _resolve(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def _put_around(failpoints: Failpoints, steps: Sequence[Step]) -> list[tuple[Any, str, Any]]:
    """Wrap steps; returns what was there: owner, name, function."""
    kept: list[tuple[Any, str, Any]] = []
    for step in steps:
        owner, name = _resolve(step.target)
        original = vars(owner)[name]
        kept.append((owner, name, original))
        if isinstance(original, classmethod):
            setattr(owner, name, classmethod(failpoints.wrap(step, original.__func__)))
        else:
            setattr(owner, name, failpoints.wrap(step, original))
    return kept


@contextmanager
def installed(
    rules: Mapping[str, Rule],
    act: Act,
    chance: Callable[[], float] = random.random,
    steps: Sequence[Step] = STEPS,
) -> Iterator[Failpoints]:
    """Wrap steps for a while."""
    failpoints = Failpoints(rules, act, chance)
    kept = _put_around(failpoints, steps)
    try:
        yield failpoints
    finally:
        for owner, name, original in reversed(kept):
            setattr(owner, name, original)


def install(environment: Mapping[str, str]) -> bool:
    """Wrap what the plan in the environment names, for the life of the process, if there is one.

    Raises:
        BadPlan: see `parse`.
        OSError: the plan is in a file that can't be read.
    """
    text = environment.get(PLAN, "")
    file = Path(text[1:]) if text.startswith("@") else None
    rules = parse(file.read_text() if file is not None else text)
    if not rules and file is None:
        return False
    log = environment.get(LOG)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else -1

    def act(name: str, rule: Rule) -> None:
        if descriptor >= 0:
            os.write(descriptor, f"{name} {rule.action}\n".encode())
        _do(name, rule)

    failpoints = Failpoints(rules, act, random.random)
    named = {name.rpartition(".")[0] for name in rules}
    _put_around(failpoints, [step for step in STEPS if file is not None or step.name in named])
    if file is not None:
        _read_again_on_signal(failpoints, file)
    return True


def _read_again_on_signal(failpoints: Failpoints, file: Path) -> None:
    def read_again(*_: object) -> None:
        failpoints.plan(parse(file.read_text()))

    signal.signal(signal.SIGUSR1, read_again)


def _do(name: str, rule: Rule) -> None:
    if rule.action == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "pause":
        time.sleep(rule.seconds)
    else:
        raise OSError(errno.EIO, f"failpoint {name}")
