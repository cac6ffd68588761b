"""`penstock node`: the brokers of the cluster, and one of them closely."""

from __future__ import annotations

import click

from penstock.cli.cluster import list_nodes
from penstock.cli.cluster_rows import (
    PARTITIONS,
    find_node,
    node_row,
    of_node,
    partition_row,
    pick_node,
    status_of,
)
from penstock.cli.commands import Noun
from penstock.cli.exits import Exit
from penstock.cli.output import Column, print_fields, print_object, print_rows, print_table
from penstock.cli.params import node_argument
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.status import flatten, show_figure

_LINKS = (
    Column("node", "PEER", "number"),
    Column("address", "ADDRESS", spare=True),
    Column("connected", "CONNECTED"),
    Column("heard_seconds_ago", "HEARD", "ago"),
    Column("unsent_bytes", "UNSENT", "size"),
    Column("dropped_messages", "DROPPED", "number"),
    Column("refused", "REFUSED", spare=True),
)
QUARANTINE = (
    Column("topic", "TOPIC", spare=True),
    Column("partition", "PARTITION", "number"),
    Column("bytes", "SIZE", "size"),
    Column("left_seconds", "KEPT FOR", "seconds"),
    Column("path", "DIRECTORY"),
    Column("dropped_at_us", "DROPPED", "time", wide=True),
    Column("until_us", "KEPT UNTIL", "time", wide=True),
    Column("group", "GROUP", "number", wide=True),
)


@click.group("node", cls=Noun)
def node() -> None:
    """List brokers, describe one, see what it keeps."""


@node.command("list", examples="penstock node list -o wide\npenstock node list -o name")
@click.pass_obj
def list_all(settings: Settings) -> None:
    """List the brokers of the cluster."""
    list_nodes(settings)


@node.command("describe", examples="penstock node describe 2\npenstock node describe n2:7400")
@node_argument
@click.pass_obj
def describe(settings: Settings, node: str) -> None:
    """Show a broker: its figures, and the partitions that it has to do with."""
    with settings.connect() as client:
        status = status_of(client)
        id_ = pick_node(status, node)
        (found,) = [each for each in status.nodes if each.id == id_]
        states = of_node(client.admin.list_partitions(internal=True), id_)
        reply = client.admin.status(id_) if found.alive else None
    figures = dict(flatten(reply.figures)) if reply is not None and reply.node == id_ else {}
    figures.pop("quarantine", None)  # `node quarantine` shows it
    links = figures.get("peers", [])
    row = node_row(status, found)
    partitions = [partition_row(each) for each in states]
    value = {**row, "figures": figures, "partitions": partitions}

    def show() -> None:
        titles = [(title.replace("_", " ").capitalize(), it) for title, it in row.items()]
        others = sorted((name, each) for name, each in figures.items() if name != "peers")
        print_fields([*titles, *((name, show_figure(name, each)) for name, each in others)])
        if links:
            click.echo()
            print_table(links, _LINKS, wide=settings.output == "wide")
        if partitions:
            click.echo()
            print_table(partitions, PARTITIONS, wide=settings.output == "wide")

    print_object(value, settings.output, name="node", show=show)


@node.command(
    "quarantine",
    examples="penstock node quarantine n2:7400\npenstock node quarantine 2 -o json",
)
@node_argument
@click.pass_obj
def quarantine(settings: Settings, node: str) -> None:
    """List the replicas that a broker dropped and still keeps for a while.

    Each directory, below the broker's data directory, can be copied elsewhere and
    read with `penstock log inspect` and `penstock log verify`.
    """
    with settings.connect() as client:
        id_ = find_node(client, node)
        reply = client.admin.status(id_)
    if reply.node != id_:
        raise Failure(f"broker {id_} does not answer", code=Exit.UNREACHABLE)
    kept = reply.figures.get("quarantine", [])
    assert isinstance(kept, list), "a broker tells a list"
    now = wall_us()
    rows = [{**row, "left_seconds": max(0.0, (row["until_us"] - now) / 1e6)} for row in kept]
    print_rows(rows, QUARANTINE, settings.output, name="path")
    if not kept:
        settings.say(f"node {id_} keeps no replica that went elsewhere")
