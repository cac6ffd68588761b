"""`penstock why`: what has become of one record, for each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from penstock._core.sharing.letters import read_letter
from penstock.cli.commands import Verb
from penstock.cli.exits import Exit
from penstock.cli.explained import state_lines, state_row
from penstock.cli.output import field_lines, print_object, terminal_width
from penstock.cli.params import PLACE, complete_groups, topic_argument
from penstock.cli.printing import show_bytes
from penstock.cli.records import record_row
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.shared_view import LOOK_SECONDS
from penstock.cli.units import show_moment
from penstock.errors import GroupNotFound, OffsetOutOfRange

if TYPE_CHECKING:
    from penstock import Record
    from penstock.protocol.sharing import ExplainRecordReply, RecordState
    from penstock.sync import Client

OUTPUTS: Final = ("table", "wide", "json", "ndjson", "name")
VALUE_CHARACTERS: Final = 200
READ_SECONDS: Final = 2.0
STATES: Final = (
    "States",
    """\
  ready     waits to be delivered
  leased    is with a member, under a lease
  delayed   waits for its time: a retry, or a delay
  moving    is being moved to the dead-letter topic
  dead      lies in the dead-letter topic, until it is redriven or purged
  done      the group is through with it
  ahead     the group has not come to it yet
  gone      it was deleted from the log""",
)


@click.command(
    "why",
    cls=Verb,
    outputs=OUTPUTS,
    examples="penstock why orders 3:1024\npenstock why orders 3:1024 --group billing -o json",
    notes=STATES,
)
@topic_argument
@click.argument("place", type=PLACE, metavar="PARTITION:OFFSET")
@click.option("-g", "--group", default="", shell_complete=complete_groups, help="Only this group.")
@click.pass_obj
def why(settings: Settings, topic: str, place: tuple[int, int], group: str) -> None:
    """Tell what has become of a record, and what happens next.

    For each group of the topic: in what state the record is, who holds it and
    since when, the attempts and their errors, what happens next and when, and
    what keeps it. -o wide shows the errors from their first line to their last.
    """
    partition, offset = place
    with settings.connect() as client:
        reply = _ask(client, topic, partition, offset, group)
        if group and not reply.states:
            raise GroupNotFound(f"there is no group {group} on topic {topic}")
        states = [with_history(client, state) for state in reply.states]
        record = None
        if offset >= reply.log_start_offset:
            record = read_one(client, topic, partition, offset)
    value = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "name": f"{topic}/{partition}/{offset}",
        "log_start_offset": reply.log_start_offset,
        "high_watermark": reply.high_watermark,
        "record": record_row(record) if record is not None else None,
        "groups": [state_row(state, topic, partition) for state in states],
    }

    def show() -> None:
        for line in _lines(settings, value, states, record):
            click.echo(line)
        if not states:
            settings.say(f"No group reads {topic} yet.")

    print_object(value, settings.output, name="name", show=show)


def _ask(client: Client, topic: str, partition: int, offset: int, group: str) -> ExplainRecordReply:
    """What the broker knows of a record.

    Raises:
        Failure: there is no such record yet.
    """
    try:
        return client.admin.explain(topic, partition, offset, group=group, patience=LOOK_SECONDS)
    except OffsetOutOfRange as error:
        raise Failure(
            str(error),
            code=Exit.NOT_FOUND,
            hint=f"`penstock topic describe {topic}` shows where its partitions end; what waits"
            f" for its time has no place yet: `penstock schedule delayed {topic}`.",
        ) from None


def with_history(client: Client, state: RecordState) -> RecordState:
    """Of a dead letter also what happened before it died, which it carries with it."""
    if state.dead_offset < 0:
        return state
    place = (state.dead_topic, state.dead_partition, state.dead_offset)
    record = read_one(client, *place)
    if record is None:
        return state
    letter = read_letter(record, state.group)
    return replace(
        state,
        delivered=letter.delivered + state.delivered,
        failed=letter.failed + state.failed,
        timed_out=letter.timed_out + state.timed_out,
        redrives=letter.redrives + state.redrives,
        reason=state.reason or letter.reason,
        attempts=[*letter.attempts, *state.attempts],
    )


def _lines(
    settings: Settings,
    value: dict[str, Any],
    states: Sequence[RecordState],
    record: Record | None,
) -> list[str]:
    now_us, width = wall_us(), terminal_width()
    facts = [("Record", f"{value['topic']} {value['partition']}:{value['offset']}")]
    if record is not None:
        facts.append(("Time", show_moment(record.timestamp_us, now_us)))
        if record.key is not None:
            facts.append(("Key", show_bytes(record.key)))
        facts.append(("Value", _short(show_bytes(record.value))))
    elif value["offset"] < value["log_start_offset"]:
        facts.append(("Time", f"deleted: the partition begins at {value['log_start_offset']}"))
    lines = field_lines(facts, width=width)
    for state in states:
        lines.append("")
        lines += state_lines(
            state,
            value["topic"],
            value["partition"],
            now_us=now_us,
            width=width,
            whole=settings.output == "wide",
        )
    return lines


def _short(text: str) -> str:
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


def read_one(client: Client, topic: str, partition: int, offset: int) -> Record | None:
    """The record at a place; None where there is none any more (compaction, a trim)."""
    with client.subscribe(topic, partitions=[partition], start=offset) as reader:
        found = reader.fetch(max_records=1, wait=READ_SECONDS)
    return found[0] if found and found[0].offset == offset else None
