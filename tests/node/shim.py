"""Several pure nodes whose groups talk directly: messages as objects, no frames, no connections."""

from __future__ import annotations

from random import Random
from typing import Any

from penstock.protocol.messages import CreateTopic
from penstock_broker.machine.commands import RegisterNode, encode_command
from penstock_broker.node.node import Node, NodeConfig
from penstock_broker.raft import Append, Entry, Message
from penstock_broker.raft.entry import RESERVED_KINDS
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, Store
from penstock_broker.storage.identity import Identity
from tests.node.harness import START_US, Client

STEP = 0.05


class Shim:
    """Stands in for the links of one node."""

    def __init__(self, cluster: Together, node: Node) -> None:
        self.cluster = cluster
        self.node = node
        self.leaders: dict[int, tuple[int, int]] = {}
        self.round = 0
        self.heartbeat_at = 0.0

    def alive(self, node_id: int) -> bool:
        return node_id in self.cluster.members

    def announce(self, gid: int, term: int) -> None:
        for other in self.cluster.members.values():
            if other.node is not self.node and term:
                other.node.peers.leaders[gid] = (term, self.node.node_id)
                other.node.pending.group_ready(gid)

    def send(self, gid: int, message: Message) -> None:
        self.cluster.queue.append((self.node.node_id, gid, copied(message)))

    def dials(self) -> list[Any]:
        return []

    def tick(self) -> None:
        """Time is told to the cluster."""

    def flush(self) -> None:
        """Nothing is held back."""

    def heartbeats(self) -> None:
        node = self.node
        due = any(group.raft.heartbeat_due for group in node.groups._all.values())
        if node.clock < self.heartbeat_at and not due:
            return
        self.heartbeat_at = node.clock + 0.2
        self.round += 1
        for gid, group in list(node.groups._all.items()):
            for to, commit in group.raft.heartbeats(self.round):
                self.cluster.beats.append(
                    (node.node_id, to, gid, group.raft.term, commit, self.round)
                )


def copied(message: Message) -> Message:
    if not isinstance(message, Append):
        return message
    entries = [
        entry if entry.kind in RESERVED_KINDS else Entry(*entry[:3], memoryview(bytes(entry.data)))
        for entry in message.entries
    ]
    return message._replace(entries=entries)


class Member:
    """One node of the cluster, as `Client` sees a harness."""

    def __init__(self, cluster: Together, node_id: int, files: MemoryFiles) -> None:
        self.cluster = cluster
        self.files = files
        self.sessions = 0
        self.id = node_id
        config = StorageConfig(**{"wal_file_bytes": 1 << 20, **cluster.config})
        uuid = bytes([node_id]) * 16
        store = Store.open(files, config, fresh_uuid=uuid)
        if node_id > 1:
            store.identity = Identity("cluster", node_id)
        self.node = Node(store, NodeConfig(f"n{node_id}:7400", "test"), Random(node_id))
        self.node.peers = Shim(cluster, self.node)  # type: ignore[assignment]  # a fake
        self.node.now(cluster.wall_us, cluster.clock)
        self.node.start("cluster")

    @property
    def clock(self) -> float:
        return self.cluster.clock

    def pump(self) -> None:
        self.cluster.pump()

    def work(self) -> bool:
        """One round: whether anything was done."""
        node = self.node
        node.end_round()
        busy = False
        for _ in range(2):
            job: Any = node.store.take_flush() or node.store.take_job()
            if job is not None:
                job.run()
                node.job_done(job, None)
                busy = True
        for read in node.take_reads():
            read.run()
            node.job_done(read, None)
            busy = True
        node.end_round()
        node.take_output()
        return busy

    def client(self) -> Client:
        return Client(self)  # type: ignore[arg-type]  # it has what a client needs


class Together:
    """A cluster; node 1 founds it, the others are registered by hand."""

    def __init__(self, count: int = 3, **config: int) -> None:
        self.config = config
        self.clock, self.wall_us = 10.0, START_US
        self.queue: list[tuple[int, int, Message]] = []
        self.beats: list[tuple[int, int, int, int, int, int]] = []
        self.files = {number: MemoryFiles() for number in range(1, count + 1)}
        self.members: dict[int, Member] = {}
        self.cuts: set[frozenset[int]] = set()
        self.start(1)
        self.pump()
        for number in range(2, count + 1):
            command = RegisterNode(uuid=f"{number:032x}", address=f"n{number}:7400", host=f"h{number}")
            self.members[1].node.groups.metadata.propose_command(encode_command(command))
            self.pump()
            self.start(number)
        self.members[1].node.groups.metadata.change_members(sorted(self.files))
        self.advance(1.0)

    def start(self, number: int) -> Member:
        member = self.members[number] = Member(self, number, self.files[number])
        return member

    def kill(self, number: int) -> None:
        """The process dies; what is not on the disk is lost."""
        gone = self.members.pop(number)
        gone.node.store.close()
        self.queue = [item for item in self.queue if item[0] != number]
        for member in self.members.values():
            member.node.groups.suspect(number)

    def reaches(self, one: int, other: int) -> bool:
        return one in self.members and other in self.members and frozenset((one, other)) not in self.cuts

    def pump(self) -> None:
        """Until nothing happens any more, without time passing."""
        for _ in range(20_000):
            busy = [member.work() for member in list(self.members.values())]
            for member in self.members.values():
                member.node.peers.heartbeats()  # type: ignore[attr-defined]  # a fake
            queue, self.queue = self.queue, []
            beats, self.beats = self.beats, []
            for sender, gid, message in queue:
                if self.reaches(sender, message.to):
                    self.members[message.to].node.groups.peer_message(gid, message)
            for beat in beats:
                self._beat(*beat)
            if not (any(busy) or queue or beats):
                return
        raise AssertionError("the cluster never comes to rest")

    def _beat(self, sender: int, to: int, gid: int, term: int, commit: int, number: int) -> None:
        if not self.reaches(sender, to):
            return
        group = self.members[to].node.groups.get(gid)
        leader = self.members[sender].node.groups.get(gid)
        if group is None or leader is None:
            return
        answer = group.raft.on_heartbeat(sender, term, commit)
        self.members[to].node.mark(group)
        leader.raft.on_heartbeat_ack(to, answer, number)
        self.members[sender].node.mark(leader)

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.clock += STEP
            self.wall_us += int(STEP * 1e6)
            for member in list(self.members.values()):
                member.node.tick(self.wall_us, self.clock)
            self.pump()

    def leader(self, gid: int) -> Member:
        """Who leads a group, after as much time as an election takes."""
        for _ in range(200):
            for member in self.members.values():
                group = member.node.groups.get(gid)
                if group is not None and group.leading:
                    return member
            self.advance(STEP)
        raise AssertionError(f"group {gid} has no leader")

    def topic(self, name: str = "orders", partitions: int = 1, **config: Any) -> list[int]:
        """Create a topic with a replica on each node; returns its groups."""
        client = self.leader(0).client()
        client.correlation += 1
        from penstock.protocol.codec import encode_message

        client.send(
            encode_message(
                CreateTopic(name=name, partitions=partitions, replication=len(self.files), config=config),
                client.correlation,
            )
        )
        for _ in range(100):
            self.pump()
            found = client.take()
            if found:
                reply = client.decode(*found[0])
                return [partition.group for partition in reply.topic.partitions]
            self.advance(STEP)
        raise AssertionError("the topic is not there")
