"""`penstock top`: brokers, topics and groups, looked at again and again."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.cluster_rows import Problem, node_row, problems, status_of
from penstock.cli.commands import Verb
from penstock.cli.output import Column, render_table, styled, to_json
from penstock.cli.params import SECONDS
from penstock.cli.settings import Settings, wall_us
from penstock.cli.shared_view import LOOK_SECONDS, lag_words
from penstock.cli.units import count_of, show_time
from penstock.errors import LeaderUnknown, PenstockError

if TYPE_CHECKING:
    from penstock.protocol.messages import GroupSummary, ListGroupsReply
    from penstock.sync import Client

WIDTH_DEFAULT: Final = 80
HEIGHT_DEFAULT: Final = 24
TOPICS_MAX: Final = 100
"""Topics that are looked at: each costs a question."""
GROUPS_MAX: Final = 100
PROBLEMS_MAX: Final = 5
RATE_MIN_SECONDS: Final = 0.2
ENTER: Final = "\x1b[?1049h\x1b[?25l"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
TO_LINE_END: Final = "\x1b[K"
TO_END: Final = "\x1b[J"

NODES: Final = (
    Column("node", "NODE", "number"),
    Column("address", "ADDRESS", spare=True),
    Column("state", "STATE"),
    Column("leaders", "LEADS", "number"),
    Column("replicas", "COPIES", "number"),
    Column("connections", "CONNS", "number"),
    Column("cpu_percent", "CPU %", "number"),
    Column("log_bytes", "LOG", "size"),
)
TOPICS: Final = (
    Column("topic", "TOPIC", spare=True),
    Column("partitions", "PARTS", "number"),
    Column("records_per_second", "RECORDS/S", "number"),
    Column("records", "RECORDS", "number"),
    Column("size_bytes", "SIZE", "size"),
)
GROUPS: Final = (
    Column("group", "GROUP", spare=True),
    Column("mode", "MODE"),
    Column("topics", "TOPICS", spare=True),
    Column("members", "MEMBERS", "number"),
    Column("lag", "LAG", "number"),
)


@dataclass
class Look:
    """What was seen at one time."""

    at_us: int
    cluster: str
    problems: list[Problem]
    nodes: list[dict[str, Any]]
    topics: list[dict[str, Any]]
    groups: list[dict[str, Any]]


@click.command(
    "top",
    cls=Verb,
    outputs=("table", "ndjson"),
    examples="penstock top\npenstock top --every 5s\npenstock top --once\n"
    "penstock top -o ndjson | jq .topics",
)
@click.option(
    "--every", type=SECONDS, metavar="DURATION", default="2s", show_default=True,
    help="How often to look.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Look once (rates need two looks, a second apart).")
@click.pass_obj
def top(settings: Settings, every: float, once: bool) -> None:
    """Watch brokers, topics and groups; Ctrl-C ends it."""
    eye = _Eye()
    with settings.connect() as client:
        if once:
            eye.look(client)
            time.sleep(1.0)
            _print(settings, eye.look(client))
            return
        with _screen(settings) as live:
            while True:
                try:
                    found = eye.look(client)
                except PenstockError as error:
                    _say_no_answer(settings, error, live=live)
                else:
                    _print(settings, found, live=live)
                time.sleep(every)


@contextmanager
def _screen(settings: Settings) -> Iterator[bool]:
    """The whole terminal for a while, if it is one; it looks as before afterwards."""
    live = settings.output == "table" and sys.stdout.isatty()
    try:
        if live:
            click.echo(ENTER, nl=False)
        yield live
    finally:
        if live:
            click.echo(LEAVE, nl=False)


def _say_no_answer(settings: Settings, error: PenstockError, *, live: bool) -> None:
    """On the whole terminal in the place of the first line: what is below is old."""
    words = f"no answer: {error}"
    if not live:
        settings.say(words)
        return
    width = shutil.get_terminal_size((WIDTH_DEFAULT, HEIGHT_DEFAULT)).columns
    click.echo(f"{HOME}{styled(words[:width], fg='red')}{TO_LINE_END}", nl=False)


def _print(settings: Settings, found: Look, *, live: bool = False) -> None:
    if settings.output == "ndjson":
        click.echo(to_json(vars(found)))
        return
    size = shutil.get_terminal_size((WIDTH_DEFAULT, HEIGHT_DEFAULT))
    wide = sys.stdout.isatty()
    lines = render(found, size.columns if wide else None, size.lines if live else None)
    if live:
        text = "".join(f"{line}{TO_LINE_END}\n" for line in lines[:-1]) + lines[-1] + TO_LINE_END
        click.echo(f"{HOME}{text}{TO_END}", nl=False)
    else:
        click.echo("\n".join(lines) + "\n")


def render(found: Look, width: int | None, height: int | None) -> list[str]:
    """The lines of a look, cut to a terminal."""
    well = count_of(len(found.problems), "problem") if found.problems else "healthy"
    head = f"penstock top  {show_time(found.at_us)}  cluster {found.cluster[:8] or '-'}  {well}"
    lines = [styled(head[:width], bold=True)]
    wrong = [f"{problem['problem']}: {problem['detail']}" for problem in found.problems]
    lines += [styled(line[:width], fg="red") for line in wrong[:PROBLEMS_MAX]]
    if len(wrong) > PROBLEMS_MAX:
        lines.append(f"... {len(wrong) - PROBLEMS_MAX} problems more")
    parts: list[tuple[Sequence[Mapping[str, Any]], Sequence[Column]]] = [
        (found.nodes, NODES), (found.topics, TOPICS), (found.groups, GROUPS)
    ]  # fmt: skip
    for rows, columns in parts:
        if rows:
            title, *rest = render_table(rows, columns, width=width)
            lines += ["", styled(title, bold=True), *rest]
    if height is not None and len(lines) > height:
        lines = [*lines[: height - 1], f"... {len(lines) - height + 1} lines more"]
    return lines


def _group(info: GroupSummary) -> dict[str, Any]:
    return {
        "group": info.group,
        "mode": info.mode,
        "topics": info.topics,
        "members": info.members,
        "lag": info.lag,
    }


def left_out(reply: ListGroupsReply) -> list[Problem]:
    """Which groups, and what of their lag, is not known since something has no leader."""
    found = []
    if reply.missing:
        counted = count_of(reply.missing, "coordinator")
        words = f"ordered groups are left out: {counted} without a leader"
        found.append(_problem("groups", words, reply.missing))
    partial = [group for group in reply.groups if group.missing]
    if partial:
        found.append(_problem("groups", lag_words(partial), len(partial)))
    return found


def _problem(what: str, detail: str, count: int | None = None) -> Problem:
    return {"problem": what, "detail": detail, "node": None, "count": count}


class _Eye:
    """Looks, and remembers the last time for rates."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def look(self, client: Client) -> Look:
        """See everything once."""
        admin = client.admin
        status = status_of(client)
        nodes = []
        for node in status.nodes:
            row = node_row(status, node)
            if node.alive:
                row.update(self._figures(client, node.id))
            nodes.append(row)
        wrong = problems(status)
        topics: list[dict[str, Any]] = []
        groups: list[dict[str, Any]] = []
        try:
            topics = self._topics(client)
            reply = admin.list_groups(patience=LOOK_SECONDS)
        except LeaderUnknown as error:  # a broker that was started while most others are away
            wrong.append(_problem("topics, groups", str(error)))
        else:
            groups = [_group(g) for g in reply.groups[:GROUPS_MAX]]
            groups.sort(key=lambda row: (-int(str(row["lag"] or 0)), str(row["group"])))
            wrong += left_out(reply)
        return Look(wall_us(), status.cluster, wrong, nodes, topics, groups)

    def _topics(self, client: Client) -> list[dict[str, Any]]:
        """The busiest first."""
        names = [info.name for info in client.admin.list_topics()[:TOPICS_MAX]]
        topics = [row for name in names if (row := self._topic(client, name))]
        return sorted(topics, key=lambda row: (-(row["records_per_second"] or 0), row["topic"]))

    def _figures(self, client: Client, node: int) -> dict[str, Any]:
        try:
            reply = client.admin.status(node)
        except PenstockError:
            return {}
        if reply.node != node:
            return {}
        figures: Mapping[str, Any] = reply.figures
        cpu = self._rate(f"cpu {node}", float(figures.get("cpu_seconds", 0.0)))
        return {
            "connections": figures.get("connections"),
            "log_bytes": figures.get("log_bytes"),
            "cpu_percent": None if cpu is None else round(cpu * 100),
        }

    def _topic(self, client: Client, name: str) -> dict[str, Any]:
        try:
            reply = client.admin.describe_topic(name)
        except PenstockError:
            return {}
        ends = sum(p.high_watermark for p in reply.partitions)
        rate = self._rate(f"topic {reply.topic.id}", ends)
        return {
            "topic": name,
            "partitions": len(reply.topic.partitions),
            "records": sum(p.high_watermark - p.log_start_offset for p in reply.partitions),
            "size_bytes": sum(p.size_bytes for p in reply.partitions),
            "records_per_second": None if rate is None else round(rate),
        }

    def _rate(self, name: str, value: float) -> float | None:
        """Growth a second since the last look; None: this is the first."""
        now = time.monotonic()
        before = self._last.get(name)
        self._last[name] = now, value
        if before is None or now - before[0] < RATE_MIN_SECONDS:
            return None
        return max(0.0, (value - before[1]) / (now - before[0]))
