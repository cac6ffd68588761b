"""Records that are published for later, and schedules that publish by themselves.

Every delayed record must come out in its topic once and not before its time; every firing of a
schedule once, for a time that was due, and with `catch_up = all` for each such time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from penstock.errors import PenstockError
from penstock.protocol.extensions import EXT_SCHEDULE, read_schedule
from penstock.protocol.records import RecordBatch, encode_batch
from penstock.protocol.sharing import CreateSchedule, CreateScheduleReply
from penstock_broker.simulation.broker_clients import Link, Producer

if TYPE_CHECKING:
    from penstock_broker.simulation.shared_world import SharedCounts, SharedWorld

NUMBER: Final = 50
SCHEDULE: Final = "every-second"
SECOND_US: Final = 1_000_000


class Counting(Protocol):
    """A world with schedules."""

    @property
    def counts(self) -> SharedCounts:
        """What happened."""


class Delays:
    """When delayed records may come out, by the clocks of the brokers, which may be put back."""

    def __init__(self) -> None:
        self.due: dict[bytes, int] = {}
        """Value -> when it may come out."""
        self.accepted: set[bytes] = set()
        """Those that were acknowledged."""
        self._sent: dict[bytes, float] = {}
        self._put_back: list[tuple[float, int]] = []
        """When a clock was put back, and what it had shown."""

    def at_us(self, values: list[bytes], now: float, at_us: int) -> int:
        """The time of a batch: the one of its first sending, however often it is sent."""
        known = self.due.get(values[0])
        if known is not None:
            return known
        self.due.update(dict.fromkeys(values, at_us))
        self._sent.update(dict.fromkeys(values, now))
        return at_us

    def put_back(self, now: float, shown_us: int) -> None:
        """A clock that has shown a time is about to show an earlier one."""
        self._put_back.append((now, shown_us))

    def came(self, value: bytes, shown_us: int) -> None:
        """A record is seen for the first time, while clocks show a time at most."""
        due = self.due.get(value)
        if due is None or shown_us >= due:
            return
        # What began to come out before the clock was put back goes on after.
        earlier = [shown for at, shown in self._put_back if at >= self._sent[value]]
        early = due - max(earlier, default=shown_us)
        assert early <= 0, f"{value!r} came {early} us early"

    def check_end(self, values: list[bytes]) -> None:
        """Hold what came out of the topic against what was accepted."""
        ours = [value for value in values if value in self.due]
        assert len(set(ours)) == len(ours), "a delayed record came out twice"
        lost = self.accepted - set(ours)
        assert not lost, f"delayed records are lost: {sorted(lost)[:3]}"


class Delayer(Producer):
    """Publishes records for later: for the same moment, for soon, for long after the faults."""

    world: SharedWorld

    def __init__(self, world: SharedWorld) -> None:
        super().__init__(world, NUMBER)
        self.times = Delays()
        world.truth.came = lambda value: self.times.came(value, world.wall_us)

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
        delay = self.world.random.choice((0.0, 0.05, 0.3, 2.0, 12.0))
        return self.times.at_us(values, self.world.now, self.world.wall_us + int(delay * 1e6))

    def _target(self, partition: int) -> int:
        return self.world.delayed_groups[partition]

    def _stored(self, partition: int, offset: int, values: list[bytes]) -> None:
        self.world.counts.delayed += len(values)
        self.world.counts.acked_batches += 1
        self.times.accepted.update(values)


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


def check_firings(world: Counting, batches: list[RecordBatch]) -> None:
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
