"""What `penstock dlq list` shows: dead-letter topics, also of deleted topics and groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.output import Column
from penstock.cli.settings import wall_us
from penstock.cli.shared_view import LOOK_SECONDS, unsettled
from penstock.cli.units import SECOND_US, show_time
from penstock.errors import GroupNotFound, TopicNotFound

if TYPE_CHECKING:
    from penstock.sync import Client

PREFIX: Final = "dead."
GROUPS: Final = (
    Column("topic", "TOPIC"),
    Column("group", "GROUP"),
    Column("dead_letters", "DEAD LETTERS", "number"),
    Column("redriven", "REDRIVEN", "number"),
    Column("oldest_seconds", "OLDEST", "ago"),
    Column("deleted", "DELETED"),
    Column("dead_topic", "DEAD-LETTER TOPIC", wide=True),
)


def group_rows(client: Client, topic: str | None) -> Iterator[dict[str, Any]]:
    """Groups that have a dead-letter topic, of all topics or of one; deleted ones come last."""
    topics = {info.name for info in client.admin.list_topics()}
    known = client.admin.list_groups(patience=LOOK_SECONDS).groups
    shared = [g for g in known if g.mode == "shared"]
    groups = {(name, g.group) for g in shared for name in g.topics}
    found = sorted(
        (0 if pair in groups else 1, *pair, dead)
        for dead in topics
        for pair in _splits(dead)
        if topic in (None, pair[0])
    )
    for gone, origin, group, dead in found:
        # Nobody is left who could get the letters of what is deleted.
        what = "group" if origin in topics else "topic"
        yield from _rows(client, origin, group, dead, what if gone else "")


def _splits(dead: str) -> Iterator[tuple[str, str]]:
    """Topics and groups that a dead-letter topic may be of: both may have dots in their names."""
    if dead.startswith(PREFIX):
        parts = dead.removeprefix(PREFIX).split(".")
        for at in range(1, len(parts)):
            yield ".".join(parts[:at]), ".".join(parts[at:])


def _rows(
    client: Client, topic: str, group: str, dead: str, deleted: str
) -> Iterator[dict[str, Any]]:
    try:
        reply = client.admin.describe_shared(dead, group)
    except (TopicNotFound, GroupNotFound):
        return
    partitions = reply.partitions
    held = sum(p.held for p in partitions)
    oldest = min((p.oldest_unacked_us for p in partitions if p.oldest_unacked_us), default=0)
    yield {
        "topic": topic,
        "group": group,
        "dead_letters": held,
        "redriven": sum(map(unsettled, partitions)) - held,
        "oldest": show_time(oldest) if oldest else None,
        "oldest_seconds": max(0.0, (wall_us() - oldest) / SECOND_US) if oldest else None,
        "deleted": deleted or None,
        "dead_topic": dead,
        "missing": reply.missing,
    }
