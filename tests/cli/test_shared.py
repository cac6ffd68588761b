"""Shared groups on the command line, against a broker."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from tests.cli.conftest import Cli

_numbers = count(1)

MANY = ["--max-in-flight", "9"]
FAST = ["-c", "retry_min_ms=10ms", "-c", "retry_max_ms=20ms", "-c", "jitter=none"]


@pytest.fixture
def group(cli: Cli, filled: str) -> str:
    """A shared group on the topic `filled`, which retries at once and twice."""
    name = f"shared-{next(_numbers)}"
    cli("group", "create", filled, name, "--attempts", "2", *FAST)
    return name


def rows(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli(*arguments, "-o", "json").stdout)


def work(cli: Cli, topic: str, group: str, *options: str) -> list[str]:
    shown = cli("consume", topic, "-g", group, "--mode", "shared", "-o", "value", *options)
    return shown.stdout.split()


def test_a_group_is_created_altered_described_and_deleted(cli: Cli, filled: str) -> None:
    made = cli("group", "create", filled, "life", "--lease", "45s", "-c", "strict=yes")
    assert "created" in made.stderr
    assert f"dead.{filled}.life" in made.stdout
    assert "exists" in cli("group", "create", filled, "life", "--if-not-exists").stderr
    assert cli.any("group", "create", filled, "life").exit_code == 6
    altered = rows(cli, "group", "alter", filled, "life", "--attempts", "unlimited")
    assert altered["settings"]["attempts_max"] == -1
    assert altered["settings"]["lease_ms"] == 45_000
    described = rows(cli, "group", "describe", "life")
    assert (described["mode"], described["lag"], described["ready"]) == ("shared", 9, 9)
    [mine] = [row for row in rows(cli, "group", "list") if row["group"] == "life"]
    assert (mine["mode"], mine["topics"], mine["lag"]) == ("shared", [filled], 9)
    assert cli.any("group", "delete", "life").exit_code == 6
    cli("group", "delete", filled, "life", "--yes")
    assert cli.any("group", "describe", filled, "life").exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["create", "nowhere", "g"], 4, "nowhere"),
        (["create", "TOPIC", "a/b"], 2, "hint: Use 1 to 200"),
        (["create", "TOPIC", "g", "-c", "lease_ms=1"], 2, "lease_ms"),
        (["create", "TOPIC", "g", "-c", "nonsense=1"], 2, "nonsense"),
        (["create", "TOPIC", "g", "--order-by", "key"], 6, "key"),
        (["create", "TOPIC", "g", "--start", "17"], 2, "not an offset"),
        (["alter", "TOPIC", "g"], 2, "nothing to change"),
        (["alter", "TOPIC", "none", "--attempts", "3"], 4, "none"),
        (["stuck", "TOPIC", "none"], 4, "none"),
        (["describe", "TOPIC", "none"], 4, "none"),
        (["describe", "a", "b", "c"], 2, "one group"),
    ],
)
def test_mistakes_have_their_code_and_a_message(
    cli: Cli, topic: str, arguments: list[str], code: int, words: str
) -> None:
    failed = cli.any("group", *[topic if word == "TOPIC" else word for word in arguments])
    assert failed.exit_code == code, failed.output
    assert words in failed.stderr
    assert failed.stdout == ""


def test_members_of_a_shared_group_get_each_record_once(cli: Cli, filled: str, group: str) -> None:
    first, second = work(cli, filled, group, "-n", "4"), work(cli, filled, group)
    assert sorted(first + second) == sorted(f"{k}{n}" for k in "abc" for n in range(3))
    assert work(cli, filled, group) == []
    assert "every record is settled" in cli("group", "stuck", filled, group).stderr
    assert cli("group", "lag", group, "--max", "0").exit_code == 0


def test_a_group_of_that_name_is_found_by_itself_or_by_its_topic(
    cli: Cli, filled: str, group: str
) -> None:
    alone, placed = ([group], [filled, group])
    assert rows(cli, "group", "describe", *alone)["topic"] == filled
    assert rows(cli, "group", "describe", *placed)["group"] == group
    assert cli.any("group", "seek", filled, group, "--to", "latest").exit_code == 6


def test_a_command_settles_records_by_its_exit_code(cli: Cli, filled: str, group: str) -> None:
    script = 'case "$PENSTOCK_KEY" in b) echo broken >&2; exit 7;; esac'
    done = cli("consume", filled, "-g", group, "--mode", "shared", "--each", script, *MANY)
    assert "6 records done, 6 failed" in done.stderr
    [reason] = rows(cli, "dlq", "reasons", filled, group)
    assert (reason["cause"], reason["letters"], reason["error"]) == ("exit 7", 3, "broken")


def test_a_command_may_reject_or_stop(cli: Cli, filled: str, group: str) -> None:
    options = ["consume", filled, "-g", group, "--mode", "shared", "--each", "exit 3", *MANY]
    stopped = cli.any(*options, "--on-error", "stop")
    assert stopped.exit_code == 1
    assert "no attempt counted" in stopped.stderr
    assert rows(cli, "group", "describe", group)["ready"] == 9
    cli(*options, "--on-error", "reject", "-n", "2")
    assert len(rows(cli, "dlq", "peek", filled, group)) == 2


def test_shared_options_want_a_shared_group(cli: Cli, filled: str) -> None:
    assert cli.any("consume", filled, "--mode", "shared").exit_code == 2
    assert cli.any("consume", filled, "-g", "x", "--each", "true").exit_code == 2


@pytest.fixture
def dead(cli: Cli, filled: str, group: str) -> str:
    """The group, for which all records with the key `b` died."""
    cli("consume", filled, "-g", group, "--mode", "shared", "-k", "b", "--each", "exit 1", *MANY)
    return group


def test_dead_letters_keep_their_record_and_its_history(cli: Cli, filled: str, dead: str) -> None:
    letters = rows(cli, "dlq", "peek", filled, dead)
    assert [it["value"] for it in letters] == ["b0", "b1", "b2"]
    assert {(it["key"], it["cause"], it["failed"]) for it in letters} == {("b", "exit 1", 2)}
    shown = cli("dlq", "show", filled, dead, letters[0]["place"]).stdout
    assert letters[0]["origin"].removeprefix(f"{filled}/").replace("/", ":") in shown
    [mine] = [row for row in rows(cli, "dlq", "list") if row["group"] == dead]
    assert (mine["dead_letters"], mine["dead_topic"]) == (3, f"dead.{filled}.{dead}")


def test_dead_letters_of_a_deleted_topic_are_still_listed(cli: Cli, filled: str, dead: str) -> None:
    cli("topic", "delete", filled, "--yes")
    listed = [row for row in rows(cli, "dlq", "list", filled) if row["group"] == dead]
    assert [(row["dead_letters"], row["deleted"]) for row in listed] == [(3, "topic")]
    assert "b2" in cli("tail", f"dead.{filled}.{dead}").stdout


def test_dead_letters_of_a_deleted_group_are_still_listed(cli: Cli, filled: str, dead: str) -> None:
    cli("group", "delete", dead, "--yes")
    listed = [row for row in rows(cli, "dlq", "list", filled) if row["group"] == dead]
    assert [(row["dead_letters"], row["deleted"]) for row in listed] == [(3, "group")]


def test_redriven_records_come_to_their_group_and_to_no_other(
    cli: Cli, filled: str, dead: str
) -> None:
    other = "bystander"
    cli("group", "create", filled, other, "--start", "latest")
    cli("dlq", "redrive", filled, dead, "--where", 'value == "b1"', "--yes")
    assert work(cli, filled, dead) == ["b1"]
    assert work(cli, filled, other) == []
    assert [it["value"] for it in rows(cli, "dlq", "peek", filled, dead)] == ["b0", "b2"]


def test_values_can_be_mended_on_the_way(cli: Cli, filled: str, dead: str) -> None:
    cli("dlq", "redrive", filled, dead, "--edit-with", "tr b z", "--yes")
    assert sorted(work(cli, filled, dead)) == ["z0", "z1", "z2"]


def test_purged_records_are_gone(cli: Cli, filled: str, dead: str) -> None:
    cli("dlq", "purge", filled, dead, "--limit", "2", "--yes")
    assert len(rows(cli, "dlq", "peek", filled, dead)) == 1


def test_why_tells_each_group_of_a_record(cli: Cli, filled: str, dead: str) -> None:
    letter = rows(cli, "dlq", "peek", filled, dead)[0]
    _, partition, offset = letter["origin"].split("/")
    cli("consume", filled, "--group", f"ordered-{dead}", "-o", "value")
    told = rows(cli, "why", filled, f"{partition}:{offset}")
    states = {row["group"]: row["state"] for row in told["groups"]}
    assert states == {dead: "dead", f"ordered-{dead}": "done"}
    shown = cli("why", filled, f"{partition}:{offset}").stdout
    assert f"dead.{filled}.{dead} {letter['place']}" in shown
    assert "exit 1" in shown
    assert cli.any("why", filled, f"{partition}:9999").exit_code == 4
    assert cli.any("why", filled, "77:0").exit_code == 4
    assert cli.any("why", "nowhere", "0:0").exit_code == 4


def test_records_can_be_published_for_later_and_cancelled(cli: Cli, topic: str) -> None:
    said = cli("publish", topic, "--delay", "1h", "-p", "0", stdin="later\n").stderr
    assert "delayed" in said
    cli("publish", topic, "--at", "2099-01-01T00:00Z", "-p", "1", stdin="much later\n")
    waiting = rows(cli, "schedule", "delayed", topic)
    assert [row["partition"] for row in waiting] == [0, 1]
    assert cli("consume", topic, "-o", "value").stdout == ""
    cli("schedule", "cancel", topic, waiting[0]["id"])
    assert cli.any("schedule", "cancel", topic, waiting[0]["id"]).exit_code == 4
    assert len(rows(cli, "schedule", "delayed", topic)) == 1


def test_a_schedule_is_set_paused_resumed_and_deleted(cli: Cli, topic: str) -> None:
    cli("schedule", "create", topic, "nightly", "0 2 * * *", "-z", "Europe/Berlin", "-v", "go")
    [mine] = rows(cli, "schedule", "list", topic)
    assert (mine["name"], mine["value"], mine["fired"]) == ("nightly", "go", 0)
    assert cli.any("schedule", "create", topic, "nightly", "0 3 * * *").exit_code == 6
    cli("schedule", "create", topic, "nightly", "0 3 * * *", "--replace")
    cli("schedule", "pause", topic, "nightly")
    assert rows(cli, "schedule", "describe", topic, "nightly")["next"] is None
    cli("schedule", "resume", topic, "nightly")
    assert len(rows(cli, "schedule", "next", topic, "nightly", "-n", "3")) == 3
    assert cli.any("schedule", "delete", topic, "nightly").exit_code == 6
    cli("schedule", "delete", topic, "nightly", "--yes")
    assert cli.any("schedule", "pause", topic, "nightly").exit_code == 4
    assert cli.any("schedule", "create", topic, "x", "61 * * * *").exit_code == 2
