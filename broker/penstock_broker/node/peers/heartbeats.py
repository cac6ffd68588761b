"""Rounds of heartbeats: one frame per peer names every group that this node leads there.

A live process is no proof that it leads a group, so groups are named one by one; the answer names
only those that did not follow. Numbers of rounds begin at a random place in each life of a process:
an answer to a round of an earlier life means nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Final

from penstock.errors import StaleDirectory
from penstock_broker.node.peers.frames import (
    HEARTBEAT_ACK_TABLE,
    HEARTBEAT_TABLE,
    ROWS_MAX,
)
from penstock_broker.node.peers.marks import Marks
from penstock_broker.raft import Raft, acknowledged, tell

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.peers.peer import Peer

_LIFE_BITS: Final = 31
_ROUND_BITS: Final = 32
_NO_COLUMNS: Final = ((), (), ())
PROOF_SECONDS: Final = 0.8
"""Less than the time for which who heard a leader elects no other: 9 ticks of Raft at least."""


class Rounds:
    """Sends rounds, answers those of others, and takes the answers."""

    def __init__(self, node: Node, rng: Random, marks: Marks) -> None:
        self._node = node
        self._marks = marks
        self._number = rng.getrandbits(_LIFE_BITS) << _ROUND_BITS
        self._recent: deque[tuple[float, int]] = deque()
        """When each round of the last moments was sent."""

    def send(self, groups: Iterable[Group], peers: Mapping[int, Peer], everybody: bool) -> None:
        """A round for those of the groups that are led here.

        Args:
            groups: any.
            peers: all peers, by node id.
            everybody: whether peers without a group in it get an empty one: it shows that this
                process lives.
        """
        pairs = iter([(group.gid, group.raft) for group in groups])
        part = list(islice(pairs, ROWS_MAX))
        while part or everybody:
            self._send(part, peers, everybody)
            part, everybody = list(islice(pairs, ROWS_MAX)), False

    def _send(
        self, groups: Sequence[tuple[int, Raft]], peers: Mapping[int, Peer], everybody: bool
    ) -> None:
        self._number += 1
        number = self._number
        self._note(number)
        told = tell(groups, number)
        for node, peer in peers.items():
            beats = told.get(node, [])
            if beats or everybody:
                columns = list(zip(*beats, strict=True))[:3] if beats else _NO_COLUMNS
                if peer.control.send([HEARTBEAT_TABLE.pack((number, self._marks.mark), columns)]):
                    peer.note_round(number, beats)

    def sure_until(self, raft: Raft) -> float:
        """Until when nobody else can lead a group, since a quorum answered a round; 0: not now."""
        since, confirmed = self._node.clock - PROOF_SECONDS, raft.confirmed_round
        for at, number in reversed(self._recent):
            if at <= since:
                break
            if number <= confirmed:
                return at + PROOF_SECONDS
        return 0.0

    def _note(self, number: int) -> None:
        now, recent = self._node.clock, self._recent
        while recent and recent[0][0] <= now - PROOF_SECONDS:
            recent.popleft()
        recent.append((now, number))

    def heard(self, peer: Peer, buffer: memoryview, start: int, end: int) -> None:
        """A round of a peer: its groups hear their leader, and it hears who does not follow.

        Raises:
            RemoteProtocolError: the frame is damaged.
            StaleDirectory: the leader knows that this node had entries which it lacks.
        """
        (number, mark), (gids, terms, commits) = HEARTBEAT_TABLE.unpack(buffer, start, end)
        node, sender = self._node, peer.id
        self._marks.beat(sender, mark)
        get, silent, others, their_terms = node.groups.get, node.groups.leaving.silent, [], []
        for gid, term, commit in zip(gids, terms, commits, strict=True):
            group = get(gid)
            if group is None or gid in silent:
                others.append(gid)
                their_terms.append(0)
                continue
            raft = group.raft
            known, settled = raft.log.commit, raft.term == term and raft.leader == sender
            if commit > raft.log.last_index and term >= raft.term:
                if commit > raft.promised[1]:
                    raise _forgotten(gid, commit, raft.log.last_index)
                others.append(gid)  # it was dropped here since, and that is known
                their_terms.append(0)
                continue
            here = raft.on_heartbeat(sender, term, commit)
            if here > term:
                others.append(gid)
                their_terms.append(here)
            elif not settled or commit > known:
                node.mark(group)
        frame = HEARTBEAT_ACK_TABLE.pack((number, len(gids)), (others, their_terms))
        peer.control.send([frame])

    def answered(self, peer: Peer, buffer: memoryview, start: int, end: int) -> None:
        """A peer answered a round.

        Raises:
            RemoteProtocolError: the frame is damaged.
        """
        (number, count), (gids, terms) = HEARTBEAT_ACK_TABLE.unpack(buffer, start, end)
        beats = peer.rounds.pop(number, None)
        if beats is None or count != len(beats):
            return
        get, mark, sender = self._node.groups.get, self._node.mark, peer.id
        refused = dict(zip(gids, terms, strict=True))
        for gid, term in refused.items():
            group = get(gid)
            if group is None:
                continue
            raft = group.raft
            if raft.on_heartbeat_ack(sender, term, number) if term else raft.log_dropped(sender):
                mark(group)
        # Who is silent hears nothing: if it leads, it soon does no longer.
        unheard = {*refused, *self._node.groups.leaving.silent}
        for gid in acknowledged(beats, sender, number, unheard):
            group = get(gid)
            if group is not None:
                mark(group)


def _forgotten(gid: int, commit: int, last_index: int) -> StaleDirectory:
    return StaleDirectory(
        f"this data directory is an older copy: of group {gid} it has entries up to {last_index}, "
        f"and had said that it had those up to {commit}",
        group=gid,
        found=last_index,
        known=commit,
    )
