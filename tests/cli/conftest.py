"""Runs the program in this process, against a broker in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
from click.testing import CliRunner, Result

from penstock.cli.app import penstock
from penstock.testing import broker

_numbers = count(1)


@dataclass(frozen=True)
class Cli:
    """The program with `--server` set."""

    address: str

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        result = self.any(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    def any(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        words = ["-s", self.address, "--timeout", "5", *arguments]
        result = CliRunner().invoke(penstock, words, input=stdin, catch_exceptions=False)
        assert "This is a bug" not in result.output
        return result


@pytest.fixture(scope="session")
def cli() -> Iterator[Cli]:
    with broker() as running:
        yield Cli(running.address)


@pytest.fixture
def topic(cli: Cli) -> Iterator[str]:
    """A fresh topic with two partitions."""
    name = f"topic-{next(_numbers)}"
    cli("topic", "create", name, "-p", "2")
    yield name
    cli.any("topic", "delete", name, "--yes")


@pytest.fixture
def filled(cli: Cli, topic: str) -> str:
    """A topic whose keys a, b, c have the values a0..a2, b0..b2, c0..c2."""
    lines = "".join(f"{key}:{key}{number}\n" for number in range(3) for key in "abc")
    cli("publish", topic, "--key-separator", ":", stdin=lines)
    return topic
