"""Records that are published for later, and schedules that publish by themselves.

Every delayed record must come out in its topic once and not before its time; every firing of a
schedule once, for a time that was due, and with `catch_up = all` for each such time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock.protocol.extensions import EXT_SCHEDULE, read_schedule
from penstock.protocol.records import RecordBatch, encode_batch
from penstock.protocol.sharing import CreateSchedule, CreateScheduleReply
from penstock_broker.simulation.broker_clients import Link, Producer

if TYPE_CHECKING:
    from penstock_broker.simulation.shared_world import SharedWorld

NUMBER: Final = 50
SCHEDULE: Final = "every-second"
SECOND_US: Final = 1_000_000


class Delayer(Producer):
    """Publishes records for later: for the same moment, for soon, for long after the faults."""

    world: SharedWorld

    def __init__(self, world: SharedWorld) -> None:
        super().__init__(world, NUMBER)
        self.due: dict[bytes, int] = {}
        """Value -> when it may come out."""
        self.accepted: set[bytes] = set()
        """Those that were acknowledged."""

    def _encode(self, sequence: int, values: list[bytes]) -> bytearray:
        return encode_batch(
            list(values),
            codec=0,
            base_ts_us=1,
            producer_id=self.id,
            base_sequence=sequence,
            deliver_at_us=self._at_us(values),
            key_slots=self.world.slots_of(values),
        )

    def _at_us(self, values: list[bytes]) -> int:
        """The time of a batch: the same however often it is sent."""
        known = self.due.get(values[0])
        if known is None:
            delay = self.world.random.choice((0.0, 0.05, 0.3, 2.0, 12.0))
            known = self.world.wall_us + int(delay * 1e6)
            self.due.update(dict.fromkeys(values, known))
        return known

    def _target(self, partition: int) -> int:
        return self.world.delayed_groups[partition]

    def _stored(self, partition: int, offset: int, values: list[bytes]) -> None:
        self.world.counts.delayed += len(values)
        self.world.counts.acked_batches += 1
        self.accepted.update(values)

    def check(self, found: list[tuple[bytes, int]]) -> None:
        """Hold what came out of the topic, with the times of appending, against what was said."""
        ours = [(value, at_us) for value, at_us in found if value in self.due]
        for value, at_us in ours:
            # What began to come out before the clock was put back goes on after a restart.
            at_us += self.world.put_back_us
            assert at_us >= self.due[value], f"{value!r} came {self.due[value] - at_us} us early"
        values = [value for value, _ in ours]
        assert len(set(values)) == len(values), "a delayed record came out twice"
        lost = self.accepted - set(values)
        assert not lost, f"delayed records are lost: {sorted(lost)[:3]}"


def create_schedule(world: SharedWorld, link: Link) -> None:
    """Have a record published every second, into one partition."""

    def answered(reply: CreateScheduleReply | PenstockError) -> None:
        assert isinstance(reply, CreateScheduleReply), reply

    ask = CreateSchedule(
        name=SCHEDULE,
        topic=world.topic,
        partition=0,
        cron="@every 1s",
        catch_up="all",
        value=b"tick-0-0",
    )
    link.ask(ask, answered)


def check_firings(world: SharedWorld, batches: list[RecordBatch]) -> None:
    """Each due time once, none left out, none early."""
    times = []
    for batch in batches:
        name_and_due = batch.extensions.get(EXT_SCHEDULE)
        if name_and_due is not None:
            _, due_us = read_schedule(name_and_due)
            assert batch.header.append_ts_us >= due_us, f"a schedule fired before {due_us}"
            times.append(due_us)
    world.counts.firings += len(times)
    expected = [times[0] + SECOND_US * number for number in range(len(times))] if times else []
    assert times == expected, f"a schedule fired for {times}"
