"""`penstock partition recover`, with a client that only notes what it is asked."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from penstock.cli.app import penstock
from penstock.cli.checks.broker import topic_checks
from penstock.cli.cluster_rows import problems
from penstock.cli.settings import Settings
from penstock.errors import PreconditionFailed
from penstock.protocol.cluster import (
    ClusterStatusReply,
    CopyFound,
    MetadataStatus,
    NodeStatus,
    PartitionState,
    RecoverPartitionReply,
)
from penstock.protocol.messages import MetadataReply

if TYPE_CHECKING:
    from collections.abc import Iterator

Asked = tuple[str, int, int | None, bool]


def status(**changes: int) -> ClusterStatusReply:
    nodes = [
        NodeStatus(id=n, address=f"n{n}:7400", host=f"h{n}", state="active", alive=True,
                   answered=True)
        for n in (2, 3, 4)
    ]  # fmt: skip
    counts = {"partitions": 8, "leaderless": 0, "under_replicated": 0, "moving": 0} | changes
    metadata = MetadataStatus(leader=2, term=1, voters=[2, 3, 4], learners=[])
    return ClusterStatusReply(
        cluster="c",
        node=2,
        metadata=metadata,
        nodes=nodes,
        feature_level=1,
        feature_max=1,
        **counts,
    )


def state(topic: str, number: int, leader: int) -> PartitionState:
    return PartitionState(
        topic=topic, partition=number, group=9, leader=leader, term=0, replicas=[1, 2],
        members=[1, 2], learners=[], behind={}, moving=False, state="leaderless",
        bereft=not leader,
    )  # fmt: skip


@dataclass
class FakeAdmin:
    """Copies are left on some nodes; a majority of the others is lost."""

    copies: list[CopyFound]
    complete: bool = True
    error: PreconditionFailed | None = None
    leader: int = 0
    asked: list[Asked] = field(default_factory=list)

    def cluster_status(self) -> ClusterStatusReply:
        return status()

    def recover_partition(
        self, topic: str, partition: int, node: int | None = None, *, dry_run: bool = False
    ) -> RecoverPartitionReply:
        self.asked.append((topic, partition, node, dry_run))
        if self.error is not None:
            raise self.error
        chosen = node or (self.copies[0].node if len(self.copies) == 1 else 0)
        complete = self.complete and chosen > 0
        return RecoverPartitionReply(node=chosen, copies=self.copies, lost=[1], complete=complete)

    def list_partitions(self, topic: str) -> list[PartitionState]:
        leader = self.copies[0].node if self.carried_out else self.leader
        return [state(topic, 0, leader)]

    @property
    def carried_out(self) -> list[Asked]:
        return [asked for asked in self.asked if not asked[3]]

    def run(self, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
        @contextmanager
        def connect(_: Settings) -> Iterator[FakeClient]:
            yield FakeClient(self)

        monkeypatch.setattr(Settings, "connect", connect)
        monkeypatch.setenv("COLUMNS", "80")
        return CliRunner().invoke(penstock, ["partition", "recover", "orders", "0", *words])


@dataclass
class FakeClient:
    admin: FakeAdmin


ONE = CopyFound(node=2, answered=True, last_term=3, last_index=40, end_offset=35)
OTHER = CopyFound(node=3, answered=True, last_term=3, last_index=38, end_offset=33)
AWAY = CopyFound(node=4, answered=False)


def test_the_only_copy_is_taken_and_the_words_say_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = FakeAdmin([ONE])
    done = admin.run(monkeypatch, "--yes", "--wait")
    assert done.exit_code == 0, done.output
    assert "orders/0 can be written and read" in done.stderr
    assert "node 2 has every record that was acknowledged" in done.stderr
    assert "group seek" not in done.stderr
    assert "goes on with node 2" in done.stderr
    assert admin.carried_out == [("orders", 0, 2, False)]
    assert all(len(line) <= 80 for line in done.output.splitlines())


def test_a_dry_run_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin([ONE])
    done = admin.run(monkeypatch, "--dry-run", "-o", "json")
    assert (done.exit_code, admin.carried_out) == (0, [])
    (row,) = json.loads(done.stdout)
    assert (row["node"], row["last_index"], row["fate"]) == (2, 40, "goes on")
    assert "dry run, nothing changed" in done.stderr


def test_nothing_is_done_without_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin([ONE])
    done = admin.run(monkeypatch)
    assert (done.exit_code, admin.carried_out) == (6, [])
    assert "go on with node 2 alone" in done.output


def test_one_of_several_copies_is_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin([ONE, OTHER, AWAY], complete=False)
    looked = admin.run(monkeypatch, "--dry-run")
    assert looked.exit_code == 0
    assert looked.stdout.count("to be chosen") == 3
    assert "to be chosen, away" in looked.stdout
    refused = admin.run(monkeypatch, "--yes")
    assert (refused.exit_code, admin.carried_out) == (6, [])
    assert "--from NODE" in refused.output
    done = admin.run(monkeypatch, "--from", "n3:7400", "--yes")
    assert done.exit_code == 0, done.output
    assert "node 3 may lack what was acknowledged" in done.stderr
    assert "penstock group seek orders GROUP --partition 0=33 --yes" in done.stderr
    assert all(len(line) <= 80 for line in done.output.splitlines())
    assert admin.carried_out == [("orders", 0, 3, False)]


def test_what_is_led_is_not_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin([ONE], leader=3)
    refused = admin.run(monkeypatch, "--yes")
    assert refused.exit_code == 6
    assert "orders/0 is led by node 3: nothing is to be recovered" in refused.output
    assert not admin.asked


def test_a_refusal_of_the_broker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin([ONE], error=PreconditionFailed("the copies on nodes [1, 2] are a majority"))
    refused = admin.run(monkeypatch, "--yes")
    assert refused.exit_code == 6
    assert "are a majority" in refused.output


def test_health_and_doctor_name_the_command() -> None:
    away, lost = problems(status(leaderless=3, bereft=2))
    assert (away["problem"], away["count"]) == ("no leader", 1)
    assert (lost["problem"], lost["count"]) == ("no majority", 2)
    assert lost["detail"] == "2 partitions: most copies lost: penstock partition recover"
    metadata = MetadataReply(cluster="c", nodes=[], topics=[])
    check, _ = topic_checks(metadata, [state("orders", 7, 0)])
    assert "`penstock partition recover orders 7`" in check.cure
