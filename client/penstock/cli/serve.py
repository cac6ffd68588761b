"""`penstock serve`: a broker in this process, until it is told to stop."""

from __future__ import annotations

import click

from penstock.cli import plugins
from penstock.cli.commands import Verb
from penstock.cli.params import SECONDS
from penstock.cli.settings import SERVER_DEFAULT


@click.command(
    "serve",
    cls=Verb,
    outputs=(),
    local=True,
    examples="penstock serve --data /var/lib/penstock --listen 0.0.0.0:7400\n"
    "penstock serve --memory --listen 127.0.0.1:0 --port-file port\n"
    "penstock serve --data a --listen n1:7400 --join n1:7400,n2:7400,n3:7400",
)
@click.option("--data", type=click.Path(file_okay=False), metavar="DIR", help="Where records lie.")
@click.option("--memory", is_flag=True, help="Keep everything in memory, and lose it at the end.")
@click.option(
    "--listen",
    default=SERVER_DEFAULT,
    show_default=True,
    metavar="HOST:PORT",
    help="Where clients connect; port 0 takes a free one.",
)
@click.option(
    "--port-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the port into this file once it listens.",
)
@click.option(
    "--join",
    metavar="HOST:PORT,...",
    help="Brokers to form a cluster with; may name this one too.",
)
@click.option(
    "--advertise",
    metavar="HOST:PORT",
    help="Where others reach this broker  [default: where it listens]",
)
@click.option(
    "--host-label",
    metavar="NAME",
    help="Its machine: replicas keep apart by it  [default: the host's name]",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    metavar="N",
    default=1,
    show_default=True,
    help="So many brokers, on ports and data directories beside one another; if there"
    " are more than one, SIGHUP restarts them one by one.",
)
@click.option(
    "--node-dead-after",
    type=SECONDS,
    metavar="DURATION",
    help="A broker silent for so long gets its replicas made anew elsewhere  [default: 30s]",
)
@click.option(
    "--quarantine-hours",
    type=click.FloatRange(0, 24 * 365),
    metavar="HOURS",
    help="How long to keep replicas that were moved elsewhere  [default: 24]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much to log to standard error.",
)
@click.pass_context
def serve(ctx: click.Context, /, **options: object) -> None:
    """Start a broker on a data directory.

    A new directory becomes a new broker; with --join one that waits for
    `penstock cluster init`, said once to one of the brokers, or for those that
    have a cluster to take it in. SIGTERM, SIGHUP and Ctrl-C end it in order, a
    second one ends it at once; either way nothing acknowledged is lost.
    """
    if bool(options["data"]) == options["memory"]:
        both = ", not both" if options["memory"] else ""
        raise click.UsageError(f"say where records go: --data DIR or --memory{both}", ctx)
    given = {name: value for name, value in options.items() if value is not None}
    ctx.exit(int(plugins.load("serve")(given)))
