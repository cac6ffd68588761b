"""The figures of a shared group, as JSON and for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.explained import blocked_words
from penstock.cli.output import Column
from penstock.cli.shared_settings import show_settings
from penstock.cli.units import SECOND_US, count_of, show_duration, show_time

if TYPE_CHECKING:
    from penstock.protocol.messages import GroupSummary
    from penstock.protocol.sharing import DescribeSharedReply, SharedFigures

PARTITIONS: Final = (
    Column("partition", "PARTITION", "number"),
    Column("start", "START", "number"),
    Column("end", "END", "number"),
    Column("ready", "READY", "number"),
    Column("leased", "LEASED", "number"),
    Column("delayed", "DELAYED", "number"),
    Column("moving", "MOVING", "number", wide=True),
    Column("held", "HELD", "number", wide=True),
    Column("oldest_seconds", "OLDEST", "seconds"),
    Column("blocked", "BLOCKED BY"),
    Column("high_watermark", "LOG END", "number", wide=True),
    Column("in_flight_max", "MAX IN FLIGHT", "number", wide=True),
)
MEMBERS: Final = (
    Column("member", "MEMBER"),
    Column("host", "HOST"),
    Column("in_flight", "IN FLIGHT", "number"),
    Column("oldest_seconds", "OLDEST", "ago"),
    Column("attached", "ATTACHED"),
    Column("partitions", "PARTITIONS", wide=True),
)
MISSING_SHOWN: Final = 10
LOOK_SECONDS: Final = 1.0
"""How long to wait for a coordinator without a leader: an election takes no longer."""
STATES: Final = ("ready", "leased", "delayed", "moving", "held")
COUNTERS: Final = (
    *("delivered", "acked", "late_acks", "duplicates", "failed", "timed_out", "released"),
    *("rejected", "exhausted", "expired", "overtaken", "dropped", "moved", "redriven", "purged"),
)
"""The order in which people are shown the counters; others follow."""


def missing_words(topic: str, partitions: Sequence[int]) -> str:
    """Partitions that nobody told of, in words."""
    shown = ", ".join(map(str, partitions[:MISSING_SHOWN]))
    more = f" and {len(partitions) - MISSING_SHOWN} more" if partitions[MISSING_SHOWN:] else ""
    what, have = ("partition", "has") if len(partitions) == 1 else ("partitions", "have")
    return f"{what} {shown}{more} of {topic} {have} no leader: what is there is not counted"


def lag_words(groups: Sequence[GroupSummary]) -> str:
    """Groups whose lag leaves out partitions that nobody told of, in words."""
    shown = [f"{g.group} ({count_of(g.missing, 'partition')})" for g in groups[:MISSING_SHOWN]]
    rest = len(groups) - MISSING_SHOWN
    more = f" and {count_of(rest, 'more group')}" if rest > 0 else ""
    return f"the lag leaves out what has no leader: {', '.join(shown)}{more}"


def unsettled(figures: SharedFigures) -> int:
    """Records that the group is not through with."""
    return figures.ready + figures.leased + figures.delayed + figures.moving + figures.held


def shared_value(
    reply: DescribeSharedReply, dead: DescribeSharedReply | None, now_us: int
) -> dict[str, Any]:
    """The group as a JSON object; `dead` is the same group on its dead-letter topic."""
    group, figures = reply.group, reply.partitions
    oldest = min((f.oldest_unacked_us for f in figures if f.oldest_unacked_us), default=0)
    following = min((f.next_ready_us for f in figures if f.next_ready_us), default=0)
    return {
        "group": group.group,
        "mode": "shared",
        "topic": group.topic,
        "lag": sum(map(unsettled, figures)),
        **{state: sum(getattr(f, state) for f in figures) for state in STATES},
        "oldest_unacked": show_time(oldest) if oldest else None,
        "oldest_unacked_seconds": _age(oldest, now_us),
        "next_ready": show_time(following) if following else None,
        "blocked_by": sorted({f.blocked_by for f in figures if f.blocked_by}),
        "counters": _sum(f.counters for f in figures),
        "attempts": _sum(f.attempts for f in figures),
        "dead_topic": group.dead_topic,
        "dead_letters": None if dead is None else sum(f.held for f in dead.partitions),
        "redriven_not_settled": None if dead is None else sum(map(_redriven, dead.partitions)),
        "settings": group.settings,
        "revision": group.revision,
        "members": member_rows(figures, now_us),
        "partitions": [partition_row(f, now_us) for f in figures],
        "missing": reply.missing,
        "dead_missing": [] if dead is None else dead.missing,
    }


def _redriven(figures: SharedFigures) -> int:
    return unsettled(figures) - figures.held


def _sum(several: Any) -> dict[Any, int]:  # noqa: ANN401 - mappings by text or by number
    total: Counter[Any] = Counter()
    for each in several:
        total.update(each)
    return dict(total)


def _age(since_us: int, now_us: int) -> float | None:
    return max(0.0, (now_us - since_us) / SECOND_US) if since_us else None


def partition_row(figures: SharedFigures, now_us: int) -> dict[str, Any]:
    """The group in one partition as a JSON object."""
    return {
        "partition": figures.partition,
        "start": figures.start,
        "end": figures.end,
        "high_watermark": figures.high_watermark,
        **{state: getattr(figures, state) for state in STATES},
        "in_flight_max": figures.in_flight_max,
        "oldest_unacked": show_time(figures.oldest_unacked_us)
        if figures.oldest_unacked_us
        else None,
        "oldest_seconds": _age(figures.oldest_unacked_us, now_us),
        "next_ready": show_time(figures.next_ready_us) if figures.next_ready_us else None,
        "blocked_by": figures.blocked_by,
        "blocked": blocked_words(figures.blocked_by),
        "counters": figures.counters,
        "time_in_queue_ms": figures.time_in_queue_ms,
        "attempts": figures.attempts,
        "members": [
            {
                "member": m.member,
                "host": m.host,
                "attached": m.attached,
                "in_flight": m.in_flight,
                "oldest_seconds": _age(m.oldest_us, now_us),
            }
            for m in figures.members
        ],
    }


def member_rows(partitions: Sequence[SharedFigures], now_us: int) -> list[dict[str, Any]]:
    """One row for each member, over all partitions; the busiest first."""
    rows: dict[str, dict[str, Any]] = {}
    for figures in partitions:
        for member in figures.members:
            row = rows.setdefault(
                member.member,
                {
                    "member": member.member,
                    "host": member.host,
                    "attached": False,
                    "in_flight": 0,
                    "oldest_seconds": None,
                    "partitions": [],
                },
            )
            row["attached"] = row["attached"] or member.attached
            row["in_flight"] += member.in_flight
            row["partitions"].append(figures.partition)
            ages = [row["oldest_seconds"], _age(member.oldest_us, now_us)]
            row["oldest_seconds"] = max((age for age in ages if age is not None), default=None)
    return sorted(rows.values(), key=lambda row: (-row["in_flight"], row["member"]))


def shared_fields(value: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The group as a whole, for people; `value` is what `shared_value` gave."""
    yield "Group", value["group"]
    yield "Mode", "shared"
    yield "Topic", value["topic"]
    yield "Not settled", _states(value)
    if value["oldest_unacked_seconds"] is not None:
        yield "Oldest", f"{show_duration(value['oldest_unacked_seconds'])} since it was published"
    queued = _queued(value["partitions"])
    if queued:
        yield "Time in queue", queued
    tries = sorted((int(number), records) for number, records in value["attempts"].items())
    if any(number for number, _ in tries):
        parts = [f"{records:,} after {count_of(n, 'attempt')}" for n, records in tries if n]
        yield "Failed so far", ", ".join(parts)
    yield "Dead letters", _dead(value)
    counted = _counted(value["counters"])
    if counted:
        yield "Counted", counted
    if value["settings"]:
        yield "Settings", show_settings(value["settings"])


def _states(value: Mapping[str, Any]) -> str:
    parts = [f"{value[state]:,} {state}" for state in STATES if value[state]]
    total = f"{value['lag']:,}"
    return f"{total}: {', '.join(parts)}" if parts else total


def _dead(value: Mapping[str, Any]) -> str:
    if not value["dead_topic"]:
        drops = value["settings"].get("dead_letters") == "drop"
        return "dropped and counted" if drops else "stay here"
    if value["dead_letters"] is None:
        return f"in {value['dead_topic']}"
    again = value["redriven_not_settled"]
    more = f", {again:,} more redriven and not settled" if again else ""
    return f"{value['dead_letters']:,} in {value['dead_topic']}{more}"


def _queued(partitions: Sequence[Mapping[str, Any]]) -> str:
    """Percentiles from publish to ack: of the slowest partition, since they do not add up."""
    worst = max(
        (p["time_in_queue_ms"] for p in partitions if p["time_in_queue_ms"]),
        key=lambda each: float(each.get("p99", 0.0)),
        default=None,
    )
    if worst is None:
        return ""
    return ", ".join(
        f"{name} {show_duration(worst[name] / 1000)}"
        for name in ("p50", "p90", "p99", "max")
        if name in worst
    )


def _counted(counters: Mapping[str, int]) -> str:
    names = [*COUNTERS, *sorted(counters.keys() - set(COUNTERS))]
    return ", ".join(
        f"{name.replace('_', ' ')} {counters[name]:,}" for name in names if counters.get(name)
    )


def partition_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of a table; rare states have one when some partition has such records."""
    return tuple(
        Column(c.key, c.title, c.kind) if c.key in ("moving", "held") and _any(rows, c.key) else c
        for c in PARTITIONS
        if c.key != "blocked" or _any(rows, c.key)
    )


def _any(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(row[key] for row in rows)
