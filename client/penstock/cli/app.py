"""`penstock`: the table of nouns and the program's own help."""

from __future__ import annotations

import click

from penstock._version import __version__
from penstock.cli import exits
from penstock.cli.commands import Root
from penstock.cli.settings import Settings

NOUNS = {
    "Run a broker": {
        "dev": ("penstock.cli.dev:dev", "Start a throw-away broker and show how to use it."),
        "serve": ("penstock.cli.serve:serve", "Start a broker on a data directory."),
    },
    "Publish and read": {
        "publish": ("penstock.cli.publish:publish", "Publish lines, NDJSON or a file to a topic."),
        "consume": ("penstock.cli.consume:consume", "Read a topic, as yourself or as a group."),
        "tail": ("penstock.cli.consume:tail", "Show the last records, and follow with -f."),
    },
    "Manage": {
        "topic": ("penstock.cli.topic:topic", "List, create, describe, alter, delete, trim."),
        "group": (
            "penstock.cli.group:group",
            "List, create, describe, alter, lag, seek, stuck, delete.",
        ),
        "dlq": ("penstock.cli.dlq:dlq", "Look at dead letters, redrive or purge them."),
        "schedule": (
            "penstock.cli.schedule:schedule",
            "Publish records again and again, or later.",
        ),
        "status": ("penstock.cli.status:status", "Show the figures of a broker."),
    },
    "Run a cluster": {
        "cluster": (
            "penstock.cli.cluster:cluster",
            "Form a cluster, see how it is, grow and shrink it.",
        ),
        "node": ("penstock.cli.node:node", "List brokers, describe one, see what it keeps."),
        "partition": (
            "penstock.cli.partition:partition",
            "See where partitions are, move them, recover them.",
        ),
        "top": ("penstock.cli.top:top", "Watch brokers, topics and groups; Ctrl-C ends it."),
    },
    "Look into it": {
        "why": ("penstock.cli.why:why", "Tell what has become of a record, and what happens next."),
        "doctor": ("penstock.cli.doctor:doctor", "Check a broker, a data directory, this host."),
        "log": ("penstock.cli.log:log", "Inspect and verify the files of a data directory."),
        "bench": ("penstock.cli.bench:bench", "Measure throughput and latency."),
        "completion": ("penstock.cli.completion:completion", "Print a shell's completion script."),
    },
}

TAIL = f"""\
Examples
penstock dev
penstock topic create orders --partitions 4
printf 'one\\ntwo\\n' | penstock publish orders
penstock tail orders -n 20 -f --where 'value.total > 100'
penstock group seek orders billing --to -1h
penstock why orders 3:1024
penstock dlq redrive orders billing --reason Timeout --rate 100/s

Exit codes
{exits.table()}

Output
Data goes to standard output, words go to standard error. There is no colour
off a terminal or with NO_COLOR. `penstock NOUN VERB --help` tells the rest."""


@click.command(cls=Root, nouns=NOUNS, tail=TAIL)
@click.version_option(__version__, message="penstock %(version)s")
@click.pass_context
def penstock(ctx: click.Context) -> None:
    """Penstock: a durable log, and the tools to run and use it."""
    ctx.ensure_object(Settings)
