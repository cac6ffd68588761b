"""`penstock cluster`, `node`, `partition` and `top`, on three brokers in this process."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock.cli import waiting
from penstock.cli.checks import Grade
from penstock.cli.checks.broker import cluster_checks
from penstock.cli.cluster_rows import bereft_lines, node_row, partition_row, problems
from penstock.cli.exits import Exit
from penstock.cli.node import QUARANTINE
from penstock.cli.output import render_table
from penstock.cli.partition import is_of, settled_on
from penstock.cli.recover import ROWS
from penstock.cli.settings import Failure, Settings
from penstock.cli.top import Look, _say_no_answer, left_out, render
from penstock.cli.waiting import wait_for_partition
from penstock.errors import LeaderUnknown
from penstock.protocol.cluster import (
    Bereft,
    ClusterStatusReply,
    MetadataStatus,
    NodeStatus,
    PartitionState,
)
from penstock.protocol.messages import GroupSummary, ListGroupsReply
from penstock.testing import cluster
from penstock_broker.runtime.embed import start
from tests.cli.conftest import Cli

if TYPE_CHECKING:
    from penstock.sync import Client


@pytest.fixture(scope="module")
def three() -> Iterator[Cli]:
    with cluster(3) as running:
        cli = Cli(running.address)
        cli("topic", "create", "orders", "-p", "2", "-r", "3")
        cli("cluster", "health", "--watch", "--exit-when-healthy", "--every", "100ms")
        assert wait_until(lambda: is_complete(cli))
        yield cli


def wait_until(condition: Callable[[], bool]) -> bool:
    return any(condition() or time.sleep(0.2) for _ in range(100))


def is_complete(cli: Cli) -> bool:
    """Whether every broker has its copy of everything."""
    value = rows(cli, "cluster", "status")
    return not value["moving"] and all(node["replicas"] == 10 for node in value["nodes"])


def rows(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli(*arguments, "-o", "json").stdout)


def place(cli: Cli) -> dict[str, Any]:
    (first, _) = rows(cli, "partition", "list", "orders")
    assert isinstance(first, dict)
    return first


def test_a_cluster_is_formed_once(three: Cli) -> None:
    again = three.any("cluster", "init")
    assert again.exit_code == 6
    assert "hint: `penstock cluster status`" in again.output


def test_a_broker_without_a_cluster_ends_commands_with_6_and_is_not_healthy() -> None:
    with start(join=["127.0.0.1:9"]) as broker:
        cli = Cli(broker.address)
        for verb in (["cluster", "members"], ["cluster", "status"], ["node", "list"],
                     ["top", "--once"], ["topic", "list", "--timeout", "200ms"]):  # fmt: skip
            refused = cli.any(*verb)
            assert refused.exit_code == 6, verb
            assert "penstock cluster init" in refused.output
        health = cli.any("cluster", "health")
        assert (health.exit_code, health.stdout[:10]) == (6, "not formed")


def test_the_status_shows_all_brokers(three: Cli) -> None:
    shown = three("cluster", "status").stdout
    assert re.search(r"Health +healthy", shown)
    value = rows(three, "cluster", "status")
    assert [node["state"] for node in value["nodes"]] == ["active"] * 3
    assert value["problems"] == []
    assert three("cluster", "health").stdout == ""


def test_brokers_are_listed_and_described_by_id_and_address(three: Cli) -> None:
    listed = rows(three, "node", "list")
    names = [row["address"] for row in rows(three, "cluster", "members")]
    assert names == [row["address"] for row in listed]
    for name in (str(listed[1]["node"]), listed[1]["address"]):
        described = rows(three, "node", "describe", name)
        assert described["node"] == listed[1]["node"]
        assert described["figures"]["groups"] > 2
        assert "control,appends,bulk" in three("node", "describe", name).stdout
        assert {row["topic"] for row in described["partitions"]} == {"orders", "__groups"}
    missing = three.any("node", "describe", "99")
    assert missing.exit_code == 4
    assert "there is no node 99" in missing.output


def test_who_wants_two_copies_is_told_that_no_broker_may_be_lost(three: Cli) -> None:
    told = three("topic", "create", "pairs", "-r", "2", "--dry-run").stderr
    assert "with 2 copies no broker may be away or lost, with 3 copies 1 broker may" in told
    for copies, warned in (("2", True), ("3", False)):
        told = three("topic", "alter", "orders", "--replication", copies, "--dry-run").stderr
        assert ("with 2 copies no broker" in told) is warned


def test_a_lead_is_handed_over(three: Cli) -> None:
    before = place(three)
    to = next(node for node in before["replicas"] if node != before["leader"])
    dry = three("partition", "transfer", "orders", "0", "--to", str(to), "--dry-run")
    assert f"leader {before['leader']} -> {to}" in dry.stderr
    assert place(three)["leader"] == before["leader"]
    three("partition", "transfer", "orders", "0", "--to", str(to), "--wait")
    assert place(three)["leader"] == to
    again = three("partition", "transfer", "orders", "0", "--to", str(to), "--dry-run")
    assert f"orders/0 is led by node {to} already" in again.stderr


def test_a_move_needs_as_many_brokers_as_there_are_copies(three: Cli) -> None:
    refused = three.any("partition", "move", "orders", "0", "--to", "1,2")
    assert refused.exit_code == 6
    assert "3 copies" in refused.output
    wanted = sorted(place(three)["replicas"], reverse=True)
    names = ",".join(map(str, wanted))
    three("partition", "move", "orders", "0", "--to", names, "--wait")
    assert place(three)["members"] == sorted(wanted)
    assert three.any("partition", "move", "orders", "0", "--to", " , ").exit_code == 2


def test_a_drain_is_taken_back_and_tells_what_is_stuck(three: Cli) -> None:
    dry = three("cluster", "drain", "2", "--dry-run")
    assert "can't go anywhere" in dry.stderr
    three("cluster", "drain", "2")
    assert rows(three, "node", "describe", "2")["state"] == "draining"
    health = three.any("cluster", "health", "-o", "json")
    assert health.exit_code == 10
    (problem,) = json.loads(health.stdout)
    assert (problem["problem"], problem["node"]) == ("drain stuck", 2)
    assert problem["count"] >= 2
    moved = three.any("partition", "move", "orders", "0", "--to", "2,1,3")
    assert moved.exit_code == 6
    assert "node 2 is draining" in moved.output
    forced = three("partition", "move", "orders", "0", "--to", "2,1,3", "--force", "--dry-run")
    assert "warning: node 2 is draining" in forced.stderr
    held = three.any("cluster", "remove", "2", "--yes")
    assert held.exit_code == 6
    assert "drain it first" in held.output
    waited = three.any("cluster", "drain", "2", "--wait", "--within", "100ms")
    assert waited.exit_code == 1
    assert "not done in time" in waited.output
    three("cluster", "undrain", "2")
    assert rows(three, "node", "describe", "2")["state"] == "active"


def test_balance_is_switched_off_and_on(three: Cli) -> None:
    assert "balance is on" in three("cluster", "balance").stderr
    assert "nothing changed" in three("cluster", "balance", "off", "--dry-run").stderr
    assert rows(three, "cluster", "status")["balancing"]
    assert "repair and drains only" in three("cluster", "balance", "off").stderr
    assert re.search(r"(?m)^Balance +off$", three("cluster", "status").stdout)
    three("cluster", "balance", "on")
    assert rows(three, "cluster", "status")["balancing"]


def test_only_a_move_that_is_under_way_is_cancelled(three: Cli) -> None:
    assert "is not moving" in three.any("partition", "move", "orders", "0", "--cancel").output
    absent = three.any("partition", "move", "orders", "9", "--cancel")
    assert (absent.exit_code, "no partition 9" in absent.output) == (4, True)
    for wrong in ((), ("--to", "1", "--cancel"), ("--to", ",")):
        assert three.any("partition", "move", "orders", "0", *wrong).exit_code == 2


def test_an_upgrade_without_anything_new_does_nothing(three: Cli) -> None:
    assert "nothing to do" in three("cluster", "upgrade").stderr


def test_partitions_are_chosen_by_state_broker_and_topic(three: Cli) -> None:
    assert len(rows(three, "partition", "list")) == 2
    assert len(rows(three, "partition", "list", "--internal", "--node", "1")) == 10
    assert rows(three, "partition", "list", "--state", "leaderless") == []
    assert "none of them is leader" in three("partition", "list", "--state", "leaderless").stderr
    assert "keeps no replica" in three("node", "quarantine", "1").stderr
    assert three("partition", "list", "orders", "-o", "name").stdout == "orders 0\norders 1\n"


def test_top_looks_once(three: Cli) -> None:
    shown = three("top", "--once").stdout
    assert "healthy" in shown.splitlines()[0]
    assert re.search(r"(?m)^orders +2 +0", shown)
    value = json.loads(three("top", "--once", "-o", "ndjson").stdout)
    assert [node["connections"] > 0 for node in value["nodes"]] == [True] * 3


def test_top_and_status_show_a_cluster_that_lost_most_of_its_brokers() -> None:
    with cluster(3) as running:
        running.kill(0)
        running.kill(1)
        cli = Cli(running.members[2].address)
        assert wait_until(lambda: "no leader " in cli.any("cluster", "health").stdout)
        shown = cli("top", "--once").stdout
        assert "groups: ordered groups are left out: 8 coordinators without a leader" in shown
        assert re.search(r"Metadata +led by nobody", cli("cluster", "status").stdout)


# ----- rows


def status(**changes: object) -> ClusterStatusReply:
    made = {
        "cluster": "c0ffee", "node": 1, "feature_level": 1, "feature_max": 1, "partitions": 4,
        "leaderless": 0, "under_replicated": 0, "moving": 0,
        "metadata": MetadataStatus(leader=1, term=3, voters=[1, 2, 3], learners=[4]),
        "nodes": [node(1), node(2), node(3), node(4)],
    }  # fmt: skip
    return ClusterStatusReply(**{**made, **changes})  # type: ignore[arg-type]  # names and types fit


def node(
    id_: int, state: str = "active", *, alive: bool = True, full: bool = False, stuck: int = 0,
    parted_at: int = 0, diverged: bool = False,
) -> NodeStatus:  # fmt: skip
    return NodeStatus(
        id=id_, address=f"n{id_}:7400", host=f"h{id_}", state=state, alive=alive, answered=alive,
        version="1.0" if alive else "", full=full, stuck=stuck, parted_at=parted_at,
        diverged=diverged,
    )  # fmt: skip


def test_a_healthy_cluster_has_no_problems() -> None:
    assert problems(status()) == []
    after = MetadataStatus(leader=1, term=3, voters=[1, 3, 4], learners=[])
    nodes = [node(1), node(2, "removed", alive=False), node(3), node(4)]
    assert problems(status(metadata=after, nodes=nodes)) == []


def test_the_doctor_fails_for_each_problem_of_the_cluster() -> None:
    away = status(under_replicated=3, nodes=[node(1), node(2, alive=False), node(3)])
    assert [(check.grade, check.found.split(":")[0]) for check in cluster_checks(away)] == [
        (Grade.FAIL, "broker away"), (Grade.FAIL, "copies missing"),
    ]  # fmt: skip
    (well,) = cluster_checks(status())
    assert (well.grade, well.found) == (Grade.OK, "healthy (4 brokers)")


def test_every_problem_is_named() -> None:
    nobody = MetadataStatus(leader=0, term=3, voters=[1, 2, 3], learners=[])
    found = problems(
        status(metadata=nobody, awaited=["n5:7400"], leaderless=1, under_replicated=3,
               nodes=[node(1, "draining", stuck=4), node(2, alive=False), node(3, full=True),
                      node(4, parted_at=9), node(5, parted_at=9, diverged=True)])
    )  # fmt: skip
    assert [(problem["problem"], problem["node"], problem["count"]) for problem in found] == [
        ("no metadata leader", None, None), ("not joined", None, None), ("drain stuck", 1, 4),
        ("broker away", 2, None), ("disk full", 3, None), ("disagreement", 4, None),
        ("diverged", 5, None), ("no leader", None, 1), ("copies missing", None, 3),
    ]  # fmt: skip
    assert all(len(f"{p['problem']:<14}  {p['detail']}") < 80 for p in found)
    assert [problem["problem"] for problem in problems(status(cluster=""))] == ["not formed"]


def test_it_is_not_healthy_while_the_metadata_counts_on_a_broker_that_is_gone() -> None:
    four = MetadataStatus(leader=1, term=3, voters=[1, 2, 3], learners=[4])
    nodes = [node(1), node(2), node(3, "replaced", alive=False), node(4)]
    (found,) = problems(status(metadata=four, nodes=nodes))
    assert (found["problem"], found["count"]) == ("few voters", 1)
    one = MetadataStatus(leader=1, term=3, voters=[1], learners=[2, 3])
    (found,) = problems(status(metadata=one, nodes=[node(1), node(2), node(3)]))
    assert (found["problem"], found["count"]) == ("few voters", 2)
    assert len(f"{found['problem']:<14}  {found['detail']}") < 80
    assert problems(status(metadata=one, nodes=[node(1), node(2)])) == []


def test_a_brokers_row_says_whether_it_is_away_and_how_it_votes() -> None:
    whole = status()
    states = [
        (node_row(whole, each)["state"], node_row(whole, each)["metadata"])
        for each in (node(1), node(2, alive=False), node(4), node(5, "replaced", alive=False))
    ]
    assert states == [
        ("active", "leader"), ("active, away", "voter"), ("active", "learner"), ("replaced", "-"),
    ]  # fmt: skip


def test_a_partitions_row_names_only_copies_that_lack_something() -> None:
    state = PartitionState(
        topic="orders", partition=0, group=9, leader=1, term=2, replicas=[1, 2, 3],
        members=[1, 2, 3], learners=[], behind={2: 0, 3: -1, 4: 17}, moving=False, state="ok",
    )  # fmt: skip
    assert partition_row(state)["behind"] == {"3": "away", "4": 17}


def test_a_move_that_can_not_go_on_is_listed_among_the_moves() -> None:
    state = PartitionState(
        topic="orders", partition=0, group=9, leader=1, term=2, replicas=[1, 2, 4],
        members=[1, 2, 3], learners=[4], behind={4: -1}, moving=True, state="under-replicated",
    )  # fmt: skip
    chosen = [word for word in ("ok", "moving", "under-replicated") if is_of(state, word)]
    assert chosen == ["moving", "under-replicated"]
    assert partition_row(state)["moving"]


def test_a_cancelled_move_goes_back_to_where_the_partition_still_is() -> None:
    state = PartitionState(
        topic="orders", partition=0, group=9, leader=1, term=2, replicas=[3, 4, 1],
        members=[1, 2, 3], learners=[4], behind={}, moving=True, state="moving",
    )  # fmt: skip
    assert settled_on(state) == [3, 1, 2]


class Told:
    """A client whose brokers tell these replicas of a partition, one answer after the other."""

    def __init__(self, *answers: list[int]) -> None:
        self.admin = self
        self.answers = list(answers)

    def list_partitions(self, topic: str) -> list[PartitionState]:
        replicas = self.answers.pop(0)
        return [PartitionState(
            topic=topic, partition=0, group=9, leader=1, term=2, replicas=replicas,
            members=sorted(replicas), learners=[], behind={}, moving=False, state="ok",
        )]  # fmt: skip


def test_a_move_is_waited_for_although_a_broker_has_not_heard_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wait(told: Told) -> None:
        client, before, after = cast("Client", told), [1, 2, 3], [4, 2, 3]
        wait_for_partition(Settings(), client, ("t", 0), 60, replicas=after, before=before)

    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0)
    late = Told([1, 2, 3], [1, 2, 3], [4, 2, 3])
    wait(late)
    assert not late.answers
    with pytest.raises(Failure, match="sent to"):
        wait(Told([2, 3, 5]))
    monkeypatch.setattr(waiting, "LATE_SECONDS", 0)
    with pytest.raises(Failure, match="sent to"):
        wait(Told([1, 2, 3]))


def test_top_names_groups_whose_lag_is_not_known() -> None:
    known = GroupSummary(group="b", mode="shared", members=0, lag=0, topics=["t"], generation=0)
    partial = GroupSummary(
        group="g", mode="shared", members=0, lag=0, topics=["t"], generation=0, missing=2
    )
    assert left_out(ListGroupsReply(groups=[known])) == []
    (problem,) = left_out(ListGroupsReply(groups=[known, partial]))
    assert problem["detail"] == "the lag leaves out what has no leader: g (2 partitions)"


def test_top_says_on_its_first_line_that_nobody_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _say_no_answer(Settings(), LeaderUnknown("x" * 500), live=True)
    shown = capsys.readouterr().out
    assert shown.startswith("no answer: xxx")
    assert len(shown) <= 80
    assert "\n" not in shown
    _say_no_answer(Settings(), LeaderUnknown("nobody leads"), live=False)
    assert capsys.readouterr().err == "no answer: nobody leads\n"


def test_top_fits_into_80_columns_and_the_height_of_the_terminal() -> None:
    rows = [node_row(status(), node(n)) for n in range(1, 40)]
    topics = [
        {"topic": "t" * 100, "partitions": 4, "records_per_second": 1_234_567,
         "records": 9_876_543_210, "size_bytes": 1 << 44}
    ]  # fmt: skip
    groups = [{"group": "g" * 90, "mode": "shared", "topics": ["t" * 90], "members": 3, "lag": 9}]
    found = Look(0, "c0ffee", [], rows, topics, groups)
    assert all(len(line) <= 80 for line in render(found, 80, None))
    assert len(render(found, 80, 24)) == 24


def test_what_is_typed_next_is_never_cut_at_80_columns() -> None:
    path = "quarantine/1795277878388022.10"
    shown = [column for column in QUARANTINE if not column.wide]
    kept = {"topic": "t" * 90, "partition": 1023, "bytes": 1 << 30, "path": path,
            "left_seconds": 86_399}  # fmt: skip
    lines = render_table([kept], shown, width=80)
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].endswith(path)
    fate = {"topic": "dead.orders.billing", "partition": 3, "outcome": "kept", "entries": 18_845,
            "unproven": 0, "others": [1, 6]}  # fmt: skip
    lines = render_table([fate], [column for column in ROWS if not column.wide], width=80)
    assert lines[1].startswith("dead.orders.billing ")


def test_what_a_removal_leaves_without_a_majority_is_named() -> None:
    def lost(others: list[int], alive: list[int]) -> Bereft:
        return Bereft(topic="t", partition=4, others=others, alive=alive)

    lines = list(bereft_lines([lost([], []), lost([2], [2]), lost([1, 2], [1])]))
    assert lines == [
        "t/4 loses its only copy",
        "t/4 has no majority any more: the other copy is on node 2",
        "t/4 has no majority until node 2 is back",
    ]
    assert list(bereft_lines([lost([], [])] * 23))[20:] == ["3 more partitions without a majority"]


def test_a_removal_that_leaves_partitions_without_a_leader_is_asked_twice(
    three: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    three("topic", "create", "single", "-p", "3", "-r", "1")
    assert "loses its only copy" in three("cluster", "remove", "3", "--force", "--dry-run").stderr
    told: list[str] = []

    def confirm(settings: Settings, action: str, *, yes: bool) -> None:
        told.append(action)
        if len(told) == 2:
            raise Failure("nothing was changed", code=Exit.REFUSED)

    monkeypatch.setattr(Settings, "confirm", confirm)
    refused = three.any("cluster", "remove", "3", "--force")
    assert refused.exit_code == 6
    assert told[0].startswith("remove node 3")
    assert re.fullmatch(r"leave \d partitions? without a leader", told[1])
    monkeypatch.undo()
    three("topic", "delete", "single", "--yes")
