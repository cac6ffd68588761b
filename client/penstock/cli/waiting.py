"""Verbs that wait until what they asked for is done: one line on a terminal tells how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.params import SECONDS
from penstock.cli.progress import CLEAR
from penstock.cli.settings import Failure, Settings
from penstock.cli.units import count_of

if TYPE_CHECKING:
    from penstock.sync import Client

LOOK_SECONDS: Final = 0.5
LATE_SECONDS: Final = 5.0
"""How long the broker that is asked may not have heard of what another one has just done."""

wait_option = click.option("--wait", is_flag=True, help="Wait until it is done.")
within_option = click.option(
    "--within",
    type=SECONDS,
    metavar="DURATION",
    default="10m",
    show_default=True,
    help="How long to wait at the most.",
)


def wait_until(
    settings: Settings, within: float, look: Callable[[], tuple[bool, str]], subject: str
) -> None:
    """Look twice a second until it is done; a broker that fails meanwhile does not matter.

    Args:
        settings: says how far it is.
        within: seconds.
        look: gives whether it is done, and how far it is in words.
        subject: what is waited for.

    Raises:
        Failure: it is not done in time; it goes on without us.
    """
    from penstock.errors import RetriableError

    line = _Line(settings)
    end = time.monotonic() + within
    words = "no word yet"
    try:
        while True:
            try:
                done, words = look()
            except RetriableError as error:
                done, words = False, str(error)
            if done:
                return
            line.show(f"{subject}: {words}")
            if time.monotonic() >= end:
                break
            time.sleep(LOOK_SECONDS)
    finally:
        line.clear()
    raise Failure(
        f"{subject}: not done in time ({words})", hint="It goes on: `penstock cluster status`."
    )


class _Line:
    """One line that is written over on a terminal; elsewhere each change is a line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._over = sys.stderr.isatty() and not settings.quiet
        self._last = ""

    def show(self, words: str) -> None:
        if words == self._last:
            return
        self._last = words
        if self._over:
            click.echo(f"{CLEAR}{words}", nl=False, err=True)
        else:
            self._settings.say(words)

    def clear(self) -> None:
        if self._over and self._last:
            click.echo(CLEAR, nl=False, err=True)


def wait_for_empty(settings: Settings, client: Client, node: int, within: float) -> None:
    """Wait until a broker leads and holds nothing."""

    def look() -> tuple[bool, str]:
        status = client.admin.cluster_status()
        found = next((each for each in status.nodes if each.id == node), None)
        if found is None or not (found.replicas or found.leaders):
            return True, ""
        left = count_of(found.replicas, "replica"), count_of(found.leaders, "lead")
        return False, f"{' and '.join(left)} left"

    wait_until(settings, within, look, f"node {node}")


def wait_for_partition(
    settings: Settings,
    client: Client,
    place: tuple[str, int],
    within: float,
    *,
    replicas: list[int] | None = None,
    before: list[int] | None = None,
    leader: int = 0,
) -> None:
    """Wait until a partition is where it shall be, or is led by whom it shall be.

    `before` is where it was: a broker that says so has not heard of the move yet.
    """
    topic, number = place
    begun = time.monotonic()

    def look() -> tuple[bool, str]:
        found = client.admin.list_partitions(topic)[number]
        words = f"led by {found.leader or 'nobody'}"
        if leader:
            return found.leader == leader, words
        if sorted(found.replicas) != sorted(replicas or ()):  # leads may be evened out meanwhile
            if found.replicas == before and time.monotonic() - begun < LATE_SECONDS:
                return False, words
            raise Failure(
                f"{topic}/{number} is sent to {found.replicas} instead: it was moved again",
                hint="The cluster moves by itself, too, after `penstock cluster balance on`.",
            )
        copying = {node: found.behind.get(node, 0) for node in found.learners}
        words += f", on {found.members}"
        words += f", copying to {copying}" if copying else ""
        return not found.moving and found.members == sorted(found.replicas), words

    wait_until(settings, within, look, f"{topic}/{number}")
