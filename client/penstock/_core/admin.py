"""Administration: one operation per request, answered with the reply structs of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from penstock._core.metadata import Metadata
from penstock._core.positions import Start, exact_offset, resolvable
from penstock._core.reads import MetadataRead, Read, flags_of, is_linearizable
from penstock._core.requests import Requests
from penstock._core.scheduler import Operation, Scheduler
from penstock.errors import BadRequest, PenstockError
from penstock.protocol.messages import (
    AlterTopic,
    AlterTopicReply,
    BrokerStatus,
    BrokerStatusReply,
    CreateTopic,
    CreateTopicReply,
    DeleteGroup,
    DeleteGroupReply,
    DeleteTopic,
    DeleteTopicReply,
    DescribeGroup,
    DescribeGroupReply,
    DescribeTopic,
    DescribeTopicReply,
    ListGroups,
    ListGroupsReply,
    ListOffsets,
    ListOffsetsReply,
    MetadataReply,
    SeekGroup,
    SeekGroupReply,
    TopicInfo,
    TrimLog,
    TrimLogReply,
)
from penstock.protocol.messages import Metadata as MetadataRequest

T = TypeVar("T")


class Admin:
    """The administrative half of a client, as operations."""

    def __init__(self, requests: Requests, metadata: Metadata, scheduler: Scheduler) -> None:
        self._requests = requests
        self._metadata = metadata
        self._scheduler = scheduler

    def metadata(
        self, topics: Sequence[str] | None = None, read: MetadataRead = "nearest"
    ) -> Operation[MetadataReply]:
        """Nodes and topics.

        Raises:
            BadRequest: a string was given, whose letters would be taken for names.
        """
        if isinstance(topics, str):
            raise BadRequest(f"topics are a list of names, not the string {topics!r}")
        names = None if topics is None else list(topics)
        request = MetadataRequest(topics=names, linearizable=is_linearizable(read))
        return self._requests.call(request, MetadataReply)

    def list_topics(self, read: MetadataRead = "nearest") -> Operation[list[TopicInfo]]:
        """All topics by name."""
        reply = yield from self.metadata(read=read)
        return sorted(reply.topics, key=lambda topic: topic.name)

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication: int = 1,
        config: Mapping[str, object] | None = None,
        if_not_exists: bool = False,
        dry_run: bool = False,
    ) -> Operation[CreateTopicReply]:
        """Create a topic."""
        request = CreateTopic(
            name=name,
            partitions=partitions,
            replication=replication,
            config=dict(config or {}),
            if_not_exists=if_not_exists,
            dry_run=dry_run,
        )
        reply = yield from self._requests.call(request, CreateTopicReply, safe=if_not_exists)
        if not dry_run:
            self._metadata.add(reply.topic)
        return reply

    def alter_topic(
        self,
        name: str,
        config: Mapping[str, object] | None = None,
        partitions: int | None = None,
        replication: int | None = None,
        dry_run: bool = False,
    ) -> Operation[AlterTopicReply]:
        """Change a topic; repeating it changes nothing more."""
        request = AlterTopic(
            name=name,
            config=dict(config or {}),
            partitions=partitions,
            replication=replication,
            dry_run=dry_run,
        )
        reply = yield from self._requests.call(request, AlterTopicReply)
        if not dry_run:
            self._metadata.add(reply.topic)
        return reply

    def delete_topic(self, name: str, dry_run: bool = False) -> Operation[DeleteTopicReply]:
        """Delete a topic."""
        request = DeleteTopic(name=name, dry_run=dry_run)
        reply = yield from self._requests.call(request, DeleteTopicReply, safe=dry_run)
        if not dry_run:
            self._metadata.refresh(name)
        return reply

    def describe_topic(self, name: str) -> Operation[DescribeTopicReply]:
        """A topic's figures."""
        return self._requests.call(DescribeTopic(name=name), DescribeTopicReply)

    def list_offsets(
        self,
        topic: str,
        positions: Start | Mapping[int, Start] = "latest",
        read: Read = "leader",
    ) -> Operation[dict[int, int]]:
        """Resolve positions to offsets: one for all partitions, or one for each."""
        yield from self._metadata.ensure(topic)
        if isinstance(positions, Mapping):
            wanted = dict(positions)
        else:
            wanted = dict.fromkeys(self._metadata.partitions(topic), positions)
        wall_us = self._scheduler.wall_us
        raw = {number: resolvable(start, wall_us) for number, start in wanted.items()}
        found = yield from self.list_offsets_raw(topic, raw, flags_of(read))
        return found

    def list_offsets_raw(
        self, topic: str, positions: dict[int, int], flags: int = 0
    ) -> Operation[dict[int, int]]:
        """Resolve -2, -1 and times in microseconds; each leader is asked for its partitions."""
        yield from self._metadata.ensure(topic)
        by_leader: dict[int, dict[int, int]] = {}
        for number, position in positions.items():
            self._metadata.partition(topic, number)
            leader = self._metadata.leader(topic, number)
            by_leader.setdefault(leader, {})[number] = position
        found: dict[int, int] = {}
        for leader, part in by_leader.items():
            request = ListOffsets(topic=topic, positions=part, flags=flags)
            reply = yield from self._requests.call(request, ListOffsetsReply, node=leader)
            found.update(reply.offsets)
        if found.keys() != positions.keys():
            raise PenstockError(f"the broker did not resolve every position of {topic}")
        return found

    def trim(self, topic: str, partition: int, offset: int) -> Operation[TrimLogReply]:
        """Delete a partition's records below an offset."""
        yield from self._metadata.ensure(topic)
        self._metadata.partition(topic, partition)
        request = TrimLog(topic=topic, partition=partition, offset=offset)
        leader = self._metadata.leader(topic, partition)
        reply = yield from self._requests.call(request, TrimLogReply, node=leader)
        return reply

    def list_groups(self, patience: float | None = None) -> Operation[ListGroupsReply]:
        """All groups by name; with `patience` those that can be told by then."""

        def complete(reply: ListGroupsReply) -> bool:
            return not reply.missing and not any(group.missing for group in reply.groups)

        request = ListGroups(partial=patience is not None)
        return self._requests.look(request, ListGroupsReply, complete, patience or 0.0)

    def describe_group(
        self, group: str, patience: float | None = None
    ) -> Operation[DescribeGroupReply]:
        """A group's members and lag."""
        request = DescribeGroup(group=group)
        return self._requests.call(request, DescribeGroupReply, patience=patience)

    def seek_group(
        self,
        group: str,
        topic: str,
        to: Start | None = None,
        positions: Mapping[int, Start] | None = None,
        dry_run: bool = False,
        create: bool = False,
    ) -> Operation[SeekGroupReply]:
        """Move a group's committed offsets; its members go on from there."""
        if (to is None) == (positions is None):
            raise BadRequest("say where to seek: either to=... or positions={partition: ...}")
        wall_us = self._scheduler.wall_us
        exact: dict[int, int] = {}
        timed: dict[int, Start] = {}
        offset = exact_offset(to) if to is not None else None
        if offset is not None:
            yield from self._metadata.ensure(topic)
            exact = dict.fromkeys(self._metadata.partitions(topic), offset)
        for number, start in (positions or {}).items():
            found = exact_offset(start)
            if found is None:
                timed[number] = start
            else:
                exact[number] = found
        if timed:
            exact.update((yield from self.list_offsets(topic, timed)))
        request = SeekGroup(
            group=group,
            topic=topic,
            positions=exact,
            to=None if to is None or offset is not None else resolvable(to, wall_us),
            dry_run=dry_run,
            create=create,
        )
        reply = yield from self._requests.call(request, SeekGroupReply)
        return reply

    def delete_group(
        self, group: str, dry_run: bool = False, topic: str = ""
    ) -> Operation[DeleteGroupReply]:
        """Delete an empty group, or with a topic a shared one."""
        request = DeleteGroup(group=group, topic=topic, dry_run=dry_run)
        return self._requests.call(request, DeleteGroupReply, safe=dry_run)

    def status(self, node: int = 0) -> Operation[BrokerStatusReply]:
        """The figures of a broker."""
        return self._requests.call(BrokerStatus(), BrokerStatusReply, node=node)
