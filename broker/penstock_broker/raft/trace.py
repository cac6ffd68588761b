"""Transitions as events in the form of etcd-io/raft's state trace, for its TLA+ specification.

A trace is optional: without one, each call costs a comparison. The specification knows neither
pre-vote nor rounds of reads, so runs to be validated switch pre-vote off.
"""

import json
from collections.abc import Callable
from typing import Any

from penstock_broker.raft.configuration import Configuration
from penstock_broker.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.raft.state import RaftState, Role, Trace

_ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
_KINDS: dict[type, tuple[str, str]] = {
    Append: ("AppendEntriesRequest", "MsgApp"),
    Heartbeat: ("AppendEntriesRequest", "MsgHeartbeat"),
    InstallSnapshot: ("AppendEntriesRequest", "MsgSnap"),
    AppendResponse: ("AppendEntriesResponse", "MsgAppResp"),
    HeartbeatResponse: ("AppendEntriesResponse", "MsgHeartbeatResp"),
    VoteRequest: ("RequestVoteRequest", "MsgVote"),
    VoteResponse: ("RequestVoteResponse", "MsgVoteResp"),
}
Event = dict[str, Any]


def json_lines(write: Callable[[str], object]) -> Trace:
    """Return a trace that writes one JSON line per event, as the specification reads them."""

    def emit(event: Event) -> None:
        write(json.dumps({"tag": "trace", "event": event}, separators=(",", ":")) + "\n")

    return emit


def node_event(raft: RaftState, name: str, properties: Event | None = None) -> None:
    """Tell of a transition of the node."""
    if raft.trace is not None:
        raft.trace(_event(raft, name, None, properties))


def replicated(raft: RaftState, first: int) -> None:
    """Tell that a leader has appended entries from `first` and acknowledges them to itself."""
    if raft.trace is None:
        return
    last = raft.log.last_index
    for _ in range(first, last + 1):
        raft.trace(_event(raft, "Replicate"))
    sent(raft, AppendResponse(raft.id, raft.id, raft.term, last))


def sent(raft: RaftState, message: Message) -> None:
    """Tell of a message that was queued."""
    _message(raft, "Send", message)


def received(raft: RaftState, message: Message) -> None:
    """Tell of a message that is about to be handled."""
    _message(raft, "Receive", message)


def configuration_proposed(raft: RaftState, before: Configuration) -> None:
    """Tell how the configuration that was just appended differs from the one before."""
    if raft.trace is None:
        return
    after = raft.configuration
    changes = [
        {"nid": str(node), "action": action}
        for action, nodes in (
            ("AddNewServer", sorted(set(after.voters) - set(before.voters))),
            ("AddLearner", sorted(set(after.learners) - set(before.learners))),
            ("RemoveServer", sorted(set(before.members) - set(after.members))),
        )
        for node in nodes
    ]
    raft.trace(_event(raft, "ChangeConf", None, {"cc": {"changes": changes}}))


def configuration_committed(raft: RaftState) -> None:
    """Tell that the configuration in force is committed."""
    change = {"cc": {"newconf": [str(node) for node in raft.configuration.voters]}}
    node_event(raft, "ApplyConfChange", change)


def _message(raft: RaftState, verb: str, message: Message) -> None:
    if raft.trace is None or type(message) not in _KINDS or getattr(message, "pre", False):
        return
    name, kind = _KINDS[type(message)]
    properties = None
    if verb == "Send" and kind == "MsgApp":
        progress = raft.progress[message.to]
        properties = {"match": progress.match, "next": progress.next}
    raft.trace(_event(raft, verb + name, _described(message, kind), properties))


def _described(message: Message, kind: str) -> Event:
    body: Event = {"type": kind, "term": message.term}
    body |= {"from": str(message.sender), "to": str(message.to)}
    body |= {"entries": 0, "logTerm": 0, "index": 0, "commit": 0, "vote": "0"}
    body |= {"reject": False, "rejectHint": 0}
    match message:
        case Append():
            body |= {"entries": len(message.entries), "commit": message.commit}
            body |= {"logTerm": message.prev_term, "index": message.prev_index}
        case Heartbeat():
            body["commit"] = message.commit
        case InstallSnapshot():
            body["entries"] = message.snapshot.index
        case AppendResponse():
            body |= {"index": message.index, "reject": message.rejected}
            body |= {"rejectHint": message.hint_index, "logTerm": message.hint_term}
        case VoteRequest():
            body |= {"index": message.last_index, "logTerm": message.last_term}
        case VoteResponse():
            body["reject"] = not message.granted
    return body


def _event(
    raft: RaftState, name: str, message: Event | None = None, properties: Event | None = None
) -> Event:
    configuration = raft.configuration
    event: Event = {
        "name": name,
        "nid": str(raft.id),
        "state": {"term": raft.term, "vote": str(raft.vote), "commit": raft.log.commit},
        "role": _ROLES[raft.role],
        "log": raft.log.last_index,
        "conf": [list(map(str, configuration.voters)), list(map(str, configuration.outgoing))],
    }
    if message is not None:
        event["msg"] = message
    if properties is not None:
        event["prop"] = properties
    return event
