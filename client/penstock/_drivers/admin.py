"""Administration for async programs: the operations of the core, awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from penstock._core import admin
from penstock._core.options import Duration, seconds
from penstock._core.positions import Start
from penstock._core.reads import MetadataRead, Read
from penstock._drivers.cluster_admin import AsyncClusterAdmin
from penstock._drivers.shared_admin import AsyncSharedAdmin
from penstock.protocol.messages import (
    AlterTopicReply,
    BrokerStatusReply,
    CreateTopicReply,
    DeleteGroupReply,
    DeleteTopicReply,
    DescribeGroupReply,
    DescribeTopicReply,
    ListGroupsReply,
    MetadataReply,
    SeekGroupReply,
    TopicInfo,
    TrimLogReply,
)

if TYPE_CHECKING:
    from penstock._drivers.facade import Driver


class Admin(AsyncSharedAdmin, AsyncClusterAdmin):
    """Administration of a cluster; every method asks a broker and returns what it says.

    All raise `ConnectionLost` when no broker can be reached in time, and `NotLeader`,
    `LeaderUnknown`, `Throttled` or `TimedOut` when brokers kept refusing until then.
    """

    def __init__(self, driver: Driver, core: admin.Admin) -> None:
        self._driver = driver
        self._admin = core
        self._shared = driver.core.shared_admin
        self._cluster = driver.core.cluster_admin

    async def metadata(
        self, topics: Sequence[str] | None = None, *, read: MetadataRead = "nearest"
    ) -> MetadataReply:
        """Nodes and topics, all of them or those named; names that do not exist are left out.

        The broker that answers may be a moment behind; with `read="linearizable"` it makes sure
        first that it knows all that was decided before it was asked.

        Raises:
            LeaderUnknown: nobody can make sure of that now.
            BadRequest: `topics` is a string, or there is no such kind of read.
        """
        return await self._driver.run(self._admin.metadata(topics, read))

    async def list_topics(self, *, read: MetadataRead = "nearest") -> list[TopicInfo]:
        """All topics by name; `read` as for `metadata`."""
        return await self._driver.run(self._admin.list_topics(read))

    async def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication: int = 1,
        config: Mapping[str, object] | None = None,
        *,
        if_not_exists: bool = False,
        dry_run: bool = False,
    ) -> CreateTopicReply:
        """Create a topic; its keys of configuration are listed in the guide.

        Raises:
            TopicExists: there is one, and `if_not_exists` was not given.
            InvalidName, InvalidConfig: the broker does not take it.
        """
        return await self._driver.run(
            self._admin.create_topic(name, partitions, replication, config, if_not_exists, dry_run)
        )

    async def alter_topic(
        self,
        name: str,
        config: Mapping[str, object] | None = None,
        *,
        partitions: int | None = None,
        replication: int | None = None,
        dry_run: bool = False,
    ) -> AlterTopicReply:
        """Change configuration keys (None resets one), add partitions, change the replication.

        Replicas come and go in the background: `list_partitions` shows how far that is.

        Raises:
            TopicNotFound: there is no such topic.
        """
        return await self._driver.run(
            self._admin.alter_topic(name, config, partitions, replication, dry_run)
        )

    async def delete_topic(self, name: str, *, dry_run: bool = False) -> DeleteTopicReply:
        """Delete a topic and its records.

        Raises:
            TopicNotFound: there is no such topic.
        """
        return await self._driver.run(self._admin.delete_topic(name, dry_run))

    async def describe_topic(self, name: str) -> DescribeTopicReply:
        """A topic with the figures of its partitions.

        Raises:
            TopicNotFound: there is no such topic.
        """
        return await self._driver.run(self._admin.describe_topic(name))

    async def list_offsets(
        self,
        topic: str,
        positions: Start | Mapping[int, Start] = "latest",
        *,
        read: Read = "leader",
    ) -> dict[int, int]:
        """Resolve "earliest", "latest", a datetime or "-1h": partition -> offset.

        With `read="linearizable"` the leaders make sure that they still lead.

        Raises:
            TopicNotFound, PartitionNotFound: there is nothing of that name or number.
        """
        return await self._driver.run(self._admin.list_offsets(topic, positions, read))

    async def trim(self, topic: str, partition: int, offset: int) -> TrimLogReply:
        """Delete a partition's records below an offset.

        Raises:
            OffsetOutOfRange: the offset lies beyond the log's end.
        """
        return await self._driver.run(self._admin.trim(topic, partition, offset))

    async def list_groups(self, *, patience: Duration | None = None) -> ListGroupsReply:
        """All groups, one line each.

        Args:
            patience: how long to wait for coordinators and partitions without a leader; then the
                groups that are known are told, and `missing` says how many coordinators are not
                heard. By default all groups are told, or that is an error. Each group's own
                `missing` says how many partitions its lag leaves out.
        """
        limit = None if patience is None else seconds(patience, "patience")
        return await self._driver.run(self._admin.list_groups(limit))

    async def describe_group(
        self, group: str, *, patience: Duration | None = None
    ) -> DescribeGroupReply:
        """A group's members, committed offsets and lag; `missing` names partitions without leader.

        Args:
            group: its name.
            patience: how long to wait while its coordinator has no leader, if not as long as for
                any request.

        Raises:
            GroupNotFound: there is no such group.
            LeaderUnknown: its coordinator has no leader.
        """
        limit = None if patience is None else seconds(patience, "patience")
        return await self._driver.run(self._admin.describe_group(group, limit))

    async def seek_group(
        self,
        group: str,
        topic: str,
        to: Start | None = None,
        *,
        positions: Mapping[int, Start] | None = None,
        dry_run: bool = False,
        create: bool = False,
    ) -> SeekGroupReply:
        """Move a group's committed offsets, on a live group too: a topic, or some partitions.

        With `create` a group that does not exist yet is made.

        Raises:
            GroupNotFound: there is no such group.
            OffsetOutOfRange: an offset lies outside the log.
        """
        operation = self._admin.seek_group(group, topic, to, positions, dry_run, create)
        return await self._driver.run(operation)

    async def delete_group(
        self, group: str, topic: str | None = None, *, dry_run: bool = False
    ) -> DeleteGroupReply:
        """Delete a group without members: an ordered one, or a shared one of a topic.

        Of an ordered group the committed offsets go, of a shared one all that it knows of records;
        its dead letters stay in their topic.

        Raises:
            GroupNotEmpty: it has members.
        """
        return await self._driver.run(self._admin.delete_group(group, dry_run, topic or ""))

    async def status(self, node: int = 0) -> BrokerStatusReply:
        """The figures of a broker, any one unless a node is named."""
        return await self._driver.run(self._admin.status(node))
