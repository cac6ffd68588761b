"""`penstock cluster`: form a cluster and look after it."""

from __future__ import annotations

import click

from penstock.cli.commands import Noun
from penstock.cli.output import print_fields, print_object
from penstock.cli.settings import Settings


@click.group("cluster", cls=Noun)
def cluster() -> None:
    """Form a cluster."""


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
        reply = client.admin.init_cluster(force=force)
    value = {"cluster": reply.cluster, "node": reply.node}

    def show() -> None:
        print_fields([("cluster", reply.cluster), ("node", reply.node)])

    print_object(value, settings.output, name="cluster", show=show)
