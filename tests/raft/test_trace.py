"""Transitions in the form that etcd-io/raft's TLA+ specification reads."""

import json
from typing import Any

from penstock_broker.raft import Options, json_lines
from tests.raft.group import Group

NAMES = {
    "InitState",
    "BecomeCandidate",
    "BecomeFollower",
    "BecomeLeader",
    "Commit",
    "Replicate",
    "ChangeConf",
    "ApplyConfChange",
    "Ready",
    "SendAppendEntriesRequest",
    "ReceiveAppendEntriesRequest",
    "SendAppendEntriesResponse",
    "ReceiveAppendEntriesResponse",
    "SendRequestVoteRequest",
    "ReceiveRequestVoteRequest",
    "SendRequestVoteResponse",
    "ReceiveRequestVoteResponse",
}


def traced(voters: tuple[int, ...] = (1, 2, 3), **options: Any) -> tuple[Group, list[dict]]:
    events: list[dict] = []
    chosen = Options(pre_vote=False, **options)
    return Group(voters, strangers=[4, 5], options=chosen, trace_to=events.append), events


def test_every_event_has_the_fields_of_the_specification() -> None:
    group, events = traced()
    group.elect(1)
    group.propose(1, b"a")
    group[1].propose_configuration([1, 4, 5])
    group.settle()
    group.tick(4)
    assert {event["name"] for event in events} == NAMES
    for event in events:
        assert set(event) - {"msg", "prop"} == {"name", "nid", "state", "role", "log", "conf"}
        assert set(event["state"]) == {"term", "vote", "commit"}


def test_messages_are_told_with_all_their_fields() -> None:
    group, events = traced()
    group.elect(1)
    sent = [event["msg"] for event in events if event["name"] == "SendAppendEntriesRequest"]
    assert sent[0] == {
        "type": "MsgApp", "term": 1, "from": "1", "to": "2", "entries": 1, "logTerm": 0,
        "index": 0, "commit": 0, "vote": "0", "reject": False, "rejectHint": 0,
    }  # fmt: skip


def test_a_leader_acknowledges_its_own_entries_to_itself() -> None:
    group, events = traced()
    group.elect(1)
    group.stalled.add(1)
    group.propose(1, b"a")
    own = [
        (event["name"], event["msg"]["index"])
        for event in events
        if event["nid"] == "1"
        and event.get("msg", {}).get("type") == "MsgAppResp"
        and event["msg"]["from"] == "1"
    ]
    assert own == [
        ("SendAppendEntriesResponse", 1),
        ("ReceiveAppendEntriesResponse", 1),
        ("SendAppendEntriesResponse", 2),
    ]
    group.flush(1)
    assert events[-1]["name"] == "ReceiveAppendEntriesResponse"


def test_changes_of_members_are_told() -> None:
    group, events = traced()
    group.elect(1)
    group[1].propose_configuration([1, 2, 4], [5])
    group.settle()
    change = next(event for event in events if event["name"] == "ChangeConf")
    assert change["prop"]["cc"]["changes"] == [
        {"nid": "4", "action": "AddNewServer"},
        {"nid": "5", "action": "AddLearner"},
    ]
    after = [event for event in events if event["name"] == "ApplyConfChange"]
    assert after[-1]["prop"]["cc"]["newconf"] == ["1", "2", "4"]


def test_snapshots_and_refusals_are_told() -> None:
    group, events = traced()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    group[1].compact(2)
    group.tick(40, [3])
    group.heal()
    group.tick(60)
    leader = group.leaders()[0]
    for member in group.requests[leader]:
        group[leader].send_snapshot(member, group[leader].log.handed, "state")
    group.settle()
    kinds = {event["msg"]["type"] for event in events if "msg" in event}
    assert kinds >= {"MsgSnap", "MsgHeartbeat", "MsgHeartbeatResp", "MsgVote", "MsgVoteResp"}
    assert any(event["msg"]["reject"] for event in events if "msg" in event)


def test_lines_are_json_with_a_tag() -> None:
    lines: list[str] = []
    group = Group([1], options=Options(pre_vote=False), trace_to=json_lines(lines.append))
    group.tick()
    assert all(line.endswith("\n") for line in lines)
    assert json.loads(lines[0]) == {
        "tag": "trace",
        "event": {
            "name": "InitState", "nid": "1", "state": {"term": 0, "vote": "0", "commit": 0},
            "role": "StateFollower", "log": 0, "conf": [["1"], []],
        },
    }  # fmt: skip


def test_pre_votes_and_hand_overs_are_not_part_of_the_specification() -> None:
    events: list[dict] = []
    group = Group(trace_to=events.append)
    group[1].campaign()
    group.settle()
    group[1].transfer(2)
    group.settle()
    assert {event["role"] for event in events} == {
        "StateFollower", "StatePreCandidate", "StateCandidate", "StateLeader",
    }  # fmt: skip
    assert {event["msg"]["type"] for event in events if "msg" in event} <= {
        "MsgApp", "MsgAppResp", "MsgVote", "MsgVoteResp", "MsgHeartbeat", "MsgHeartbeatResp",
    }  # fmt: skip
