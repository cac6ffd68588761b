"""`penstock cluster`: form a cluster and look after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.balance import balance
from penstock.cli.cluster_rows import (
    NODES,
    RECOVER,
    Problem,
    bereft_lines,
    find_node,
    node_row,
    problems,
    status_of,
    versions,
)
from penstock.cli.commands import Noun
from penstock.cli.exits import Exit
from penstock.cli.output import print_fields, print_object, print_rows, print_table
from penstock.cli.params import COUNT, SECONDS, dry_run_option, node_argument, yes_option
from penstock.cli.recover import recover
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.units import count_of, show_time
from penstock.cli.waiting import wait_for_empty, wait_option, within_option
from penstock.errors import PenstockError, PreconditionFailed

if TYPE_CHECKING:
    from penstock.protocol.cluster import ClusterStatusReply, SetNodeStateReply


INIT_FORMED: Final = "`penstock cluster status` shows it. Without --join a broker is one by itself."
INIT_WAITS: Final = "Nothing was changed: say it again when that is settled."


@click.group("cluster", cls=Noun)
def cluster() -> None:
    """Form a cluster, see how it is, grow and shrink it."""


@cluster.command(
    "init",
    examples="penstock serve --data a --listen n1:7400 --join n1:7400,n2:7400,n3:7400\n"
    "penstock cluster init -s n1:7400      (once, to any one of them)",
)
@click.option("--force", is_flag=True, help="Also while a broker that is to join can't be reached.")
@click.pass_obj
def init(settings: Settings, force: bool) -> None:
    """Form a cluster of brokers that were started with --join.

    It is said once, to one of them: the others join by themselves. A broker that
    was started without --join needs none of this.
    """
    with settings.connect() as client:
        try:
            reply = client.admin.init_cluster(force=force)
        except PreconditionFailed as error:
            hint = INIT_FORMED if "cluster" in error.detail else INIT_WAITS
            raise Failure(str(error), code=Exit.REFUSED, hint=hint) from error
    value = {"cluster": reply.cluster, "node": reply.node}

    def show() -> None:
        print_fields([("cluster", reply.cluster), ("node", reply.node)])

    print_object(value, settings.output, name="cluster", show=show)


# ----- looking


@cluster.command("status", examples="penstock cluster status\npenstock cluster status -o json")
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the cluster and its brokers, as the broker that answers sees them."""
    with settings.connect() as client:
        reply = status_of(client)
    wrong = problems(reply)
    value = {**_summary(reply), "problems": wrong}

    def show() -> None:
        counted = f"{value['partitions']:,} and {reply.internal:,} internal"
        for count, words in (
            (reply.leaderless, "without a leader"),
            (reply.under_replicated, "under-replicated"),
            (reply.moving, "moving"),
        ):
            counted += f", {count:,} {words}" if count else ""
        print_fields(
            [
                ("Cluster", reply.cluster),
                ("Health", count_of(len(wrong), "problem") if wrong else "healthy"),
                ("Metadata", _metadata(reply)),
                ("Partitions", counted),
                ("Versions", versions(reply)),
                ("Feature level", f"{reply.feature_level} of {reply.feature_max}"),
                *([] if reply.balancing else [("Balance", "off")]),
            ]
        )
        if reply.nodes:
            click.echo()
            print_table(value["nodes"], NODES, wide=settings.output == "wide")
        if wrong:
            click.echo()
            _print_problems(wrong)

    print_object(value, settings.output, name="cluster", show=show)


def _summary(reply: ClusterStatusReply) -> dict[str, Any]:
    return {
        "cluster": reply.cluster,
        "answered_by": reply.node,
        "metadata_leader": reply.metadata.leader,
        "metadata_term": reply.metadata.term,
        "metadata_voters": reply.metadata.voters,
        "metadata_learners": reply.metadata.learners,
        "feature_level": reply.feature_level,
        "feature_max": reply.feature_max,
        "balancing": reply.balancing,
        "partitions": reply.partitions - reply.internal,
        "internal_partitions": reply.internal,
        "leaderless": reply.leaderless,
        "bereft": reply.bereft,
        "under_replicated": reply.under_replicated,
        "moving": reply.moving,
        "nodes": [node_row(reply, node) for node in reply.nodes],
    }


def _print_problems(wrong: list[Problem]) -> None:
    """One line each, or more where they are long: what is wrong is never cut."""
    print_fields([(problem["problem"], problem["detail"]) for problem in wrong])


def _metadata(reply: ClusterStatusReply) -> str:
    metadata = reply.metadata
    heard = {node.id for node in reply.nodes if node.alive}
    leader = f"node {metadata.leader}" if metadata.leader in heard else "nobody"
    words = f"led by {leader}, voters {metadata.voters}"
    return words + (f", learners {metadata.learners}" if metadata.learners else "")


@cluster.command("members", examples="penstock cluster members -o wide")
@click.pass_obj
def members(settings: Settings) -> None:
    """List the brokers; the same as `penstock node list`."""
    list_nodes(settings)


def list_nodes(settings: Settings) -> None:
    """Print the brokers of the cluster."""
    with settings.connect() as client:
        reply = status_of(client)
    rows = [node_row(reply, node) for node in reply.nodes]
    print_rows(rows, NODES, settings.output, name=lambda row: str(row["node"]))


@cluster.command(
    "health",
    examples="penstock cluster health\npenstock cluster health --watch --exit-when-healthy",
)
@click.option("--watch", is_flag=True, help="Go on, and tell each change, until Ctrl-C.")
@click.option("--exit-when-healthy", is_flag=True, help="With --watch: end as soon as all is well.")
@click.option(
    "--every",
    type=SECONDS,
    metavar="DURATION",
    default="1s",
    show_default=True,
    help="How often to look, with --watch.",
)
@click.pass_context
def health(ctx: click.Context, watch: bool, exit_when_healthy: bool, every: float) -> None:
    """Tell what is wrong; the exit code is 10 if anything is.

    With 6, as for all commands that need a cluster, if the broker that answers
    belongs to none yet: before `penstock cluster init`, or until it has joined.
    """
    settings = ctx.ensure_object(Settings)
    if exit_when_healthy and not watch:
        raise click.UsageError("--exit-when-healthy goes with --watch", ctx)
    with settings.connect() as client:
        if watch:
            _watch(settings, client.admin.cluster_status, every, exit_when_healthy)
            return
        reply = client.admin.cluster_status()
    wrong = problems(reply)
    if settings.output in ("table", "wide"):
        _print_problems(wrong)
    else:
        print_rows(wrong, (), settings.output, name="problem")
    if not wrong:
        settings.say("healthy")
    unhealthy = Exit.UNHEALTHY if reply.cluster else Exit.REFUSED
    ctx.exit(unhealthy if wrong else Exit.OK)


def _watch(
    settings: Settings,
    ask: Callable[[], ClusterStatusReply],
    every: float,
    exit_when_healthy: bool,
) -> None:
    before: list[Problem] | None = None
    while True:
        try:
            wrong = problems(ask())
        except PenstockError as error:
            wrong = [{"problem": "no answer", "detail": str(error), "node": None, "count": None}]
        if wrong != before:
            before = wrong
            rows = wrong or [{"problem": "healthy", "detail": ""}]
            if settings.output in ("table", "wide"):
                when = show_time(wall_us())[11:19]
                for row in rows:
                    click.echo(f"{when}Z  {row['problem']:<14}  {row['detail']}".rstrip())
            else:
                print_rows(rows, (), settings.output, name="problem")
        if exit_when_healthy and not wrong:
            return
        time.sleep(every)


# ----- changing


def _say_state(settings: Settings, reply: SetNodeStateReply, words: str, *, dry_run: bool) -> None:
    told = f"node {reply.node} {words} (it holds {count_of(reply.replicas, 'replica')}"
    told += f", leads {reply.leaders:,})"
    settings.say(f"dry run, nothing changed: {told}" if dry_run else told)


@cluster.command(
    "drain",
    outputs=(),
    examples="penstock cluster drain 3 --dry-run\npenstock cluster drain n3:7400 --wait",
)
@node_argument
@dry_run_option
@wait_option
@within_option
@click.pass_obj
def drain(settings: Settings, node: str, dry_run: bool, wait: bool, within: float) -> None:
    """Move everything off a broker; it takes nothing new.

    Leads go at once, replicas one after the other. With --wait the program ends
    when the broker is empty: then it can be stopped, and removed.
    """
    with settings.connect() as client:
        id_ = find_node(client, node)
        reply = client.admin.drain_node(id_, dry_run=dry_run)
        _say_state(settings, reply, "is draining", dry_run=dry_run)
        if reply.stuck:
            stuck = count_of(reply.stuck, "replica")
            settings.warn(f"{stuck} can't go anywhere: add a broker, the others have them all")
        if wait and not dry_run:
            wait_for_empty(settings, client, id_, within)
            settings.say(f"node {id_} is empty")


@cluster.command("undrain", outputs=(), examples="penstock cluster undrain 3")
@node_argument
@dry_run_option
@click.pass_obj
def undrain(settings: Settings, node: str, dry_run: bool) -> None:
    """Have a broker that was drained take part again."""
    with settings.connect() as client:
        reply = client.admin.undrain_node(find_node(client, node), dry_run=dry_run)
    _say_state(settings, reply, "takes part", dry_run=dry_run)


@cluster.command(
    "remove",
    outputs=(),
    examples="penstock cluster remove 3\npenstock cluster remove 3 --force --yes",
)
@node_argument
@click.option("--force", is_flag=True, help="Although it holds replicas: they are made anew.")
@yes_option
@dry_run_option
@click.pass_obj
def remove(settings: Settings, node: str, force: bool, yes: bool, dry_run: bool) -> None:
    """End a broker's membership for ever.

    Drain it first, and stop it. With --force a broker that is lost is removed
    with all that it holds: copies are made anew from the other replicas. Partitions
    that have no majority without it are named, and that is asked apart.
    """
    with settings.connect() as client:
        id_ = find_node(client, node)
        checked = client.admin.remove_node(id_, force=force, dry_run=True)
        for line in bereft_lines(checked.bereft):
            settings.warn(line)
        if not dry_run:
            held = count_of(checked.replicas, "replica")
            settings.confirm(f"remove node {id_}, which holds {held}", yes=yes)
            if checked.bereft:
                lost = count_of(len(checked.bereft), "partition")
                settings.confirm(f"leave {lost} without a leader", yes=yes)
            client.admin.remove_node(id_, force=force)
    _say_state(settings, checked, "is removed", dry_run=dry_run)
    if any(lost.others for lost in checked.bereft):
        settings.say(f"`{RECOVER} TOPIC PARTITION` goes on with a copy that is left")


def _check_all_there(status: ClusterStatusReply, *, dry_run: bool) -> None:
    away = [node for node in status.nodes if node.state == "active" and not node.alive]
    if away and not dry_run:
        named = ", ".join(f"node {node.id} at {node.address}" for node in away)
        raise Failure(
            f"not all brokers are there, so their versions are not known: {named}",
            code=Exit.REFUSED,
            hint="Start them first, or `penstock cluster remove` those that are lost.",
        )


@cluster.command(
    "upgrade",
    outputs=(),
    examples="penstock cluster upgrade --dry-run\npenstock cluster upgrade --yes",
)
@click.option("--level", type=COUNT, metavar="N", help="Not the highest one, but this.")
@yes_option
@dry_run_option
@click.pass_obj
def upgrade(settings: Settings, level: int | None, yes: bool, dry_run: bool) -> None:
    """Allow what only the newer version of all brokers knows.

    It is the last step of an upgrade, when every broker runs the new version; it
    can't be taken back: older brokers can't take part from then on.
    """
    with settings.connect() as client:
        status = status_of(client)
        checked = client.admin.raise_feature_level(level or 0, dry_run=True)
        if checked.level == checked.before:
            settings.say(f"the feature level is {checked.level} already; nothing to do")
            return
        _check_all_there(status, dry_run=dry_run)
        words = f"feature level {checked.before} -> {checked.level}"
        if not dry_run:
            settings.confirm(f"raise the {words} for ever", yes=yes)
            client.admin.raise_feature_level(checked.level)
    settings.say(f"dry run, nothing changed: {words}" if dry_run else words)


cluster.add_command(balance)
cluster.add_command(recover)
