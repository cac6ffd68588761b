"""How a node comes to belong to a cluster, once in the life of its data directory.

A directory with an identity goes on as that node. A fresh one that is told to join nobody founds a
cluster of its own; else it belongs to none until `penstock cluster init` is said to it, or one of
those it shall join takes it in. Invariant: group 0 starts only when this is settled, and an
identity is durable before the node acts under it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    ClusterUnformed,
    LeaderUnknown,
    NotLeader,
    PenstockError,
    PreconditionFailed,
    ShuttingDown,
    TopicNotFound,
    from_wire,
)
from penstock.protocol.cluster import (
    ClusterStatus,
    InitCluster,
    InitClusterReply,
    JoinCluster,
    JoinClusterReply,
)
from penstock.protocol.messages import TYPE_OF, BrokerStatus, Message
from penstock_broker.machine.commands import Refused, RegisterNode, encode_command
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import Registered
from penstock_broker.node.pending import Request
from penstock_broker.node.seeds import Seeds

if TYPE_CHECKING:
    from penstock_broker.node.link import Dial
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

FOUNDER: Final = 1
"""The id of the node that founds a cluster; nobody else ever gets it."""
INIT_SECONDS_MAX: Final = 3.0
"""How long a request to form a cluster waits for word of those that are to join."""
LOOK_SECONDS: Final = 1.0
AWAITED_SECONDS: Final = 60.0
"""So long after this node belongs to a cluster it says who else was to join and has not."""
_TOO_EARLY: Final = LeaderUnknown()
"""Nothing is known that speaks against it, but not everybody was heard."""
ALLOWED: Final = (InitCluster, JoinCluster, BrokerStatus, ClusterStatus)
"""What a node answers without knowing its cluster."""

log = logging.getLogger("penstock.broker.node")


class Membership:
    """Which cluster this node belongs to, and how it gets there."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.seeds = Seeds(node, node.config.join, self._joined)
        self.started = False
        """Whether group 0 runs here: the node has an id."""
        self.removed: PenstockError | None = None
        """Why this node takes part in its cluster no more: the process ends."""
        self._new_cluster = ""
        self._asked: list[tuple[Request, bool, float]] = []
        """Requests to form a cluster that wait: (request, force, since when)."""
        self._founding: list[Request] = []
        """Those that wait for it to be formed."""
        self._claimed = False
        self._look_at = 0.0
        self._awaited_until = 0.0
        self._told = ""
        """What was said last of a list that can't be right."""

    def start(self, new_cluster: str) -> None:
        """Begin the life of this process; `new_cluster` is the id of one that is founded here."""
        store = self._node.store
        self._new_cluster = new_cluster
        if store.identity is not None:
            self._start(store.identity.node)
        elif 0 in store.recovered or not self._node.config.join:
            self._start(FOUNDER)

    def _start(self, node_id: int) -> None:
        self.started = self.seeds.over = True
        self._awaited_until = self._node.clock + AWAITED_SECONDS
        self._node.groups.start(node_id, self._new_cluster, [FOUNDER] * (node_id == FOUNDER))
        if self.waits_for_others:
            log.info("this broker takes part in its cluster", extra={"node": node_id})

    @property
    def waits_for_others(self) -> bool:
        """Whether this node can't be ready without hearing from others."""
        identity = self._node.store.identity
        return bool(self._node.config.join) or (identity is not None and identity.node != FOUNDER)

    # ----- time

    def dials(self) -> list[Dial]:
        """Connections to open now."""
        return self.seeds.dials()

    def tick(self) -> None:
        """Ask those to join; claim what was settled; answer who waits."""
        self.seeds.tick()
        store = self._node.store
        if not self.started and store.identity is not None:
            self._start(store.identity.node)
        if self._asked:
            self._consider()
        if self.started and not self._claimed:
            self._claim()
        if self._founding:
            self._answer_founding()
        if self.started and self._node.clock >= self._look_at:
            self._look_at = self._node.clock + LOOK_SECONDS
            self._look_for_end()
            self._tell_about_itself()
        elif not self.started and self.seeds.trouble() not in ("", self._told):
            self._told = self.seeds.trouble()
            log.error("this broker joins none of them", extra={"reason": self._told})

    def _claim(self) -> None:
        """A founder's identity is written when its cluster is committed: never before it exists."""
        node = self._node
        cluster = node.groups.cluster_id
        if cluster:
            self._claimed = True
            if node.store.identity is None:
                node.store.claim(cluster, node.node_id)

    def awaited(self) -> list[str]:
        """Where brokers are that were to join together with this one, and have not yet."""
        if not self.started or self._node.clock >= self._awaited_until:
            return []
        nodes = self._node.groups.metadata.machine.nodes.values()
        uuids, addresses = {each.uuid for each in nodes}, {each.address for each in nodes}
        return [
            address
            for uuid, address in self.seeds.others().items()
            if uuid not in uuids and address not in addresses
        ]

    def _look_for_end(self) -> None:
        """The metadata, also as it was recovered, may say that this node is gone."""
        entry = self._node.groups.metadata.machine.nodes.get(self._node.node_id)
        if entry is not None and entry.gone:
            self.expelled(f"node {entry.id} was {entry.state}")

    def expelled(self, reason: str) -> None:
        """This node is a member no more: what it knows grows old, so it answers nobody."""
        self.ends(PreconditionFailed(
            f"{reason} by its cluster and can't come back: wipe its data directory and it "
            "joins as a new node"
        ))  # fmt: skip

    def ends(self, reason: PenstockError) -> None:
        """This node answers nobody from now on, and its process ends; the first reason counts."""
        self.removed = self.removed or reason

    def _tell_about_itself(self) -> None:
        """The cluster is told where this node is, and what it knows, if that was otherwise."""
        node, config = self._node, self._node.config
        if not node.groups.informed or node.groups.metadata.leading:
            return  # a leader has done it as it began to lead
        known = node.groups.metadata.machine.nodes.get(node.node_id)
        now = (config.address, config.host, config.feature_max)
        if known is None or (known.address, known.host, known.feature_max) == now:
            return
        again = RegisterNode(
            uuid=node.store.node_uuid.hex(),
            address=config.address,
            host=config.host,
            feature_max=config.feature_max,
        )
        node.ask_metadata(again, lambda _: None)

    def _joined(self, cluster: str, node_id: int) -> None:
        """A broker of a cluster took this node in."""
        self.seeds.over = self._claimed = True
        self._node.store.claim(cluster, node_id)

    # ----- refusing

    def refusal(self) -> PenstockError | None:
        """Why requests can't be answered now; None: they can."""
        if self.removed is not None:
            return ShuttingDown(f"this broker ends: {self.removed}")
        if self.started and self._node.groups.informed:
            return None
        if not self.started:
            return ClusterUnformed(self.seeds.trouble())
        return LeaderUnknown("this broker has not caught up with its cluster yet")

    def check(self, message: Message) -> None:
        """Let a request through, or not.

        Raises:
            ClusterUnformed, LeaderUnknown, ShuttingDown: it can't be answered now, or here.
        """
        if self._node.groups.informed and self.removed is None:
            return
        error = self.refusal()
        if error is not None and (self.removed is not None or not isinstance(message, ALLOWED)):
            raise error

    def missing(self) -> PenstockError:
        """Why a partition is not here."""
        return self.refusal() or TopicNotFound("the partition is gone; refresh the metadata")

    # ----- requests

    def init_cluster(self, session: Session, correlation: int, asked: InitCluster) -> None:
        """Form a cluster of this node; answered when it exists.

        Raises:
            PreconditionFailed: there is one.
        """
        if self.started or self._claimed:
            cluster = self._node.groups.cluster_id
            raise PreconditionFailed("this broker belongs to a cluster already", cluster=cluster)
        request = Request(session, correlation, TYPE_OF[InitCluster])
        self._asked.append((request, asked.force, self._node.clock))
        self._consider()

    def _consider(self) -> None:
        """Form the cluster if somebody asks and nothing speaks against it.

        Of two brokers that are told to form one at least one learns of the other and gives way:
        only answers count that were asked for after the order came.
        """
        for waiting in list(self._asked):
            error = self._objection(*waiting[1:])
            if error is _TOO_EARLY:
                continue
            self._asked.remove(waiting)
            request = waiting[0]
            if error is None:
                self._founding.append(request)
                self._start(FOUNDER)
            else:
                self._node.reply_error(request.session, request.correlation, request.type, error)

    def _objection(self, force: bool, since: float) -> PenstockError | None:
        """What speaks against forming a cluster now."""
        seeds, formed = self.seeds, self.seeds.formed()
        if self.started or self._claimed or formed:
            text = "a broker to join belongs to a cluster already; this one follows by itself"
            return PreconditionFailed(text, cluster=formed)
        silent = seeds.silent(since)
        late = self._node.clock >= since + INIT_SECONDS_MAX
        if [seed for seed in silent if not force or seed.session is not None] and not late:
            return _TOO_EARLY
        if silent and not force:
            away = ", ".join(seed.address for seed in silent)
            return PreconditionFailed(
                f"no answer from {away}: start them first, or force it if none of them belongs to "
                "a cluster"
            )
        if seeds.forming():
            text = f"{seeds.forming()} is about to form the cluster: say it to one broker only"
            return PreconditionFailed(text)
        return None

    def _answer_founding(self) -> None:
        node, cluster = self._node, self._node.groups.cluster_id
        if cluster and node.store.identity is not None:
            founding, self._founding = self._founding, []
            for request in founding:
                reply = InitClusterReply(cluster=cluster, node=node.node_id)
                node.reply(request.session, request.correlation, reply)

    def join_cluster(self, session: Session, correlation: int, asked: JoinCluster) -> None:
        """Take a node in, or say that there is nothing to join here.

        Raises:
            NotLeader: ask the broker at `address`.
            LeaderUnknown: nobody can be asked at the moment.
            PenstockError: the cluster does not take it in.
        """
        node, uuid = self._node, self._node.store.node_uuid.hex()
        groups = node.groups
        if not self.started or not groups.cluster_id or asked.uuid == uuid:
            forming = bool(self._asked) or self.started
            reply = JoinClusterReply(cluster="", uuid=uuid, forming=forming)
            node.reply(session, correlation, reply)
            return
        metadata, cluster = groups.metadata, groups.cluster_id
        if not metadata.leading:
            leader = metadata.machine.nodes.get(metadata.raft.leader)
            if leader is None or leader.id == node.node_id:
                raise LeaderUnknown("the metadata has no leader at the moment")
            raise NotLeader(leader=leader.id, address=leader.address, cluster=cluster)

        def applied(reply: object) -> None:
            assert isinstance(reply, Registered)
            nodes = {entry.id: entry.address for entry in metadata.machine.members.values()}
            node.reply(
                session,
                correlation,
                JoinClusterReply(cluster=cluster, uuid=uuid, node=reply.node, nodes=nodes),
            )

        command = RegisterNode(
            uuid=asked.uuid,
            address=asked.address,
            host=asked.host,
            feature_max=asked.feature_max,
        )
        preview = metadata.machine.preview(command, Stamp(0, 0, 0))
        if isinstance(preview, Refused):  # it asks again and again: not each time by the log
            raise from_wire(preview.code, preview.message, preview.detail)
        request = Request(session, correlation, TYPE_OF[JoinCluster])
        node.pending.propose(metadata, encode_command(command), applied, request)


def init_cluster(node: Node, session: Session, correlation: int, asked: InitCluster) -> None:
    """See `Membership.init_cluster`."""
    node.membership.init_cluster(session, correlation, asked)


def join_cluster(node: Node, session: Session, correlation: int, asked: JoinCluster) -> None:
    """See `Membership.join_cluster`."""
    node.membership.join_cluster(session, correlation, asked)
