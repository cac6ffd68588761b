"""What this node wants of others for itself, and how it answers the like: commands, certainty.

A node that does not know a name asks the leader of group 0 how far it is, and waits until it has
applied that much: only then is there no such thing. Invariant: whoever asks is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from penstock.errors import (
    LeaderUnknown,
    NotLeader,
    PenstockError,
    Throttled,
    TopicNotFound,
)
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.commands import Command, encode_command
from penstock_broker.machine.topology import MetadataReply
from penstock_broker.node import questions
from penstock_broker.node.certainty import read_all
from penstock_broker.node.pending import Request
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.relay import Finish
    from penstock_broker.node.session import Session

CERTAIN_SECONDS_MAX: Final = 5.0
"""How long a request waits for the metadata here to catch up."""
WAITING_MAX: Final = 1_000
UNCERTAIN: Final = "this broker does not know the name, and can't make sure at the moment"

_REPLIES: Final = {cls.__name__: cls for cls in get_args(MetadataReply)}


class Asking:
    """The questions of one node about what others decide."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: list[tuple[int, float, Callable[[PenstockError | None], None]]] = []
        """(Index of the metadata, deadline, what goes on when it is applied here.)"""
        self._asking = 0

    def __len__(self) -> int:
        return len(self._waiting)

    # ----- commands

    def command(self, gid: int, command: Command, finish: Finish) -> None:
        """Have the leader of a group, wherever it is, apply a command.

        `finish` gets the machine's reply to a command of group 0, None for others, or the error.
        """

        def answered(reply: object) -> None:
            if isinstance(reply, questions.ProposeReply):
                kind = _REPLIES.get(reply.name)
                found = None if kind is None else msgspec.msgpack.decode(reply.reply, type=kind)
                finish(found)
            else:
                finish(reply)

        leader = self._node.groups.leader_of(gid)[1]
        message = questions.Propose(group=gid, command=encode_command(command))
        self._node.relay.ask(leader, message, answered)

    # ----- certainty

    def refresh(self, go_on: Callable[[PenstockError | None], None]) -> bool:
        """Call `go_on` when the metadata here holds all that was decided before this call.

        It gets the error if that can't be found out. False: it does, since nobody else decides.
        """
        node = self._node
        metadata = node.groups.metadata
        if metadata.leading and not metadata.raft.peers:
            return False
        deadline = node.clock + CERTAIN_SECONDS_MAX
        if len(self._waiting) + self._asking >= WAITING_MAX:
            raise Throttled(f"{WAITING_MAX} requests wait for the metadata of this broker")
        self._asking += 1

        def told(reply: object) -> None:
            self._asking -= 1
            if isinstance(reply, questions.MetadataIndexReply):
                self._waiting.append((reply.index, deadline, go_on))
                self._node.outward = True
            else:
                go_on(LeaderUnknown(UNCERTAIN))

        node.relay.ask(node.groups.leader_of(0)[1], questions.MetadataIndex(), told)
        return True

    def flush(self) -> bool:
        """The round ends: let those go on for whom the metadata is far enough, or time is over."""
        if not self._waiting:
            return False
        applied, now = self._node.groups.metadata.applied_index, self._node.clock
        due = [item for item in self._waiting if item[0] <= applied or item[1] <= now]
        if due:
            self._waiting = [item for item in self._waiting if item not in due]
            for index, _, go_on in due:
                go_on(None if index <= applied else LeaderUnknown(UNCERTAIN))
        return bool(due)


def elsewhere(node: Node, gid: int) -> PenstockError:
    """Why a group can't be used here: it is led elsewhere, by nobody, or there is no such group."""
    refusal = node.membership.refusal()
    if refusal is not None:
        return refusal
    metadata = node.groups.metadata
    leader = node.groups.leader_of(gid)[1]
    if metadata.machine.is_deleted(gid) or (
        leader == NOBODY and metadata.leading and metadata.machine.locate(gid) is None
    ):
        return TopicNotFound("the partition is gone; refresh the metadata")
    if leader in (NOBODY, node.node_id):
        return LeaderUnknown()
    return NotLeader(leader=leader)


# ----- answering


def _led(node: Node, gid: int) -> Group:
    group = node.groups.get(gid)
    if group is None or not group.leading:
        raise NotLeader(leader=node.groups.leader_of(gid)[1])
    return group


def propose(node: Node, session: Session, correlation: int, asked: questions.Propose) -> None:
    """Propose a command of another node."""
    group = _led(node, asked.group)

    def answer(reply: object) -> None:
        body = b"" if type(reply) not in _REPLIES.values() else msgspec.msgpack.encode(reply)
        name = type(reply).__name__ if body else ""
        node.reply(session, correlation, questions.ProposeReply(name=name, reply=body))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    node.pending.propose(group, asked.command, answer, request)


def metadata_index(
    node: Node, session: Session, correlation: int, asked: questions.MetadataIndex
) -> None:
    """How far the metadata is, once it is certain that nobody else leads it."""
    del asked
    group = _led(node, 0)
    request = Request(session, correlation, TYPE_OF[questions.MetadataIndex])

    def certain(error: PenstockError | None) -> None:
        if error is not None:
            node.reply_error(request.session, request.correlation, request.type, error)
        else:
            index = group.applied_index
            node.reply(session, correlation, questions.MetadataIndexReply(index=index))

    group.read(certain)


def log_ends(node: Node, session: Session, correlation: int, asked: questions.LogEnds) -> None:
    """Where the logs that are led here start and end."""
    if asked.groups is None:
        found = list(node.partitions.values())
    else:
        found = [node.partitions[gid] for gid in asked.groups if gid in node.partitions]
    led = [each for each in found if each.leading]

    def answer(error: PenstockError | None) -> None:
        if error is not None:
            node.reply_error(session, correlation, TYPE_OF[type(asked)], error)
            return
        ends = {each.gid: [each.log.start_offset, each.log.end_offset] for each in led}
        node.reply(session, correlation, questions.LogEndsReply(ends=ends))

    if asked.certain:
        read_all(led, answer)
    else:
        answer(None)
