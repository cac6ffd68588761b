from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.cli import reading
from penstock.cli.publish import cut_by_time
from penstock.cli.records import Outgoing
from penstock.cli.spans import Span, span_of
from penstock.protocol.messages import PartitionFigures
from tests.cli.conftest import Cli

START = datetime(2026, 1, 1, tzinfo=UTC)


def values(cli: Cli, topic: str, *arguments: str) -> list[str]:
    return sorted(cli("consume", topic, "-o", "value", *arguments).stdout.splitlines())


def test_each_line_becomes_a_record(cli: Cli, topic: str) -> None:
    said = cli("publish", topic, stdin="one\ntwo\r\n\nlast").stderr
    assert said.startswith(f"published 4 records to {topic}: partition ")
    assert values(cli, topic) == ["", "last", "one", "two"]


def test_a_file_is_read(cli: Cli, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"one\ntwo\n")
    cli("publish", topic, str(file))
    assert values(cli, topic) == ["one", "two"]
    assert cli.any("publish", topic, str(tmp_path / "none")).exit_code == 2


def test_a_whole_file_is_one_record_with_key_and_header(cli: Cli, topic: str) -> None:
    cli("publish", topic, "--format", "raw", "-k", "cat", "-H", "type=jpeg", stdin=b"\xff\xd8\n")
    [record] = json.loads(cli("consume", topic, "-o", "json").stdout)
    assert record["value_base64"] == base64.b64encode(b"\xff\xd8\n").decode()
    assert (record["key"], record["headers"]) == ("cat", {"type": "jpeg"})


def test_ndjson_goes_round_without_losing_a_byte(cli: Cli, topic: str) -> None:
    rows = [
        {"value": "plain", "timestamp": "2026-01-31T09:30:00.123Z"},
        {"value": "with key", "key": "k", "headers": {"a": "1"}},
        {"value_base64": "/w==", "key_base64": "/g==", "headers_base64": {"b": "/Q=="}},
        {"value": "ä\n\t"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    cli("publish", topic, "-p", "0", "--format", "ndjson", stdin=lines)
    out = cli("consume", topic, "-o", "ndjson").stdout
    back = [json.loads(line) for line in out.splitlines()]
    fields = ("value", "value_base64", "key", "key_base64", "headers", "headers_base64")
    kept = [{name: row[name] for name in fields if name in row} for row in back]
    assert kept == [{name: row[name] for name in fields if name in row} for row in rows]
    assert back[0]["timestamp"] == "2026-01-31T09:30:00.123Z"
    cli("topic", "create", f"{topic}-copy")
    cli("publish", f"{topic}-copy", "--format", "ndjson", stdin=out)
    copied = cli("consume", f"{topic}-copy", "-o", "ndjson").stdout
    assert copied == out.replace(f'"{topic}"', f'"{topic}-copy"')
    cli("topic", "delete", f"{topic}-copy", "--yes")


def test_receipts_say_where_each_record_lies(cli: Cli, topic: str) -> None:
    names = cli("publish", topic, "-p", "1", "-o", "name", stdin="a\nb\n").stdout
    assert names == f"{topic}/1/0\n{topic}/1/1\n"
    [receipt] = json.loads(cli("publish", topic, "-p", "1", "-o", "json", stdin="c\n").stdout)
    assert (receipt["partition"], receipt["offset"], receipt["duplicate"]) == (1, 2, False)
    assert cli("publish", topic, "-o", "ndjson", stdin="").stdout == ""


def test_a_wrong_line_stops_the_publishing_and_the_part_before_is_said(
    cli: Cli, topic: str
) -> None:
    wrong = cli.any("publish", topic, "--format", "ndjson", stdin='{"value":"a"}\noops\n')
    assert wrong.exit_code == 1
    assert "line 2 is no record" in wrong.stderr
    assert values(cli, topic) == []
    assert cli.any("publish", topic, "--key-separator", ":", stdin="a\n").exit_code == 1


def test_what_was_published_before_a_mistake_is_told_as_a_part(
    cli: Cli, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 16)
    lines = '{"value":"a"}\n{"value":"b"}\n' + "oops\n"
    wrong = cli.any("publish", topic, "--format", "ndjson", stdin=lines)
    assert wrong.exit_code == 3
    assert "line 3 is no record" in wrong.stderr
    assert "(published 2 records to" in wrong.stderr
    assert values(cli, topic) == ["a", "b"]


def test_keys_of_the_command_line_may_be_any_bytes(cli: Cli, topic: str) -> None:
    cli("publish", topic, "-k", os.fsdecode(b"\xff"), stdin="a\n")
    assert values(cli, topic, "-k", os.fsdecode(b"\xff")) == ["a"]


def test_a_dry_run_reads_and_sends_nothing(cli: Cli, topic: str) -> None:
    said = cli("publish", topic, "--dry-run", stdin="a\nb\n").stderr
    assert said == f"dry run, nothing sent: 2 records to {topic}\n"
    assert values(cli, topic) == []


def test_publishing_to_nowhere_names_the_way_out(cli: Cli) -> None:
    failed = cli.any("publish", "nowhere", stdin="a\n")
    assert failed.exit_code == 4
    assert "hint: Create it with `penstock topic create NAME`" in failed.stderr
    assert cli.any("publish", "nowhere", stdin="").exit_code == 4


def test_records_beside_those_that_failed_are_counted(cli: Cli, topic: str) -> None:
    too_large = base64.b64encode(os.urandom(1_200_000)).decode()
    lines = "".join(
        json.dumps({"value": value}) + "\n" for value in ["a", *["b" * 1000] * 1500, too_large]
    )
    failed = cli.any("publish", topic, "-o", "name", "--format", "ndjson", "-p", "0", stdin=lines)
    stored = len(values(cli, topic))
    assert failed.exit_code == 3
    assert f"(published {stored:,} records to" in failed.stderr
    assert len(failed.stdout.splitlines()) == stored > 1000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]),
        (["--key", "b"], ["b0", "b1", "b2"]),
        (["--where", 'key == "a" and value != "a1"'], ["a0", "a2"]),
        (["--where", 'value like "*0" or value like "c1"'], ["a0", "b0", "c0", "c1"]),
        (["--from", "latest"], []),
        (["--from", "-1h"], ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]),
        (["--to", "earliest"], []),
        (["--to", "2020-01-01"], []),
        (["--key", "a", "--limit", "2"], ["a0", "a1"]),
        (["--from", "99999"], []),
    ],
)
def test_consume_reads_what_is_asked_for(
    cli: Cli, filled: str, arguments: list[str], expected: list[str]
) -> None:
    assert values(cli, filled, *arguments) == expected


def test_positions_of_one_partition_are_exact(cli: Cli, topic: str) -> None:
    cli("publish", topic, "-p", "1", stdin="a\nb\nc\nd\n")
    assert values(cli, topic, "-p", "1", "--from", "1", "--to", "3") == ["b", "c"]
    assert values(cli, topic, "-p", "0") == []


def test_a_limit_ends_the_reading(cli: Cli, filled: str) -> None:
    assert len(values(cli, filled, "-n", "4")) == 4


def test_following_ends_with_the_limit(cli: Cli, filled: str) -> None:
    assert len(values(cli, filled, "-f", "-n", "9")) == 9


@pytest.mark.parametrize("output", ["json", "ndjson", "value", "name", "table"])
def test_every_format_of_an_empty_topic_is_empty(cli: Cli, topic: str, output: str) -> None:
    shown = cli("consume", topic, "-o", output)
    assert shown.stdout == ("[]\n" if output == "json" else "")
    assert shown.stderr == f"no record to show in {topic}\n"


def test_a_table_row_is_one_line(cli: Cli, topic: str) -> None:
    cli("publish", topic, "--format", "raw", "-p", "0", "-k", "k", stdin=b"two\nlines \x1b[2J\xff")
    titles, row = cli("consume", topic).stdout.splitlines()
    assert titles.split() == ["OFFSET", "TIME", "KEY", "VALUE"]
    assert row.startswith("0:0     2")
    assert row.endswith("Z  k    two\\nlines \\x1b[2J\\xff")


def test_tail_shows_the_last_ones_over_all_partitions(cli: Cli, filled: str) -> None:
    last = cli("tail", filled, "-n", "3", "-o", "value").stdout.split()
    assert len(last) == 3
    whole = cli("tail", filled, "-n", "99", "-o", "value").stdout.split()
    assert whole[-3:] == last
    assert len(whole) == 9
    assert cli("tail", filled, "-n", "0", "-o", "value").stdout == ""


def test_tail_looks_further_back_for_what_is_chosen(cli: Cli, topic: str) -> None:
    cli("publish", topic, "-p", "0", stdin="wanted\n" + "other\n" * 200)
    found = cli("tail", topic, "-n", "1", "--where", 'value == "wanted"', "-o", "value").stdout
    assert found == "wanted\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--where", "value ="], 2, "--where: a name, a value or an operator"),
        (["--where", "total > 1"], 2, "the names are"),
        (["--from", "yesterday"], 2, "is not earliest, latest"),
        (["--limit", "0"], 2, "whole number"),
        (["--partition", "7"], 4, "partition 7"),
        (["--group", "g", "--to", "latest"], 2, "--group goes with"),
    ],
)
def test_mistakes_have_their_code_and_a_message(
    cli: Cli, topic: str, arguments: list[str], code: int, words: str
) -> None:
    failed = cli.any("consume", topic, *arguments)
    assert failed.exit_code == code
    assert words in failed.stderr


def test_records_share_a_batch_only_near_each_other_in_time() -> None:
    def at(day: int | None) -> Outgoing:
        return Outgoing(b"", timestamp=None if day is None else START + timedelta(days=day))

    days = [None, None, 0, 30, 45, 10, 90, 91, None, 0, 500]
    runs = [[record.timestamp for record in run] for run in cut_by_time([at(d) for d in days])]
    shown = [[None if t is None else (t - START).days for t in run] for run in runs]
    assert shown == [[None, None], [0, 30], [45, 10], [90, 91], [None], [0], [500]]


def figures(low: int, high: int) -> PartitionFigures:
    return PartitionFigures(
        partition=0, group=9, leader=1, term=1, replicas=[1], log_start_offset=low,
        high_watermark=high, size_bytes=0, segments=1, producers=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("first", "end", "follow", "span"),
    [
        (0, None, False, Span(5, 9, 0)),
        (7, 8, False, Span(7, 8, 7)),
        (7, 100, False, Span(7, 9, 7)),
        (7, 100, True, Span(7, 100, 7)),
        (12, None, False, Span(9, 9, 12)),
        (12, None, True, Span(9, None, 12)),
    ],
)
def test_a_span_lies_in_its_partition_and_keeps_what_was_asked_for(
    first: int, end: int | None, follow: bool, span: Span
) -> None:
    assert span_of(figures(5, 9), first, end, follow=follow) == span
