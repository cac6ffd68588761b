"""`penstock cluster balance`: whether brokers are made even by themselves."""

from __future__ import annotations

from typing import Final

import click

from penstock.cli.cluster_rows import status_of
from penstock.cli.commands import Verb
from penstock.cli.params import dry_run_option
from penstock.cli.settings import Settings

WORDS: Final = {
    True: "on: replicas and leads are moved until all brokers have as many",
    False: "off: replicas and leads are moved for repair and drains only",
}


@click.command(
    "balance",
    cls=Verb,
    outputs=(),
    examples="penstock cluster balance        (shows it)\npenstock cluster balance off",
)
@click.argument("switch", required=False, type=click.Choice(("on", "off")))
@dry_run_option
@click.pass_obj
def balance(settings: Settings, switch: str | None, dry_run: bool) -> None:
    """Allow or forbid moves that only make brokers more even.

    A broker that joins gets its share of the replicas, two partitions at a time.
    Off, it gets new ones only; repair, drains and your own moves go on. What is
    under way is carried out: `penstock partition list --state moving` shows it,
    and `penstock partition move --cancel` stops it.
    """
    with settings.connect() as client:
        if switch is None:
            on = status_of(client).balancing
        else:
            on = client.admin.set_balancing(switch == "on", dry_run=dry_run).on
    told = f"balance is {WORDS[on]}"
    settings.say(f"dry run, nothing changed: {told}" if dry_run else told)
