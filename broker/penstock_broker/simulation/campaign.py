"""What campaigns have in common: the seeds they run, the command that replays one, planted bugs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from typing import Final, Protocol

_PACKAGE: Final = "penstock_broker.simulation"


def parser_of(name: str, description: str | None, seeds: int) -> ArgumentParser:
    """The command line of a campaign, with the options that choose seeds."""
    parser = ArgumentParser(prog=f"python -m {_PACKAGE}.{name}", description=description)
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many (default {seeds})")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="only this seed")
    return parser


def chosen_seeds(arguments: Namespace) -> range:
    """The seeds that the command line asks for."""
    if arguments.seed is not None:
        return range(arguments.seed, arguments.seed + 1)
    return range(arguments.first, arguments.first + arguments.seeds)


def replay(name: str, seed: int, **options: object) -> str:
    """The command that runs one seed again; options without a value are left out."""
    words = [f"replay: python -m {_PACKAGE}.{name} --seed {seed}"]
    for option, value in options.items():
        if value is True:
            words.append(f"--{option}")
        elif value:
            words.append(f"--{option} {value}")
    return " ".join(words)


class Caught(Protocol):
    """A seed that noticed something."""

    @property
    def seed(self) -> int:
        """Which one."""

    @property
    def reason(self) -> str:
        """What it noticed."""


def catch_all(
    mutations: Iterable[str],
    first_caught: Callable[[str, range], Caught | None],
    seeds: range,
    say: Callable[[str], object],
    reason_characters: int = 120,
) -> int:
    """Break every rule in turn; the exit code is 1 if one of them was not noticed."""
    missed = 0
    for name in sorted(mutations):
        failure = first_caught(name, seeds)
        if failure is None:
            missed += 1
            say(f"{name}: not caught in {len(seeds)} seeds")
        else:
            count = failure.seed - seeds.start + 1
            say(f"{name}: caught after {count} seeds: {failure.reason[:reason_characters]}")
    return 1 if missed else 0
