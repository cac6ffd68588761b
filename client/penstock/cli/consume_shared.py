"""`penstock consume --mode shared`: a member of a shared group that prints, or runs a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from penstock.cli.printing import Printer
from penstock.cli.records import record_name
from penstock.cli.settings import Failure, Settings
from penstock.cli.spans import FETCH_SECONDS, Choice
from penstock.cli.units import Position, count_of

if TYPE_CHECKING:
    from penstock.sync import Client, SharedRecord, SharedSubscription

OnError = Literal["nack", "reject", "stop"]
END_SECONDS: Final = 0.5
"""Silence after which a member that does not follow is through: nothing is ready."""
END_SECONDS_FEW: Final = 1.5
"""The same for one with few credits: it asks the partitions in turn, which takes half a second."""
FEW: Final = 8
ERROR_BYTES: Final = 2000
"""Of what a failed command said: its end."""


@dataclass(frozen=True)
class Work:
    """What a member does with its records.

    Attributes:
        start: where a group begins that is made by this.
        choice: records that do not fit are acknowledged without being printed.
        command: run for each record, with the value on its input; None: the record is printed.
        on_error: what becomes of a record whose command fails.
    """

    topic: str
    group: str
    choice: Choice
    max_in_flight: int
    start: Position
    limit: int | None = None
    follow: bool = False
    command: str | None = None
    on_error: OnError = "nack"


class _Member:
    """Settles what it fetches: after it is printed, or as its command ends."""

    def __init__(
        self, settings: Settings, work: Work, member: SharedSubscription, printer: Printer
    ) -> None:
        self.settings = settings
        self.work = work
        self.member = member
        self.printer = printer
        self.done = self.failed = 0

    def run(self) -> None:
        """Fetch and settle until the limit or, without --follow, until nothing is ready."""
        work = self.work
        silence = END_SECONDS_FEW if work.max_in_flight <= FEW else END_SECONDS
        wait = FETCH_SECONDS if work.follow else silence
        while work.limit is None or self.done + self.failed < work.limit:
            most = work.max_in_flight
            if work.limit is not None:
                most = min(most, work.limit - self.done - self.failed)
            records = self.member.fetch(max_records=most, wait=wait)
            if not records and not work.follow:
                return
            self._settle(records)

    def _settle(self, records: Sequence[SharedRecord]) -> None:
        """Whatever ends this early, what was not printed or run goes back at once."""
        open_records = list(records)
        try:
            if self.work.command is None:
                self.printer.show([record for record in records if self.work.choice(record)])
                open_records.clear()
                self.member.ack_many(records)
                self.done += len(records)
            else:
                while open_records:
                    self._run_one(open_records.pop(0), self.work.command)
            self.member.flush()
        finally:
            for record in open_records:
                record.release()

    def _run_one(self, record: SharedRecord, command: str) -> None:
        if not self.work.choice(record):
            record.ack()
            return
        try:
            code, said = _run(command, record)
        except BaseException:
            record.release()  # interrupted: not the record's fault
            raise
        if code == 0:
            record.ack()
            self.done += 1
            return
        self.failed += 1
        reason = f"exit {code}" if code > 0 else f"signal {-code}"
        self.settings.say(f"{record_name(record)} failed ({reason}), attempt {record.attempt}")
        if self.work.on_error == "stop":
            record.release()
            raise Failure(
                f"the command failed for {record_name(record)} ({reason}): "
                "it is handed back, no attempt counted"
            )
        if self.work.on_error == "reject":
            record.reject(reason, error=said)
        else:
            record.nack(reason=reason, error=said)


def _run(command: str, record: SharedRecord) -> tuple[int, str]:
    """The exit code and the end of what a command says about a record."""
    import os
    import subprocess

    place = {
        "PENSTOCK_TOPIC": record.topic,
        "PENSTOCK_PARTITION": str(record.partition),
        "PENSTOCK_OFFSET": str(record.offset),
        "PENSTOCK_ATTEMPT": str(record.attempt),
        "PENSTOCK_KEY": (record.key or b"").decode("utf-8", "replace").replace("\0", ""),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        input=record.value or b"",
        stderr=subprocess.PIPE,
        env={**os.environ, **place},
        check=False,
    )
    return done.returncode, done.stderr[-ERROR_BYTES:].decode("utf-8", "replace").strip()


def consume_shared(settings: Settings, client: Client, work: Work) -> None:
    """Work as a member of a shared group."""
    printer = Printer(settings.output)
    with client.subscribe(
        work.topic,
        group=work.group,
        mode="shared",
        start=work.start,
        max_in_flight=work.max_in_flight,
    ) as subscription:
        member = _Member(settings, work, subscription, printer)
        member.run()
    if work.command is None:
        printer.end()
        if not printer.printed:
            settings.say(f"nothing on {work.topic} is ready for {work.group}")
        return
    failed = f", {member.failed:,} failed" if member.failed else ""
    settings.say(f"{count_of(member.done, 'record')} done{failed}")
