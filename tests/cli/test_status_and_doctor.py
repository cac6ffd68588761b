from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.checks import Check, Grade
from penstock.cli.checks.broker import topic_checks
from penstock.cli.checks.data import file_system_of, sync_delays
from penstock.cli.status import flatten, show_figure
from penstock.protocol.cluster import PartitionState
from penstock.protocol.messages import MetadataReply, PartitionInfo, TopicInfo
from tests.cli.conftest import Cli


def test_status_shows_the_figures(cli: Cli, filled: str) -> None:
    value = json.loads(cli("status", "-o", "json").stdout)
    assert value["node"] >= 1
    assert value["figures"]
    assert cli("status").stdout.startswith("node")
    assert cli("status", "-o", "name").stdout == f"{value['node']}\n"


@pytest.mark.parametrize(
    ("name", "figure", "shown"),
    [
        ("log_bytes", 2048, "2.0 KiB"),
        ("commit_p99_us", 1500, "1.5 ms"),
        ("uptime_seconds", 7200, "2h"),
        ("started_at_us", 0, "1970-01-01T00:00:00.000Z"),
        ("records", 1_234_567, "1,234,567"),
        ("load", 0.5, "0.500"),
        ("accepting", True, True),
        ("name", "x", "x"),
    ],
)
def test_a_figure_is_shown_in_the_unit_of_its_name(name: str, figure: object, shown: str) -> None:
    assert show_figure(name, figure) == shown


def test_nested_figures_get_dotted_names() -> None:
    assert dict(flatten({"a": 1, "wal": {"syncs": 2}})) == {"a": 1, "wal.syncs": 2}


def test_doctor_checks_broker_directory_and_host(cli: Cli, tmp_path: Path) -> None:
    rows = json.loads(cli("doctor", "--data", str(tmp_path), "-o", "json").stdout)
    by_name = {row["check"]: row for row in rows}
    assert by_name["broker"]["grade"] == "ok"
    assert {"disk", "sync", "open files", "clock", "checksums"} <= by_name.keys()
    assert all(row["cure"] for row in rows if row["grade"] != "ok")
    assert list(tmp_path.iterdir()) == []


def test_doctor_without_a_broker_fails_with_its_own_code(cli: Cli) -> None:
    alone = Cli("127.0.0.1:1").any("--timeout", "0.05", "doctor")
    assert alone.exit_code == 10
    assert "FAIL  broker" in alone.stdout
    assert "1 failed" in alone.stderr
    assert cli("doctor", "--no-broker", "-o", "name").stdout.startswith("version\n")


def partition(number: int, replicas: list[int]) -> PartitionInfo:
    return PartitionInfo(partition=number, group=9, leader=1, term=1, replicas=replicas)


def state(number: int, leader: int, replicas: list[int]) -> PartitionState:
    return PartitionState(
        topic="orders", partition=number, group=9, leader=leader, term=1, replicas=replicas,
        members=replicas, learners=[], behind={}, moving=False,
        state="ok" if leader else "leaderless",
    )  # fmt: skip


def test_partitions_without_leader_or_replicas_are_named() -> None:
    parts = [partition(0, [1, 2]), partition(1, [1])]
    topic = TopicInfo(name="orders", id="x", partitions=parts, config={}, replication=2)
    metadata = MetadataReply(cluster="c", nodes=[], topics=[topic])
    leaders, replicas = topic_checks(metadata, [state(0, 1, [1, 2]), state(1, 0, [1])])
    assert leaders.grade is Grade.FAIL
    assert leaders.found == "1 of 2 partitions without one: orders/1"
    assert replicas.grade is Grade.WARN
    assert "orders/1" in replicas.found


def test_a_content_check_shows_no_cure() -> None:
    assert Check("disk", Grade.OK, "fine", "buy one").row()["cure"] == ""


def test_the_file_system_is_the_one_of_the_longest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nx /data\\040one nfs4 rw 0 0\ny /data tmpfs rw 0 0\n")
    assert file_system_of(Path("/data one/x"), mounts) == "nfs4"
    assert file_system_of(Path("/data/x"), mounts) == "tmpfs"
    assert file_system_of(Path("/database"), mounts) == "ext4"
    assert file_system_of(Path("/x"), tmp_path / "none") == "unknown"


def test_measuring_syncs_leaves_no_file(tmp_path: Path) -> None:
    delays = sync_delays(str(tmp_path))
    assert delays
    assert min(delays) > 0
    assert list(tmp_path.iterdir()) == []
