"""What a group knows of a record, in words and as JSON: for `why`, `group stuck` and `dlq show`.

Pure: the time of day and the width come in as arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.output import field_lines, printable, styled, wrap
from penstock.cli.units import SECOND_US, count_of, show_duration, show_moment, show_time

if TYPE_CHECKING:
    from penstock.protocol.sharing import AttemptInfo, RecordState

ERROR_LINES: Final = 6
"""Lines of the last attempt's error that people are shown: the end, where the cause stands."""

BLOCKED: Final[Mapping[str, str]] = {
    "key": "an earlier record of the same key",
    "limit": "the limit of its key or tenant",
    "window": "the window of the group is full",
    "in_flight": "max_in_flight records are with members already",
    "no_member": "no member is attached",
    "dead_letter_topic": "its dead-letter topic can't be written",
}
"""`blocked_by` of the protocol -> words; what is not here is shown as it is."""


def times(number: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def blocked_words(cause: str) -> str:
    """What keeps records from being delivered, in words."""
    return BLOCKED.get(cause, cause.replace("_", " "))


def state_row(state: RecordState, topic: str, partition: int) -> dict[str, Any]:
    """The state as a JSON object, every field; times as text, None for what is not set."""
    return {
        "topic": topic,
        "partition": partition,
        "offset": state.offset,
        "group": state.group,
        "mode": state.mode,
        "state": state.state,
        "text": state.text,
        "member": state.member,
        "host": state.host,
        "since": _time(state.since_us),
        "deadline": _time(state.deadline_us),
        "next": _time(state.next_us),
        "delivered": state.delivered,
        "failed": state.failed,
        "timed_out": state.timed_out,
        "redrives": state.redrives,
        "reason": state.reason,
        "blocked_by": state.blocked_by,
        "blocking_offset": state.blocking_offset if state.blocking_offset >= 0 else None,
        "dead_topic": state.dead_topic,
        "dead_partition": state.dead_partition if state.dead_partition >= 0 else None,
        "dead_offset": state.dead_offset if state.dead_offset >= 0 else None,
        "attempts": [attempt_row(attempt) for attempt in state.attempts],
    }


def attempt_row(attempt: AttemptInfo) -> dict[str, Any]:
    """One attempt as a JSON object."""
    return {
        "kind": attempt.kind,
        "member": attempt.member,
        "host": attempt.host,
        "reason": attempt.reason,
        "error": attempt.error,
        "granted": _time(attempt.granted_us),
        "ended": _time(attempt.ended_us),
    }


def _time(microseconds: int) -> str | None:
    return show_time(microseconds) if microseconds else None


def state_lines(
    state: RecordState,
    topic: str,
    partition: int,
    *,
    now_us: int,
    width: int | None,
    whole: bool = False,
) -> list[str]:
    """The state as a block of lines; `whole`: with errors from their first line to their last."""
    lines = [styled(f"{state.group} ({state.mode}): {state.state}", bold=True)]
    room = None if width is None else width - 2
    lines += [f"  {line}" for line in wrap(printable(state.text), room)]
    lines += field_lines(_facts(state, topic, partition, now_us), indent="  ", width=width)
    return lines + attempt_lines(state.attempts, width=width, whole=whole)


def _facts(
    state: RecordState, topic: str, partition: int, now_us: int
) -> Iterator[tuple[str, str]]:
    if state.since_us:
        yield "Since", show_moment(state.since_us, now_us)
    if state.member:
        yield "Held by", holder(state.member, state.host)
    if state.deadline_us:
        yield "Lease until", show_moment(state.deadline_us, now_us)
    if state.next_us:
        yield "Next", show_moment(state.next_us, now_us)
    counts = count_words(state.delivered, state.failed, state.timed_out, state.redrives)
    if counts:
        yield "Deliveries", counts
    if state.reason:
        yield "Reason", state.reason
    if state.blocked_by:
        yield "Blocked by", blocked_words(state.blocked_by)
    if state.blocking_offset >= 0:
        yield "See", f"penstock why {topic} {partition}:{state.blocking_offset}"
    if state.dead_topic and state.dead_offset >= 0:
        yield "Dead letter", f"{state.dead_topic} {state.dead_partition}:{state.dead_offset}"


def holder(member: str, host: str) -> str:
    """A member and where it runs."""
    return f"{member} on {host}" if host else member


def count_words(delivered: int, failed: int, timed_out: int, redrives: int) -> str:
    """`3, failed twice, timed out once`; nothing for a record that was never delivered."""
    if not (delivered or failed or timed_out or redrives):
        return ""
    parts = [f"{delivered:,}"]
    counted = ((failed, "failed"), (timed_out, "timed out"), (redrives, "redriven"))
    parts += [f"{word} {times(number)}" for number, word in counted if number]
    return ", ".join(parts)


def attempt_lines(
    attempts: Sequence[AttemptInfo], *, width: int | None, whole: bool = False
) -> list[str]:
    """The attempts that did not end well, oldest first, and the end of the last one's error."""
    lines = ["  " + styled("Attempts", bold=True)] if attempts else []
    for number, attempt in enumerate(attempts, 1):
        kind = attempt.kind.replace("_", " ")
        took = max(0, attempt.ended_us - attempt.granted_us) / SECOND_US
        parts = [f"{number:>5}  {kind} {show_time(attempt.ended_us)}"]
        parts.append(f"after {show_duration(took)}" if attempt.granted_us else "")
        parts.append(f"by {holder(attempt.member, attempt.host)}" if attempt.member else "")
        head = " ".join(filter(None, parts))
        lines += _indented(head, width, first="", rest=" " * 7)
        if attempt.reason and attempt.reason not in attempt.error:
            lines += _indented(f"reason: {attempt.reason}", width)
        if whole or number == len(attempts):
            lines += _error_lines(attempt.error, width, whole=whole)
        elif attempt.error:
            lines += _indented(error_line(attempt.error), width)
    return lines


def error_line(error: str) -> str:
    """The line of an error, or of a trace, that names it: the last one that is not indented."""
    lines = [line for line in error.splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith((" ", "\t"))]
    return printable((plain or lines or [""])[-1].strip())


def _error_lines(error: str, width: int | None, *, whole: bool) -> list[str]:
    found = error.rstrip().splitlines()
    left_out = 0 if whole else max(0, len(found) - ERROR_LINES)
    shown = []
    if left_out:
        shown.append(f"       ... {count_of(left_out, 'line')} above; -o wide shows all")
    for line in found[left_out:]:
        shown += _indented(line, width)
    return shown


def _indented(
    text: str, width: int | None, *, first: str = " " * 7, rest: str = " " * 9
) -> list[str]:
    """A line under its attempt; what has no room goes on, further in."""
    line = first + printable(text)
    if width is None or len(line) <= width:
        return [line]
    import textwrap

    # The spaces in front are part of the text: a trace is read by them.
    return textwrap.wrap(
        line, width, subsequent_indent=rest, drop_whitespace=False, break_on_hyphens=False
    )
