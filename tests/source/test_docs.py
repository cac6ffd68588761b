"""What the documents say of commands, options, exit codes and settings is what the code does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import msgspec
import pytest

from penstock._core.options import Options
from penstock.cli.app import NOUNS, penstock
from penstock.cli.exits import MEANING
from penstock_broker.machine.config import KEYS, TopicConfig
from tests.source.documents import DOCUMENTS, README, RUNBOOK, commands, links, table
from tests.source.tree import ROOT

PLACEHOLDERS = {"NOUN", "VERB"}
# How the tables write a default.
WRITTEN: dict[str, object] = {
    "7 days": 7 * 86_400_000,
    "None": None,
    "1 day": 86_400_000,
    "10 minutes": 600_000,
    "1 MiB": 1 << 20,
    "64 MiB": 64 << 20,
    "512 MiB": 512 << 20,
    "-1": -1,
    "True": True,
    "30 s": 30.0,
    "10 s": 10.0,
    "5 s": 5.0,
}


def default(text: str) -> object:
    return WRITTEN.get(text, text.strip('"'))


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and the words that are left."""
    context = click.Context(penstock)
    command: click.Command = penstock
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no `{words[0]}`"
        command, words = found, words[1:]
    return command, words


def option_names(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in parameter.opts}
    names |= {name for parameter in command.params for name in parameter.secondary_opts}
    return names | {"--help", "-h"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    missing = [target for target in links(path) if not (path.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_exists(path: Path) -> None:
    for words in commands(path):
        if PLACEHOLDERS & set(words):
            continue
        command, rest = find_command(words)
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert used <= option_names(command), f"penstock {' '.join(words)}"


def test_every_command_is_in_the_readme() -> None:
    shown = {words[0] for words in commands(README) if words}
    assert {noun for part in NOUNS.values() for noun in part} <= shown


def test_the_exit_codes_are_in_the_readme() -> None:
    assert table(README, "exit code") == {str(int(code)): MEANING[code] for code in MEANING}


def test_the_options_of_serve_are_in_the_readme() -> None:
    serve, _ = find_command(["serve"])
    own = [option for option in serve.params if isinstance(option, click.Option)]
    shared = {"--server", "--output", "--timeout", "--quiet"}
    names = {option.opts[-1] for option in own} - shared
    assert set(table(README, "option of penstock serve")) == names


def test_the_topic_configuration_is_in_the_readme() -> None:
    shown = table(README, "configuration of a topic")
    assert set(shown) == set(KEYS)
    real = msgspec.structs.asdict(TopicConfig())
    assert {name: default(text) for name, text in shown.items()} == real


def test_the_options_of_connect_are_in_the_readme() -> None:
    real = {field.name: field.default for field in dataclasses.fields(Options)}
    for name, text in table(README, "option of penstock.connect").items():
        assert real[name] == default(text), name


def test_the_runbook_names_the_commands_of_its_folder() -> None:
    for name in table(RUNBOOK, "command"):
        assert (ROOT / name).exists(), name


def test_every_mistake_of_others_has_its_test() -> None:
    shown = (ROOT / "tests/README.md").read_text().partition("## Mistakes of others")[2]
    named = [line.split(" | ")[-1].removesuffix(" |") for line in shown.splitlines()[6:]]
    assert len(named) > 25
    for name in named:
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(), name
