from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from penstock.cli.app import penstock
from penstock.cli.commands import Noun


def commands() -> Iterator[tuple[str, ...]]:
    context = click.Context(penstock)
    for name in penstock.list_commands(context):
        yield (name,)
        command = penstock.get_command(context, name)
        if isinstance(command, Noun):
            yield from ((name, verb) for verb in command.list_commands(context))


COMMANDS = list(commands())


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_help_fits_eighty_columns(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(penstock, [*words, "--help"], terminal_width=200)
    assert shown.exit_code == 0
    wide = [line for line in shown.output.splitlines() if len(line) > 80]
    assert not wide


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_every_verb_has_examples(words: tuple[str, ...]) -> None:
    command = penstock.get_command(click.Context(penstock), words[0])
    if isinstance(command, Noun) and len(words) == 1:
        return
    shown = CliRunner().invoke(penstock, [*words, "--help"])
    assert "\nExamples:\n" in shown.output
    assert f"penstock {' '.join(words)}" in shown.output.partition("Examples:")[2]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_example_uses_options_that_exist(words: tuple[str, ...]) -> None:
    context = click.Context(penstock)
    command = penstock.get_command(context, words[0])
    for word in words[1:]:
        assert isinstance(command, Noun)
        command = command.get_command(context, word)
    assert command is not None
    known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    for line in getattr(command, "examples", "").splitlines():
        own = line.partition(f"penstock {' '.join(words)}")[2].partition("|")[0]
        used = {word for word in own.split() if word.startswith("-") and word[1:2].isalpha()}
        used |= {word for word in own.split() if word.startswith("--")}
        assert used <= known, line


def test_the_first_line_of_each_help_stands_in_the_table() -> None:
    for part in penstock.nouns.values():
        for name, (_, line) in part.items():
            command = penstock.get_command(click.Context(penstock), name)
            assert command is not None
            assert command.help is not None
            assert command.help.splitlines()[0] == line, name


def test_the_exit_codes_stand_in_the_help() -> None:
    shown = CliRunner().invoke(penstock, ["--help"])
    assert "   7  no broker answers, or not in time" in shown.output


IMPORTS = """
import sys
from penstock.cli.app import penstock
try:
    penstock.main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"trio", "asyncio", "rich", "penstock_broker", "subprocess", "unittest"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["topic", "--help"], ["-s", "127.0.0.1:1", "--timeout", "0.01", "topic", "list"]],
    ids=" ".join,
)
def test_the_program_starts_without_heavy_imports(arguments: list[str]) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "AssertionError" not in done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("words", [[], ["topic"], ["log"], ["bench"]])
def test_a_noun_alone_shows_its_verbs_and_is_no_command(words: list[str]) -> None:
    result = CliRunner().invoke(penstock, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: penstock")
    assert "hint:" not in result.stderr
