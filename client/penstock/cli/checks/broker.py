"""Checks of a broker: does it answer, how fast, which version, and what its figures warn of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from penstock._version import __version__
from penstock.cli.checks import Check, Grade, graded
from penstock.cli.cluster_rows import RECOVER, problems
from penstock.cli.exits import hint_for
from penstock.cli.settings import Settings
from penstock.cli.units import count_of, show_duration
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.protocol.cluster import ClusterStatusReply, PartitionState
    from penstock.protocol.messages import MetadataReply
    from penstock.sync import Client

ROUNDS: Final = 20
SLOW_SECONDS: Final = 0.1


def checks(settings: Settings) -> list[Check]:
    """All checks of the broker; only the first one, when it can't be reached."""
    try:
        with settings.connect() as client:
            return list(_ask(client, settings.server))
    except (PenstockError, OSError) as error:
        return [Check("broker", Grade.FAIL, f"{settings.server}: {error}", hint_for(error))]


def _ask(client: Client, server: str) -> Iterator[Check]:
    delays = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        reply = client.admin.status()
        delays.append(time.perf_counter() - start)
    middle = sorted(delays)[len(delays) // 2]
    yield graded(
        "broker",
        f"{server} answers in {show_duration(middle)}",
        "The network or the broker is slow: look at its load.",
        warn=middle > SLOW_SECONDS,
    )
    yield graded(
        "broker version",
        reply.version,
        f"This program is {__version__}: run the same version on both sides.",
        warn=reply.version != __version__,
    )
    accepting = reply.figures.get("accepting")
    if isinstance(accepting, bool):
        yield graded(
            "accepting",
            "publishes are accepted" if accepting else "publishes are refused: disk nearly full",
            "Shorten retention, delete topics or grow the broker's disk.",
            fail=not accepting,
        )
    yield from cluster_checks(client.admin.cluster_status())
    yield from topic_checks(client.admin.metadata(), client.admin.list_partitions())


def cluster_checks(status: ClusterStatusReply) -> Iterator[Check]:
    """Is the cluster well, as `penstock cluster health` says it?"""
    found = problems(status)
    for problem in found:
        words = f"{problem['problem']}: {problem['detail']}"
        cure = "`penstock cluster status` shows it; `Running a cluster` says what to do."
        yield Check("cluster", Grade.FAIL, words, cure)
    if not found:
        count = sum(node.alive for node in status.nodes)
        yield Check("cluster", Grade.OK, f"healthy ({count_of(count, 'broker')})", "")


def topic_checks(metadata: MetadataReply, states: Sequence[PartitionState]) -> Iterator[Check]:
    """Has every partition a leader, and as many places for replicas as it should?

    The metadata still names a leader that has died, so leaders are taken from the states.
    """
    partitions = [(topic, p) for topic in metadata.topics for p in topic.partitions]
    headless = [f"{state.topic}/{state.partition}" for state in states if not state.leader]
    lost = [f"{state.topic} {state.partition}" for state in states if state.bereft]
    yield graded(
        "leaders",
        f"{len(headless)} of {len(states)} partitions without one: {', '.join(headless[:5])}"
        if headless
        else f"every partition has one ({len(states)})",
        "Start the missing brokers: a partition needs a majority of its replicas."
        + (f" Most copies are lost: `{RECOVER} {lost[0]}`." if lost else ""),
        fail=bool(headless),
    )
    short = [
        f"{topic.name}/{p.partition}"
        for topic, p in partitions
        if len(p.replicas) < topic.replication
    ]
    yield graded(
        "replicas",
        f"{count_of(len(short), 'partition')} with too few: {', '.join(short[:5])}"
        if short
        else "every partition has places for as many as its topic asks for",
        "Add brokers, or lower the topic's replication.",
        warn=bool(short),
    )
