"""`penstock partition`: where partitions are, and moving them and their leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from penstock.cli.cluster_rows import (
    COPIES,
    PARTITIONS,
    copy_row,
    find_node,
    of_node,
    partition_row,
    pick_node,
    status_of,
)
from penstock.cli.commands import Noun
from penstock.cli.exits import Exit
from penstock.cli.output import print_rows
from penstock.cli.params import (
    NUMBER,
    complete_nodes,
    complete_topics,
    dry_run_option,
    yes_option,
)
from penstock.cli.settings import Failure, Settings
from penstock.cli.waiting import wait_for_partition, wait_option, within_option
from penstock.errors import PartitionNotFound

if TYPE_CHECKING:
    from penstock.protocol.cluster import (
        ClusterStatusReply,
        PartitionState,
        RecoverPartitionReply,
    )
    from penstock.sync import Client

STATES: Final = ("ok", "moving", "under-replicated", "leaderless")

topic_argument = click.argument("topic", shell_complete=complete_topics)
number_argument = click.argument("partition", type=NUMBER)


@click.group("partition", cls=Noun)
def partition() -> None:
    """See where partitions are, move them, recover them."""


@partition.command(
    "list",
    examples="penstock partition list\npenstock partition list orders -o wide\n"
    "penstock partition list --state under-replicated --internal",
)
@click.argument("topic", required=False, shell_complete=complete_topics)
@click.option("--internal", is_flag=True, help="Also what the cluster keeps for itself.")
@click.option("--state", type=click.Choice(STATES), metavar="STATE", help=f"{', '.join(STATES)}.")
@click.option(
    "--node", metavar="NODE", shell_complete=complete_nodes, help="What a broker has to do with."
)
@click.pass_obj
def list_partitions(
    settings: Settings, topic: str | None, internal: bool, state: str | None, node: str | None
) -> None:
    """List partitions: leader, replicas, and how many entries each copy lacks."""
    with settings.connect() as client:
        states = client.admin.list_partitions(topic, internal=internal)
        if node is not None:
            states = of_node(states, find_node(client, node))
    rows = [partition_row(each) for each in states if is_of(each, state)]
    print_rows(
        rows, PARTITIONS, settings.output, name=lambda row: f"{row['topic']} {row['partition']}"
    )
    if not rows:
        none = "There is no partition yet. Make a topic: penstock topic create NAME"
        none = f"no partition has to do with node {node}" if node is not None else none
        settings.say(f"none of them is {state}" if state else none)


def is_of(partition: PartitionState, state: str | None) -> bool:
    """Whether a partition is to be listed; one may move and lack a copy too, or a leader."""
    return state in (None, partition.state) or (state == "moving" and partition.moving)


@partition.command(
    "move",
    outputs=(),
    examples="penstock partition move orders 0 --to 1,2,4 --dry-run\n"
    "penstock partition move orders 0 --to 4,1,2 --wait\n"
    "penstock partition move orders 0 --cancel",
)
@topic_argument
@number_argument
@click.option("--to", metavar="NODES", help="Brokers, the preferred leader first.")
@click.option("--cancel", is_flag=True, help="Leave it where it was before the present move.")
@click.option("--force", is_flag=True, help="Also to a broker that is away, drained or full.")
@dry_run_option
@wait_option
@within_option
@click.pass_obj
def move(
    settings: Settings,
    topic: str,
    partition: int,
    to: str | None,
    cancel: bool,
    force: bool,
    dry_run: bool,
    wait: bool,
    within: float,
) -> None:
    """Move a partition to other brokers, without a pause for its clients.

    A move that only makes brokers more even may be made again after --cancel,
    unless `penstock cluster balance off` comes first.
    """
    names = [name.strip() for name in (to or "").split(",") if name.strip()]
    if bool(names) == cancel:
        raise click.UsageError("say where to: --to NODES, or else --cancel")
    with settings.connect() as client:
        if cancel:
            nodes = _before_the_move(client, topic, partition)
        else:
            status = status_of(client)
            nodes = [pick_node(status, name) for name in names]
            _check_alive(settings, status, nodes, force=force or dry_run)
        reply = client.admin.move_partition(topic, partition, nodes, dry_run=dry_run)
        words = f"{topic}/{partition}: {reply.before} -> {reply.replicas}"
        settings.say(f"dry run, nothing changed: {words}" if dry_run else words)
        if wait and not dry_run:
            place, after = (topic, partition), reply.replicas
            wait_for_partition(settings, client, place, within, replicas=after, before=reply.before)
            settings.say(f"{topic}/{partition} is there")


def _before_the_move(client: Client, topic: str, partition: int) -> list[int]:
    """Where a partition that moves is still, as it was settled last.

    Raises:
        PartitionNotFound: there is none.
        Failure: it does not move.
    """
    state = _state_of(client, topic, partition)
    if not state.moving:
        raise Failure(f"{topic}/{partition} is not moving", code=Exit.REFUSED)
    return settled_on(state)


def _state_of(client: Client, topic: str, partition: int) -> PartitionState:
    """Where a partition is.

    Raises:
        PartitionNotFound: there is none.
    """
    for state in client.admin.list_partitions(topic):
        if state.partition == partition:
            return state
    raise PartitionNotFound(f"topic {topic} has no partition {partition}")


def settled_on(state: PartitionState) -> list[int]:
    """Where a partition was before its move, what stays of the wish for a leader first."""
    kept = [node for node in state.replicas if node in state.members]
    return kept + [node for node in state.members if node not in kept]


def _check_alive(
    settings: Settings, status: ClusterStatusReply, nodes: list[int], *, force: bool
) -> None:
    """A copy on a broker that takes none would be missing until somebody does something."""
    for node in status.nodes:
        if node.id not in nodes:
            continue
        away = "is away" if not node.alive else ""
        full = "has a full disk" if node.full else ""
        wrong = away or full or (f"is {node.state}" if node.state != "active" else "")
        if wrong and not force:
            raise Failure(
                f"node {node.id} {wrong}: the copy there would be missing",
                code=Exit.REFUSED,
                hint="Name another broker, or add --force.",
            )
        if wrong:
            settings.warn(f"node {node.id} {wrong}: the copy there is missing until it is back")


@partition.command(
    "transfer", outputs=(), examples="penstock partition transfer orders 0 --to 2 --wait"
)
@topic_argument
@number_argument
@click.option(
    "--to",
    required=True,
    metavar="NODE",
    shell_complete=complete_nodes,
    help="One of its replicas.",
)
@dry_run_option
@wait_option
@within_option
@click.pass_obj
def transfer(
    settings: Settings,
    topic: str,
    partition: int,
    to: str,
    dry_run: bool,
    wait: bool,
    within: float,
) -> None:
    """Hand the lead of a partition to another of its replicas."""
    with settings.connect() as client:
        node = find_node(client, to)
        reply = client.admin.transfer_leader(topic, partition, node, dry_run=dry_run)
        words = f"{topic}/{partition}: leader {reply.before} -> {reply.leader}"
        if reply.before == reply.leader:
            words = f"{topic}/{partition} is led by node {node} already"
        settings.say(f"dry run, nothing changed: {words}" if dry_run else words)
        if wait and not dry_run:
            wait_for_partition(settings, client, (topic, partition), within, leader=node)
            settings.say(f"{topic}/{partition} is led by node {node}")


@partition.command(
    "recover",
    examples="penstock partition recover orders 0 --dry-run\n"
    "penstock partition recover orders 0 --from n2:7400",
)
@topic_argument
@number_argument
@click.option(
    "--from",
    "node",
    metavar="NODE",
    shell_complete=complete_nodes,
    help="Whose copy; needed if several are left.",
)
@yes_option
@dry_run_option
@wait_option
@within_option
@click.pass_obj
def recover(
    settings: Settings,
    topic: str,
    partition: int,
    node: str | None,
    yes: bool,
    dry_run: bool,
    wait: bool,
    within: float,
) -> None:
    """Go on with one copy when most copies of a partition are lost for ever.

    First the lost brokers are removed: penstock cluster remove NODE --force. What
    only they had is lost. If several copies are left, take the one with the highest
    last term, and of these that with the highest last index: it has all that any of
    them has. Other copies are made anew from it.
    """
    with settings.connect() as client:
        id_ = find_node(client, node) if node is not None else None
        _check_leaderless(client, topic, partition)
        plan = client.admin.recover_partition(topic, partition, id_, dry_run=True)
        print_rows([copy_row(plan, copy) for copy in plan.copies], COPIES, settings.output,
                   name=lambda row: str(row["node"]))  # fmt: skip
        place = f"{topic}/{partition}"
        _say_plan(settings, topic, partition, plan)
        if dry_run:
            settings.say("dry run, nothing changed")
            return
        if not plan.node:
            raise Failure(
                f"several copies of {place} are left",
                code=Exit.REFUSED,
                hint="Name the one to go on with: --from NODE.",
            )
        settings.confirm(f"go on with node {plan.node} alone, and give up the rest", yes=yes)
        client.admin.recover_partition(topic, partition, plan.node)
        settings.say(f"{place} goes on with node {plan.node}; the other copies are made anew")
        if wait:
            wait_for_partition(settings, client, (topic, partition), within, leader=plan.node)
            settings.say(f"{place} can be written and read")


def _check_leaderless(client: Client, topic: str, partition: int) -> None:
    """What is led has a majority.

    Raises:
        PartitionNotFound: there is none.
        Failure: it has a leader.
    """
    leader = _state_of(client, topic, partition).leader
    if leader:
        raise Failure(
            f"{topic}/{partition} is led by node {leader}: nothing is to be recovered",
            code=Exit.REFUSED,
        )


def _say_plan(settings: Settings, topic: str, partition: int, plan: RecoverPartitionReply) -> None:
    """What may be lost, and what groups that have read further are to be told."""
    if plan.lost:
        settings.say(f"lost for ever: the copies of {topic}/{partition} on nodes {plan.lost}")
    if plan.complete:
        settings.say(f"node {plan.node} has every record that was acknowledged by a quorum")
    elif plan.node:
        settings.warn(
            f"node {plan.node} may lack what was acknowledged\n"
            "since it was last in step: that is lost"
        )
        if not topic.startswith("__"):
            _say_how_to_seek(settings, topic, partition, plan)


def _say_how_to_seek(
    settings: Settings, topic: str, partition: int, plan: RecoverPartitionReply
) -> None:
    end = next((copy.end_offset for copy in plan.copies if copy.node == plan.node), 0)
    settings.warn(
        f"ordered groups that had read beyond {end:,} would skip new\n"
        "records up to where they were; afterwards, for each (`penstock group lag`):\n"
        f"penstock group seek {topic} GROUP --partition {partition}={end} --yes"
    )
