"""Brokers in memory that speak the real frames: no sockets, no clock of their own.

A `FakeCluster` holds topics, groups and nodes; a `FakeConnection` takes bytes and gives bytes. What
producers and groups may do is decided by the broker's own machines, so that the fake can't be more
lenient than the real one. Faults are set from outside: refusals, silence, moved leaders.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from penstock.errors import (
    BadRequest,
    GroupNotFound,
    NotLeader,
    OffsetOutOfRange,
    PenstockError,
    TopicExists,
    TopicNotFound,
    from_wire,
)
from penstock.protocol import messages, sharing
from penstock.protocol.batch import Kind, check_publish, next_offset, parse_header, stamp
from penstock.protocol.codec import decode_request, encode_error, encode_message
from penstock.protocol.frames import (
    FETCH,
    FETCH_REPLY,
    FETCH_REQUEST,
    FLAG_DUPLICATE,
    FLAG_RESPONSE,
    FRAME_HEADER_BYTES,
    PUBLISH,
    PUBLISH_REPLY,
    PUBLISH_REQUEST,
    PUBLISH_REQUEST_BYTES,
    REPLY_BYTES,
    REQUEST_BYTES_MAX,
    Frame,
    scan,
)
from penstock.protocol.leases import ACQUIRE, SETTLE
from penstock.protocol.record_batch import RecordBatch
from penstock_broker.machine import commands
from penstock_broker.machine.commands import Refused, TopicRef
from penstock_broker.machine.groups import GroupsMachine
from penstock_broker.machine.stamp import Stamp
from tests.client import fake_sharing
from tests.client.fake_log import Partition, Topic
from tests.client.fake_sharing import AcquirePoll, Shared

CREDIT = 16 * 1024 * 1024


@dataclass
class Poll:
    """A fetch that waits for records."""

    connection: FakeConnection
    partition: Partition
    correlation: int
    offset: int
    max_bytes: int
    until: float

    @property
    def ready(self) -> bool:
        return self.partition.end > self.offset

    def answer(self) -> None:
        self.connection.answer_fetch(self)


class FakeCluster:
    """Brokers "node1:7400", "node2:7400", ... that share their data.

    Attributes:
        refusals: (frame type, error) that answer the next requests of those types.
        silent: frame types that are carried out and not answered.
        deaf: frame types that are not even carried out.
        answers_everything: fetches are answered from the start, whatever they ask for.
        seen: how many requests of each frame type came.
    """

    def __init__(self, nodes: int = 1, **topics: int) -> None:
        self.nodes = list(range(1, nodes + 1))
        self.now = 0.0
        self.wall_us = 1_700_000_000_000_000
        self.topics: dict[str, Topic] = {}
        self.groups = GroupsMachine()
        self.refusals: deque[tuple[int, PenstockError]] = deque()
        self.silent: set[int] = set()
        self.deaf: set[int] = set()
        self.seen: dict[int, int] = defaultdict(int)
        self.polls: list[Poll | AcquirePoll] = []
        self.shared: dict[tuple[str, str, int], Shared] = {}
        self.definitions: set[tuple[str, str]] = set()
        self.lease_ms = fake_sharing.LEASE_MS
        self.configs: dict[str, dict[str, object]] = {}
        self.granted_bytes = 0
        self.runs_max = 3
        self.settled_entries: list[int] = []
        self.answers_everything = False
        self.credit = CREDIT
        self.batch_bytes_max = 1024 * 1024
        self._index = 0
        self._next_group = 1
        for name, partitions in topics.items():
            self.create(name, partitions)

    def create(self, name: str, partitions: int) -> Topic:
        """Make a topic, its leaders spread over the nodes."""
        made = []
        for number in range(partitions):
            made.append(Partition(self._next_group, self.nodes[number % len(self.nodes)]))
            self._next_group += 1
        topic = self.topics[name] = Topic(f"{name}-{self._next_group}", made)
        return topic

    def partition(self, topic: str, number: int = 0) -> Partition:
        """One partition."""
        return self.topics[topic].partitions[number]

    def values(self, topic: str) -> list[bytes | None]:
        """Every stored value of a topic."""
        return [value for part in self.topics[topic].partitions for value in part.values()]

    def define(self, topic: str, group: str, *, hold: bool = False) -> None:
        """Make a shared group."""
        self.definitions.add((topic, group))
        for number, partition in enumerate(self.topics[topic].partitions):
            made = Shared(topic, group, partition, hold=hold)
            self.shared.setdefault((topic, group, number), made)

    def find(self, group: int) -> Partition:
        """The partition of a Raft group."""
        for topic in self.topics.values():
            for partition in topic.partitions:
                if partition.group == group:
                    return partition
        raise TopicNotFound("the partition is gone")

    def wake(self) -> None:
        """Answer the polls that have something now, or whose time is over."""
        waiting, self.polls = self.polls, []
        for poll in waiting:
            if poll.connection.closed:
                continue
            if poll.ready or self.now >= poll.until:
                poll.answer()
            else:
                self.polls.append(poll)

    def next_deadline(self) -> float:
        """When the next poll ends."""
        return min((poll.until for poll in self.polls), default=float("inf"))

    def apply(self, command: commands.Command) -> object:
        """Carry out a command on the groups; refusals are raised."""
        self._index += 1
        reply, _ = self.groups.apply(command, Stamp(self._index, 1, self.wall_us))
        if isinstance(reply, Refused):
            raise from_wire(reply.code, reply.message, reply.detail)
        return reply

    def reference(self, name: str) -> TopicRef:
        """A topic as the groups know it."""
        topic = self.topics.get(name)
        if topic is None:
            raise TopicNotFound(f"there is no topic {name!r}")
        return TopicRef(name=name, id=topic.id, partitions=len(topic.partitions), revision=1)

    def info(self, name: str) -> messages.TopicInfo:
        """A topic as metadata has it."""
        topic = self.topics[name]
        return messages.TopicInfo(
            name=name,
            id=topic.id,
            partitions=[
                messages.PartitionInfo(
                    partition=number,
                    group=each.group,
                    leader=each.leader,
                    term=1,
                    replicas=self.nodes,
                )
                for number, each in enumerate(topic.partitions)
            ],
            config=self.configs.get(name, {}),
        )


class FakeConnection:
    """One connection to one node of a cluster."""

    def __init__(self, cluster: FakeCluster, node: int) -> None:
        self.cluster = cluster
        self.node = node
        self.out = bytearray()
        self.greeted = False
        self.closed = False
        self.handles: list[tuple[Shared, str]] = []
        self._in = bytearray()

    def receive(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._in += data
        frames, _ = scan(self._in, 0, len(self._in), REQUEST_BYTES_MAX)
        taken = bytes(self._in)
        for frame in frames:
            self._handle(taken, frame)
        if frames:
            del self._in[: frames[-1].end]

    def take(self) -> bytes:
        """The bytes for the client."""
        out = bytes(self.out)
        self.out.clear()
        return out

    def _handle(self, data: bytes, frame: Frame) -> None:
        cluster = self.cluster
        cluster.seen[frame.type] += 1
        if frame.type in cluster.deaf:
            return
        before = len(self.out)
        try:
            if cluster.refusals and cluster.refusals[0][0] == frame.type:
                raise cluster.refusals.popleft()[1]
            if frame.type == PUBLISH:
                self._publish(data, frame)
            elif frame.type == FETCH:
                self._fetch(data, frame)
            elif frame.type == ACQUIRE:
                fake_sharing.acquire(self, data, frame)
            elif frame.type == SETTLE:
                fake_sharing.settle(self, data, frame)
            else:
                self._request(data, frame)
        except PenstockError as error:
            acks = data[frame.start + FRAME_HEADER_BYTES] if frame.type == PUBLISH else 1
            if acks:
                self.out += encode_error(frame.correlation, frame.type, error)
        if frame.type in cluster.silent:
            del self.out[before:]

    def handle(self, number: int) -> tuple[Shared, str]:
        """What an attach gave."""
        return fake_sharing.handle_of(self, number)

    def _leading(self, group: int) -> Partition:
        partition = self.cluster.find(group)
        if partition.leader != self.node:
            raise NotLeader(leader=partition.leader)
        return partition

    # ----- hot frames

    def _publish(self, data: bytes, frame: Frame) -> None:
        fields = PUBLISH_REQUEST.unpack_from(data, frame.start)
        partition = self._leading(frame.group)
        batch = bytearray(data[frame.start + PUBLISH_REQUEST_BYTES : frame.end])
        head = check_publish(batch, self.cluster.batch_bytes_max)
        found = self._duplicate(partition, batch)
        if found is None:
            offset, time_us = partition.end, self.cluster.wall_us
            partition.index += 1
            stamp(batch, Kind.DATA, partition.index, 1, 1, offset, time_us)
            partition.batches.append(batch)
            partition.end += parse_header(batch).record_count
            if parse_header(batch).producer_id:
                partition.producers.apply(head, partition.index, offset, time_us)
            flags = 0
        else:
            offset, time_us = found
            flags = FLAG_DUPLICATE
        if fields[6]:
            self.out += PUBLISH_REPLY.pack(
                REPLY_BYTES,
                PUBLISH,
                FLAG_RESPONSE | flags,
                0,
                frame.correlation,
                frame.group,
                offset,
                time_us,
            )
        self.cluster.wake()

    def _duplicate(self, partition: Partition, batch: bytearray) -> tuple[int, int] | None:
        if parse_header(batch).producer_id:
            found = partition.producers.check(check_publish(batch))
            return None if found is None else (found.base_offset, found.append_ts_us)
        dedup_id = RecordBatch(batch, verify=False).extensions.get(1)
        if dedup_id is None:
            return None
        if dedup_id in partition.dedup_ids:
            return partition.dedup_ids[dedup_id]
        partition.dedup_ids[dedup_id] = partition.end, self.cluster.wall_us
        return None

    def _fetch(self, data: bytes, frame: Frame) -> None:
        offset, size, _, wait_ms, _ = FETCH_REQUEST.unpack_from(data, frame.start)[6:]
        partition = self._leading(frame.group)
        if not partition.start <= offset <= partition.end:
            raise OffsetOutOfRange(f"{offset} is outside {partition.start} to {partition.end}")
        until = self.cluster.now + wait_ms / 1000
        poll = Poll(self, partition, frame.correlation, offset, size, until)
        if offset == partition.end and wait_ms:
            self.cluster.polls.append(poll)
        else:
            self.answer_fetch(poll)

    def answer_fetch(self, poll: Poll) -> None:
        """Answer a fetch with whole batches."""
        run = bytearray()
        for batch in poll.partition.batches:
            header = parse_header(batch)
            passed = next_offset(batch, header) <= poll.offset
            if passed and not self.cluster.answers_everything:
                continue
            if run and len(run) + len(batch) > poll.max_bytes:
                break
            run += batch
        self.out += FETCH_REPLY.pack(
            REPLY_BYTES + len(run),
            FETCH,
            FLAG_RESPONSE,
            0,
            poll.correlation,
            poll.partition.group,
            poll.partition.end,
            poll.partition.start,
        )
        self.out += run

    # ----- messages

    def _request(self, data: bytes, frame: Frame) -> None:
        asked = decode_request(frame.type, data[frame.start + FRAME_HEADER_BYTES : frame.end])
        answer = HANDLERS.get(type(asked))
        if answer is None:
            raise BadRequest(f"the fake knows no {type(asked).__name__}")
        self.out += encode_message(answer(self, asked), frame.correlation)

    def _hello(self, asked: messages.Hello) -> messages.HelloReply:
        self.greeted = True
        return messages.HelloReply(
            version=1,
            node=self.node,
            cluster="fake",
            broker="fake",
            frame_bytes_max=REQUEST_BYTES_MAX,
            batch_bytes_max=self.cluster.batch_bytes_max,
            credit_bytes=self.cluster.credit,
        )

    def _metadata(self, asked: messages.Metadata) -> messages.MetadataReply:
        names = self.cluster.topics if asked.topics is None else asked.topics
        return messages.MetadataReply(
            cluster="fake",
            nodes=[messages.Node(id=n, address=f"node{n}:7400") for n in self.cluster.nodes],
            topics=[self.cluster.info(name) for name in names if name in self.cluster.topics],
        )

    def _create(self, asked: messages.CreateTopic) -> messages.CreateTopicReply:
        if asked.name in self.cluster.topics:
            if not asked.if_not_exists:
                raise TopicExists(f"there is a topic {asked.name!r}")
            return messages.CreateTopicReply(topic=self.cluster.info(asked.name), created=False)
        self.cluster.create(asked.name, asked.partitions)
        return messages.CreateTopicReply(topic=self.cluster.info(asked.name), created=True)

    def _list_offsets(self, asked: messages.ListOffsets) -> messages.ListOffsetsReply:
        found = {}
        for number, position in asked.positions.items():
            partition = self._leading(self.cluster.partition(asked.topic, number).group)
            found[number] = {-2: partition.start, -1: partition.end}.get(position, 0)
        return messages.ListOffsetsReply(offsets=found)

    def _join(self, asked: messages.JoinGroup) -> messages.JoinGroupReply:
        command = commands.Join(
            group=asked.group,
            member=asked.member,
            topics=asked.topics,
            session_timeout_ms=asked.session_timeout_ms,
            host=asked.host,
            refs=[self.cluster.reference(name) for name in asked.topics],
        )
        view = self.cluster.apply(command)
        return messages.JoinGroupReply(
            member=asked.member,
            assignment=messages.Assignment(
                generation=view.generation, owned=view.owned, revoked=view.revoked
            ),
            offsets=view.offsets,
            heartbeat_ms=asked.session_timeout_ms // 4,
        )

    def _heartbeat(self, asked: messages.GroupHeartbeat) -> messages.GroupHeartbeatReply:
        if any(asked.released.values()):
            command = commands.Release(
                group=asked.group,
                member=asked.member,
                generation=asked.generation,
                partitions=asked.released,
            )
            view = self.cluster.apply(command)
        else:
            view = self.cluster.groups.heartbeat(asked.group, asked.member, asked.generation)
            if isinstance(view, Refused):
                raise from_wire(view.code, view.message, view.detail)
        return messages.GroupHeartbeatReply(
            assignment=messages.Assignment(
                generation=view.generation, owned=view.owned, revoked=view.revoked
            ),
            offsets=view.offsets,
        )

    def _leave(self, asked: messages.LeaveGroup) -> messages.LeaveGroupReply:
        self.cluster.apply(commands.Leave(group=asked.group, member=asked.member))
        return messages.LeaveGroupReply()

    def _commit(self, asked: messages.CommitOffsets) -> messages.CommitOffsetsReply:
        command = commands.Commit(
            group=asked.group,
            member=asked.member,
            generation=asked.generation,
            offsets=asked.offsets,
            refs=[],
        )
        self.cluster.apply(command)
        return messages.CommitOffsetsReply()

    def _seek(self, asked: messages.SeekGroup) -> messages.SeekGroupReply:
        if not asked.create and self.cluster.groups.describe(asked.group) is None:
            raise GroupNotFound(f"there is no group {asked.group!r}")
        reference = self.cluster.reference(asked.topic)
        command = commands.Seek(group=asked.group, topic=reference, positions=asked.positions)
        plan = self.cluster.apply(command)
        return messages.SeekGroupReply(plan=plan.plan)

    def _describe_group(self, asked: messages.DescribeGroup) -> messages.DescribeGroupReply:
        found = self.cluster.groups.describe(asked.group)
        if found is None:
            raise GroupNotFound(f"there is no group {asked.group!r}")
        return messages.DescribeGroupReply(
            group=asked.group,
            mode="ordered",
            generation=found.generation,
            members=[],
            partitions=[
                messages.PartitionLag(
                    topic=topic,
                    partition=number,
                    committed=position[0],
                    log_start_offset=0,
                    high_watermark=0,
                    lag=0,
                    member="",
                )
                for topic, positions in found.positions.items()
                for number, position in positions.items()
            ],
        )


HANDLERS: dict[type, Callable] = {
    messages.Hello: FakeConnection._hello,
    messages.Metadata: FakeConnection._metadata,
    messages.CreateTopic: FakeConnection._create,
    messages.ListOffsets: FakeConnection._list_offsets,
    messages.JoinGroup: FakeConnection._join,
    messages.GroupHeartbeat: FakeConnection._heartbeat,
    messages.LeaveGroup: FakeConnection._leave,
    messages.CommitOffsets: FakeConnection._commit,
    messages.SeekGroup: FakeConnection._seek,
    messages.DescribeGroup: FakeConnection._describe_group,
    sharing.CreateGroup: fake_sharing.create,
    sharing.AttachGroup: fake_sharing.attach,
    sharing.RenewLeases: fake_sharing.renew,
    sharing.DetachGroup: fake_sharing.detach,
    sharing.HeldRuns: fake_sharing.held_runs,
    sharing.Redrive: fake_sharing.redrive,
    sharing.PurgeRecords: fake_sharing.purge,
    sharing.ExplainRecord: fake_sharing.explain,
    sharing.EnableDelays: fake_sharing.enable_delays,
}
