from __future__ import annotations

import json

import pytest

from penstock.testing import broker
from tests.cli.conftest import Cli


def test_a_topic_is_created_listed_described_altered_and_deleted(cli: Cli) -> None:
    cli("topic", "create", "life", "-p", "3", "--retention", "30d", "-c", "segment_ms=3600000")
    listed = json.loads(cli("topic", "list", "-o", "json").stdout)
    [mine] = [row for row in listed if row["topic"] == "life"]
    assert (mine["partitions"], mine["retention"]) == (3, "30d")
    assert mine["config"]["segment_ms"] == 3_600_000
    cli("topic", "alter", "life", "-p", "4", "-c", "segment_ms=default")
    described = json.loads(cli("topic", "describe", "life", "-o", "json").stdout)
    assert len(described["partitions"]) == 4
    assert described["config"]["segment_ms"] != 3_600_000
    cli("topic", "delete", "life", "--yes")
    assert cli.any("topic", "describe", "life").exit_code == 4


def test_an_empty_list_is_words_on_stderr_and_nothing_on_stdout() -> None:
    with broker() as running:
        empty = Cli(running.address)
        shown = empty("topic", "list")
        assert shown.stdout == ""
        assert "penstock topic create" in shown.stderr
        assert empty("-q", "topic", "list").stderr == ""
        assert json.loads(empty("topic", "list", "-o", "json").stdout) == []


def test_data_and_words_do_not_mix(cli: Cli) -> None:
    created = cli("topic", "create", "apart", "-o", "name")
    assert (created.stdout, created.stderr) == ("apart\n", "topic apart created\n")
    cli("topic", "delete", "apart", "--yes")


def test_a_dry_run_changes_nothing(cli: Cli, topic: str) -> None:
    cli("topic", "create", "never", "--dry-run")
    assert cli.any("topic", "describe", "never").exit_code == 4
    cli("topic", "alter", topic, "-p", "9", "--dry-run")
    cli("topic", "delete", topic, "--dry-run")
    assert topic in cli("topic", "list", "-o", "name").stdout.split()
    assert len(json.loads(cli("topic", "describe", topic, "-o", "json").stdout)["partitions"]) == 2


def test_deleting_without_a_terminal_needs_a_yes(cli: Cli, filled: str) -> None:
    refused = cli.any("topic", "delete", filled)
    assert refused.exit_code == 6
    assert "9 records" in refused.stderr
    assert "hint: Add --yes." in refused.stderr
    assert filled in cli("topic", "list").stdout


def test_trimming_deletes_what_lies_before_a_position(cli: Cli, filled: str) -> None:
    said = cli("topic", "trim", filled, "--before", "1", "--dry-run").stderr
    assert "dry run" in said
    cli("topic", "trim", filled, "--before", "1", "--yes")
    offsets = [record["offset"] for record in map(json.loads, ndjson(cli, filled).splitlines())]
    assert 0 not in offsets
    cli("topic", "trim", filled, "--before", "latest", "--yes")
    assert ndjson(cli, filled) == ""


def ndjson(cli: Cli, topic: str) -> str:
    return cli("consume", topic, "-o", "ndjson").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["topic", "describe", "nowhere"], 4, "nowhere"),
        (["topic", "create", "a/b"], 2, "hint: Use 1 to 200"),
        (["topic", "create", "x", "--retention", "soon"], 2, "not a duration"),
        (["topic", "create", "x", "-c", "nonsense=1"], 2, "nonsense"),
        (["topic", "create", "x", "-c", "nonsense"], 2, "NAME=VALUE"),
        (["topic", "alter", "x"], 2, "nothing to change"),
        (["topic", "lst"], 2, "did you mean `list`?"),
        (["topik", "list"], 2, "did you mean `topic`?"),
        (["topic"], 2, ""),
        (["topic", "list", "-o", "value"], 2, "value"),
        (["-o", "value", "topic", "list"], 2, "can't print 'value'"),
        (["topic", "trim", "nowhere", "--before", "latest", "--yes"], 4, "nowhere"),
    ],
)
def test_mistakes_have_their_code_and_a_message(
    cli: Cli, arguments: list[str], code: int, words: str
) -> None:
    failed = cli.any(*arguments)
    assert failed.exit_code == code
    assert words in failed.stderr
    assert failed.stdout == ""


def test_an_existing_topic_is_refused_unless_that_is_well(cli: Cli, topic: str) -> None:
    assert cli.any("topic", "create", topic).exit_code == 6
    assert "exists" in cli("topic", "create", topic, "--if-not-exists").stderr


def test_the_wide_list_has_records_and_sizes(cli: Cli, filled: str) -> None:
    titles, *rows = cli("topic", "list", "-o", "wide").stdout.splitlines()
    assert titles.split()[5] == "RECORDS"
    [row] = [row for row in rows if row.startswith(f"{filled} ")]
    assert row.split()[5] == "9"
