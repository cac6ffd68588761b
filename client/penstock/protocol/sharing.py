"""Requests and replies about shared groups, dead letters, delayed records and schedules.

As in `messages`: CBOR maps, one frozen struct each. What runs per record (acquire, settle) has
frames of its own in `penstock.protocol.leases`. Spans are flat lists `[first, count, first, count,
...]` of offsets, ascending. Times are microseconds since 1970; 0 stands for "not set".
"""

from __future__ import annotations

from msgspec import field

from penstock.protocol.messages import Message, reply, request

# ----- groups


class SharedGroupInfo(Message, frozen=True, kw_only=True):
    """A shared group as the metadata knows it."""

    topic: str
    group: str
    settings: dict[str, object]
    """What was set; the rest are defaults."""
    revision: int
    dead_topic: str
    """Its dead-letter topic; empty: dead letters are dropped and counted."""


@request(0x40)
class CreateGroup(Message, frozen=True, kw_only=True):
    """Creates a shared group on a topic, and its dead-letter topic."""

    topic: str
    group: str
    settings: dict[str, object] = field(default_factory=dict)
    start: int = -2
    """Where it begins: -2 earliest, -1 latest, else a time in microseconds."""
    if_not_exists: bool = False
    dry_run: bool = False


@reply(0x40)
class CreateGroupReply(Message, frozen=True, kw_only=True):
    """The group, created or (with `if_not_exists`) found."""

    group: SharedGroupInfo
    created: bool


@request(0x41)
class AlterGroup(Message, frozen=True, kw_only=True):
    """Changes settings of a shared group; None resets one to its default."""

    topic: str
    group: str
    settings: dict[str, object]
    dry_run: bool = False


@reply(0x41)
class AlterGroupReply(Message, frozen=True, kw_only=True):
    """The group after the change."""

    group: SharedGroupInfo


@request(0x42)
class AttachGroup(Message, frozen=True, kw_only=True):
    """Lets a member acquire records of one partition over this connection, by a handle."""

    topic: str
    partition: int
    group: str
    member: str
    """Chosen by the client; the same after a reconnect."""
    host: str = ""
    max_in_flight: int = 100
    leases: list[int] = field(default_factory=list)
    """Leases that the member still holds; its others in this partition are released."""
    epoch: int = 0
    """Grows with each attach of a member; who comes late over an old connection is refused."""


@reply(0x42)
class AttachGroupReply(Message, frozen=True, kw_only=True):
    """The member may acquire."""

    handle: int
    """For acquire and settle frames of this connection."""
    group_id: int
    """The partition's Raft group id, for the frames' header."""
    lease_ms: int
    lost: list[int]
    """Of the leases named, those that are over."""
    strict: bool
    settings: dict[str, object]


@request(0x43)
class RenewLeases(Message, frozen=True, kw_only=True):
    """Keeps leases of a member alive, on any connection."""

    topic: str
    partition: int
    group: str
    member: str
    leases: list[int]
    extend_ms: int = 0
    """Instead of the group's lease time; also lifts the limit of `hold_max_ms` for these leases."""


@reply(0x43)
class RenewLeasesReply(Message, frozen=True, kw_only=True):
    """Which of them are over."""

    lost: list[int]


@request(0x44)
class DetachGroup(Message, frozen=True, kw_only=True):
    """Ends a member's part in a partition: what it holds is released at once, uncounted."""

    topic: str
    partition: int
    group: str
    member: str


@reply(0x44)
class DetachGroupReply(Message, frozen=True, kw_only=True):
    """It is gone."""


# ----- what is the matter with a record


class AttemptInfo(Message, frozen=True, kw_only=True):
    """One delivery that did not end well."""

    kind: str
    """failed, timed_out or rejected."""
    member: str
    host: str
    reason: str
    error: str
    granted_us: int
    ended_us: int


class RecordState(Message, frozen=True, kw_only=True):
    """What one group knows of one record."""

    group: str
    mode: str
    """ordered or shared."""
    offset: int
    state: str
    """ready, leased, delayed, moving, dead, done, ahead (not reached yet), or gone (deleted)."""
    text: str
    """One sentence: what it is, and what happens next."""
    member: str = ""
    host: str = ""
    since_us: int = 0
    deadline_us: int = 0
    """When its lease runs out."""
    next_us: int = 0
    """When it is delivered or moved next, as far as that is known."""
    delivered: int = 0
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0
    reason: str = ""
    blocked_by: str = ""
    """What keeps it: key, limit, window, in_flight, no_member, dead_letter_topic, ..."""
    blocking_offset: int = -1
    dead_topic: str = ""
    dead_partition: int = -1
    dead_offset: int = -1
    """Where it lies as a dead letter, if it is known."""
    attempts: list[AttemptInfo] = field(default_factory=list)


@request(0x45)
class ExplainRecord(Message, frozen=True, kw_only=True):
    """Asks what has become of a record, for each group."""

    topic: str
    partition: int
    offset: int
    group: str = ""
    """Empty: all groups."""


@reply(0x45)
class ExplainRecordReply(Message, frozen=True, kw_only=True):
    """One state for each group."""

    log_start_offset: int
    high_watermark: int
    states: list[RecordState]


@request(0x46)
class StuckRecords(Message, frozen=True, kw_only=True):
    """Asks which records of a partition hold a shared group back, oldest first."""

    topic: str
    partition: int
    group: str
    limit: int = 20


@reply(0x46)
class StuckRecordsReply(Message, frozen=True, kw_only=True):
    """The oldest records that are not settled, and why."""

    states: list[RecordState]


# ----- figures


class MemberInFlight(Message, frozen=True, kw_only=True):
    """A member of a shared group in one partition."""

    member: str
    host: str
    attached: bool
    in_flight: int
    oldest_us: int
    """When the oldest of its leases was granted."""


class SharedFigures(Message, frozen=True, kw_only=True):
    """A shared group in one partition."""

    partition: int
    start: int
    """First offset that is not settled."""
    end: int
    """First offset that was never granted."""
    high_watermark: int
    ready: int
    """Records that could be delivered now, those never granted included."""
    leased: int
    delayed: int
    moving: int
    held: int
    in_flight_max: int
    oldest_unacked_us: int
    """When the oldest record that is not settled was appended; 0: there is none."""
    next_ready_us: int
    blocked_by: str
    counters: dict[str, int]
    """delivered, acked, failed, timed_out, released, rejected, exhausted, overtaken, ..."""
    time_in_queue_ms: dict[str, float]
    """Percentiles from append to ack: p50, p90, p99, max."""
    attempts: dict[int, int]
    """Failed attempts -> records not settled that had so many."""
    members: list[MemberInFlight]


@request(0x47)
class DescribeShared(Message, frozen=True, kw_only=True):
    """Asks for the figures of a shared group on a topic."""

    topic: str
    group: str


@reply(0x47)
class DescribeSharedReply(Message, frozen=True, kw_only=True):
    """The group, and its figures in each partition."""

    group: SharedGroupInfo
    partitions: list[SharedFigures]
    missing: list[int] = field(default_factory=list)
    """Partitions that nobody told of: they have no leader, or one that knows of no group yet."""


# ----- dead letters


@request(0x48)
class HeldRuns(Message, frozen=True, kw_only=True):
    """Asks where the dead letters of a dead-letter topic's partition lie."""

    topic: str
    """The dead-letter topic."""
    partition: int
    group: str
    first: int = 0
    limit: int = 10_000
    """Runs in the reply."""


@reply(0x48)
class HeldRunsReply(Message, frozen=True, kw_only=True):
    """Runs of records that wait for a redrive."""

    spans: list[int]
    end: int
    """Look from here for more; equal to the log's end when there is nothing more."""
    high_watermark: int


@request(0x49)
class Redrive(Message, frozen=True, kw_only=True):
    """Gives dead letters back to their group, each at most once for each time it died."""

    topic: str
    """The dead-letter topic."""
    partition: int
    group: str
    spans: list[int]
    force: bool = False
    """Also those that were redriven `redrives_max` times."""


@reply(0x49)
class RedriveReply(Message, frozen=True, kw_only=True):
    """How many are on their way."""

    redriven: int
    looping: list[int]
    """Spans refused by the loop guard."""
    absent: list[int]
    """Spans that were no dead letters (any more)."""


@request(0x4A)
class PurgeRecords(Message, frozen=True, kw_only=True):
    """Settles dead letters without delivering them again."""

    topic: str
    partition: int
    group: str
    spans: list[int]


@reply(0x4A)
class PurgeRecordsReply(Message, frozen=True, kw_only=True):
    """How many were settled by this."""

    purged: int


# ----- delayed records


@request(0x50)
class EnableDelays(Message, frozen=True, kw_only=True):
    """Makes sure that records of a topic can be delayed."""

    topic: str


@reply(0x50)
class EnableDelaysReply(Message, frozen=True, kw_only=True):
    """The topic where delayed batches are published, partition for partition."""

    delayed_topic: str


class ScheduledRecord(Message, frozen=True, kw_only=True):
    """Records that wait for their time."""

    id: int
    """For cancelling: the offset of the first of them in the topic of delayed batches."""
    count: int
    deliver_at_us: int


@request(0x51)
class ListScheduled(Message, frozen=True, kw_only=True):
    """Asks for records of a partition that wait for their time, soonest first."""

    topic: str
    partition: int
    after_us: int = 0
    after_id: int = -1
    """With `after_us`: go on behind this one."""
    limit: int = 1000


@reply(0x51)
class ListScheduledReply(Message, frozen=True, kw_only=True):
    """A page of them, and how many there are in all."""

    scheduled: list[ScheduledRecord]
    total: int


@request(0x52)
class CancelScheduled(Message, frozen=True, kw_only=True):
    """Cancels records that wait for their time."""

    topic: str
    partition: int
    ids: list[int]


@reply(0x52)
class CancelScheduledReply(Message, frozen=True, kw_only=True):
    """Which were cancelled by this; the others have fired, were cancelled before, or never were."""

    cancelled: list[int]


# ----- recurring schedules


class ScheduleInfo(Message, frozen=True, kw_only=True):
    """A recurring schedule."""

    name: str
    topic: str
    partition: int
    cron: str
    time_zone: str
    catch_up: str
    """After a stop: skip what was missed, fire one, or fire all."""
    value: bytes | None
    key: bytes | None
    headers: dict[str, bytes]
    paused: bool
    fired: int
    last_us: int
    """The time that the last firing was for."""
    next_us: int


@request(0x53)
class CreateSchedule(Message, frozen=True, kw_only=True):
    """Has a record published again and again, at the times of a cron expression."""

    name: str
    topic: str
    partition: int
    cron: str
    time_zone: str = "UTC"
    catch_up: str = "one"
    value: bytes | None = None
    key: bytes | None = None
    headers: dict[str, bytes] = field(default_factory=dict)
    replace: bool = False


@reply(0x53)
class CreateScheduleReply(Message, frozen=True, kw_only=True):
    """The schedule."""

    schedule: ScheduleInfo


@request(0x54)
class ListSchedules(Message, frozen=True, kw_only=True):
    """Asks for the recurring schedules of a topic's partitions that this broker leads."""

    topic: str


@reply(0x54)
class ListSchedulesReply(Message, frozen=True, kw_only=True):
    """By name."""

    schedules: list[ScheduleInfo]


@request(0x55)
class PauseSchedule(Message, frozen=True, kw_only=True):
    """Pauses a schedule or lets it go on; what was due meanwhile follows its catch-up policy."""

    topic: str
    name: str
    paused: bool


@reply(0x55)
class PauseScheduleReply(Message, frozen=True, kw_only=True):
    """The schedule after the change."""

    schedule: ScheduleInfo


@request(0x56)
class DeleteSchedule(Message, frozen=True, kw_only=True):
    """Deletes a schedule; what it has published stays."""

    topic: str
    name: str


@reply(0x56)
class DeleteScheduleReply(Message, frozen=True, kw_only=True):
    """It is gone."""
