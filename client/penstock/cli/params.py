"""Kinds of argument: durations, sizes, positions, `k=v` pairs, names that complete live.

Completion asks the broker, waits a quarter of a second at most, and says nothing when it can't.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import click

from penstock.cli import units
from penstock.cli.settings import Settings

if TYPE_CHECKING:
    from penstock.sync import Client

_T = TypeVar("_T")

COMPLETION_SECONDS: Final = 0.25


def _said(parse: Callable[[str], _T]) -> Callable[[object], _T]:
    """The parser as an option's type: its ValueError is what the user gets to read."""

    def convert(value: object) -> _T:
        try:
            return parse(str(value))
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = units.parse_duration_us(text) / units.SECOND_US
    if not 0.001 <= seconds <= 1e9:
        raise ValueError(f"{text!r} is not between 1ms and 1e9 seconds")
    return seconds


def _milliseconds(text: str) -> int:
    if text == "forever":
        return -1
    return units.parse_duration_us(text) // 1000


def _size_or_all(text: str) -> int:
    return -1 if text == "unlimited" else units.parse_size(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def _position(text: str) -> units.Position:
    return units.parse_position(text, datetime.now(UTC))


def _partition_position(text: str) -> tuple[int, units.Position]:
    partition, position = _pair(text)
    if not _whole(partition):
        raise ValueError(f"{text!r} is not PARTITION=POSITION")
    return int(partition), _position(position)


def _group_place(words: tuple[str, ...]) -> tuple[str | None, str]:
    if len(words) > 2:
        raise click.UsageError(f"give one group, not {len(words)} names")
    return (words[0] if len(words) == 2 else None), words[-1]


def attempts(value: object) -> int:
    """The type of an option that takes a number of attempts: 1 to 1000, or unlimited."""
    return -1 if value == "unlimited" else whole_number(1, 1000)(value)


def _per_second(text: str) -> float:
    try:
        found = float(text.removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is not a rate such as 100 or 100/s") from None
    if not 0.01 <= found <= 1e9:
        raise ValueError(f"{text!r} is not between 0.01 and 1e9 a second")
    return found


def _place(text: str) -> tuple[int, int]:
    partition, colon, offset = text.partition(":")
    if not colon or not _whole(partition) or not _whole(offset):
        raise ValueError(f"{text!r} is not PARTITION:OFFSET, such as 3:1024")
    return int(partition), int(offset)


def _moment(text: str) -> datetime:
    now = datetime.now(UTC)
    try:
        if text.startswith("-"):
            return now - timedelta(microseconds=units.parse_duration_us(text[1:]))
        return units.parse_time(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither an age such as -1h nor a time such as 2026-01-31T09:30Z"
        ) from None


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def whole_number(low: int, high: int) -> Callable[[object], int]:
    """The type of an option that takes a whole number within bounds."""

    def parse(text: str) -> int:
        if not _whole(text) or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low:,} to {high:,}")
        return int(text)

    return _said(parse)


NUMBER: Final = whole_number(0, 1_000_000_000)
COUNT: Final = whole_number(1, 1_000_000_000)
SECONDS: Final = _said(_seconds)
"""Seconds as a float: `5`, `250ms`, `1m`."""
RETENTION: Final = _said(_milliseconds)
"""Milliseconds: `7d`, or `forever` for -1."""
SIZE: Final = _said(units.parse_size)
SIZE_OR_ALL: Final = _said(_size_or_all)
"""Bytes, or `unlimited` for -1."""
POSITION: Final = _said(_position)
PAIR: Final = _said(_pair)
PARTITION_POSITION: Final = _said(_partition_position)
PLACE: Final = _said(_place)
"""Partition and offset: `3:1024`."""
PER_SECOND: Final = _said(_per_second)
"""How many a second: `100`, `100/s`."""
MOMENT: Final = _said(_moment)
"""An aware time: an age such as `-1h`, or ISO 8601."""
FUTURE: Final = _said(units.parse_time)
"""An aware time: ISO 8601."""


def complete_topics(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of topics that begin so."""
    names = _ask(ctx, lambda client: [t.name for t in client.admin.metadata().topics])
    return [name for name in names if name.startswith(incomplete)]


def complete_groups(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of groups that begin so."""
    names = _ask(ctx, lambda client: [g.group for g in client.admin.list_groups().groups])
    return [name for name in names if name.startswith(incomplete)]


def complete_shared(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of shared groups that begin so: those of the topic that stands before."""
    topic = ctx.params.get("topic")
    names = _ask(
        ctx,
        lambda client: [
            g.group
            for g in client.admin.list_groups().groups
            if g.mode == "shared" and (topic is None or topic in g.topics)
        ],
    )
    return sorted({name for name in names if name.startswith(incomplete)})


def complete_nodes(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids and addresses of brokers that begin so."""
    names = _ask(
        ctx,
        lambda client: [
            name for n in client.admin.metadata([]).nodes for name in (str(n.id), n.address)
        ],
    )
    return [name for name in names if name.startswith(incomplete)]


def complete_schedules(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of schedules of the topic that stands before."""
    topic = ctx.params.get("topic")
    names = _ask(ctx, lambda client: [s.name for s in client.admin.list_schedules(topic)])
    return [name for name in names if name.startswith(incomplete)]


def _ask(ctx: click.Context, question: Callable[[Client], list[str]]) -> list[str]:
    import penstock.sync  # noqa: F401 - the time it takes is not the broker's

    settings = ctx.ensure_object(Settings)
    settings.timeout = COMPLETION_SECONDS
    found: list[str] = []

    def work() -> None:
        try:
            with settings.connect() as client:
                found.extend(question(client))
        except Exception:  # whatever it is, the shell's line is no place to say it
            found.clear()

    # A daemon thread: the answer that comes too late is left behind.
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(COMPLETION_SECONDS)
    return [] if worker.is_alive() else found


topic_argument = click.argument("topic", shell_complete=complete_topics)
node_argument = click.argument("node", shell_complete=complete_nodes)
"""A broker: its id, its address, or its host."""
group_argument = click.argument("group", shell_complete=complete_groups)
shared_argument = click.argument("group", shell_complete=complete_shared)
"""A shared group of the topic that is the argument before it."""
named_group_argument = click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="[TOPIC] GROUP",
    callback=lambda _ctx, _param, words: _group_place(words),
    shell_complete=complete_groups,
)
"""A group by its name; a shared one may need its topic before it."""
yes_option = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Check it and say what would happen; change nothing."
)
