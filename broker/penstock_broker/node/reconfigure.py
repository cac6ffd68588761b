"""Partitions on their way to other replicas, on the broker that leads them.

Metadata says where the replicas of a partition shall be; its Raft log says where they are. The
leader brings the log there: new nodes come in as learners, copy what there is, and when all are
near the end one (joint) change makes them voters and lets the others go. Then it reports the
members, and copies elsewhere may be dropped. Every step follows from the two states alone, so any
later leader goes on from where the last one stopped.

Invariants: a node becomes a voter only when it has caught up; no change is begun that the nodes
that are there could not commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import RequestError, RetriableError
from penstock_broker.machine.commands import SettleReplicas
from penstock_broker.machine.topology import Partition
from penstock_broker.node.questions import FindCopy, FindCopyReply
from penstock_broker.raft import Flow

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.raft import Raft

ENTRIES_BEHIND_MAX: Final = 1_000
"""A learner that lacks no more than these has caught up."""
LOOK_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0
"""A report that was not heeded is made again after so long."""


def caught_up(raft: Raft, node: int) -> bool:
    """Whether a member is near the end of the leader's log, and being fed."""
    progress = raft.progress.get(node)
    if progress is None or progress.flow is not Flow.REPLICATE:
        return False
    return progress.match + ENTRIES_BEHIND_MAX >= raft.log.last_index


class Reconfiguring:
    """Looks after the partitions that are led here."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._watched: set[int] = set()
        """Partitions that are not where they should be, as far as is known."""
        self._settled_at: dict[int, float] = {}
        """When members were reported last."""
        self._clean: set[tuple[int, int]] = set()
        """(Group, node): nothing is there that was given up."""
        self._asked_at: dict[tuple[int, int], float] = {}
        """When a node may be asked for that again."""
        self._look_at = 0.0

    def watch(self, gid: int) -> None:
        """The replicas of a partition were changed."""
        self._watched.add(gid)

    def tick(self) -> None:
        """A few times a second: take one step in each partition that has to move."""
        node, machine = self._node, self._node.groups.metadata.machine
        if node.clock >= self._look_at and len(machine.nodes) > 1:
            self._look_at = node.clock + LOOK_SECONDS
            self._watched.update(group.gid for group in node.groups.led() if self._is_off(group))
        for gid in sorted(self._watched):
            group, place = node.groups.get(gid), machine.locate(gid)
            if group is None or place is None or not group.leading:
                self._forget(gid)
            elif self._is_off(group):
                self._move(group, place[0].partitions[place[1]])
            else:
                self._forget(gid)

    def _forget(self, gid: int) -> None:
        self._watched.discard(gid)
        self._settled_at.pop(gid, None)
        for key in [key for key in self._asked_at if key[0] == gid]:
            del self._asked_at[key]
            self._clean.discard(key)

    def _is_off(self, group: Group) -> bool:
        place = self._node.groups.metadata.machine.locate(group.gid)
        if place is None:
            return False
        partition = place[0].partitions[place[1]]
        configuration = group.raft.configuration
        settled = list(configuration.voters) == sorted(partition.replicas)
        return partition.moving or not settled or bool(configuration.learners)

    def _move(self, group: Group, partition: Partition) -> None:
        raft, target = group.raft, sorted(partition.replicas)
        if raft.change_open:
            return
        configuration = raft.configuration
        wanted = [node for node in target if node not in configuration.voters]
        fresh = [node for node in wanted if self._is_clean(group, partition, node)]
        if list(configuration.voters) == target and not configuration.learners:
            self._settle(group, partition)
        elif list(configuration.learners) != fresh:
            self._change(group, configuration.voters, fresh)
        elif (
            fresh == wanted
            and all(caught_up(raft, node) for node in fresh)
            and self._can_decide(target)
            and not self._hand_over(group, partition, fresh)
        ):
            self._change(group, target, ())

    def _is_clean(self, group: Group, partition: Partition, node: int) -> bool:
        """Whether a node has nothing of what was given up when the partition was recovered.

        Who has must not be fed: it would take for the same what only has the same index.
        """
        key = group.gid, node
        if node not in partition.astray or key in self._clean:
            return True
        if node in group.raft.configuration.learners:
            return True  # whoever took it in made sure

        def found(reply: object) -> None:
            if isinstance(reply, FindCopyReply) and not (
                reply.last_index and reply.last_term < partition.recovery_term
            ):
                self._clean.add(key)

        if self._node.clock >= self._asked_at.get(key, 0.0):
            self._asked_at[key] = self._node.clock + LOOK_SECONDS
            self._node.ask(node, FindCopy(group=group.gid), found)
        return False

    def _can_decide(self, voters: list[int]) -> bool:
        alive = [node for node in voters if self._is_alive(node)]
        return len(alive) * 2 > len(voters)

    def _is_alive(self, node: int) -> bool:
        return node == self._node.node_id or self._node.peers.alive(node)

    def _hand_over(self, group: Group, partition: Partition, fresh: list[int]) -> bool:
        """A leader that is to go hands the lead to one that stays; the others need not wait.

        Who takes no writes should not get it: if need be the fresh ones become voters before.
        """
        raft, refusing = group.raft, self._node.refusing
        if self._node.node_id in partition.replicas:
            return False
        ready = [n for n in partition.replicas if self._is_alive(n) and caught_up(raft, n)]
        stay = [node for node in ready if node in raft.configuration.voters]
        best = min(stay, key=refusing, default=None)
        if best is None:
            return False
        if refusing(best) and not all(map(refusing, ready)):
            everybody = sorted({*raft.configuration.voters, *fresh})
            if self._can_decide(everybody):
                self._change(group, everybody, ())
                return True
        try:
            group.transfer(best)
        except (RequestError, RetriableError):
            return False
        return True

    def _change(self, group: Group, voters: list[int] | tuple[int, ...], learners: object) -> None:
        assert isinstance(learners, list | tuple)
        try:
            group.change_members(voters, learners)
        except (RequestError, RetriableError):
            return  # too early: the next step looks again

    def _settle(self, group: Group, partition: Partition) -> None:
        """Report that the group is where it should be."""
        now = self._node.clock
        if now < self._settled_at.get(group.gid, 0.0):
            return
        self._settled_at[group.gid] = now + SETTLE_SECONDS
        command = SettleReplicas(
            group=group.gid, members=sorted(partition.replicas), revision=partition.revision
        )
        self._node.ask_metadata(command, lambda _: None)  # if it is lost, the next look sees
