"""Dead letters on request: where they are, redrive, purge, the loop guard; what a story holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.errors import (
    BadRequest,
    GroupNotFound,
    LimitExceeded,
    PreconditionFailed,
    TopicNotFound,
)
from penstock.protocol import leases
from penstock.protocol.messages import DeleteGroup, DeleteTopic
from penstock.protocol.sharing import HeldRuns, PurgeRecords, Redrive
from penstock_broker.machine.sharing.ops import ACK, NACK, REJECT
from penstock_broker.machine.sharing.state import DONE, FREE, HELD
from penstock_broker.machine.sharing.trouble import Attempt, Trouble
from penstock_broker.node.sharing.dead_letters import STORY_BYTES_MAX, tell
from tests.node.sharing.members import Member
from tests.node.sharing.works import DEAD, Works


@pytest.fixture
def works() -> Works:
    made = Works(redrives_max=2)
    made.publish(10)
    made.kill(0, 10)
    return made


def ask(works: Works, message: type, *spans: int, **fields: Any) -> Any:
    fields = {"topic": DEAD, "partition": 0, "group": "billing", **fields}
    if message is not HeldRuns:
        fields["spans"] = list(spans)
    return works.node.client().ask(message(**fields))


def test_dead_letters_are_found_run_by_run(works: Works) -> None:
    ask(works, PurgeRecords, 3, 2, 8, 1)
    found = ask(works, HeldRuns)
    assert (found.spans, found.end, found.high_watermark) == ([0, 3, 5, 3, 9, 1], 10, 10)
    page = ask(works, HeldRuns, limit=1, first=1)
    assert (page.spans, page.end) == ([1, 2], 3)
    assert ask(works, HeldRuns, first=page.end).spans == [5, 3, 9, 1]


def test_a_redrive_gives_the_records_back_to_their_group_only(works: Works) -> None:
    reply = ask(works, Redrive, 2, 3, 50, 2)
    assert (reply.redriven, reply.looping, reply.absent) == (3, [], [50, 2])
    group = works.group_of(works.dead)
    assert [group.window.state(offset) for offset in (1, 2, 4, 5)] == [HELD, FREE, FREE, HELD]
    assert len(works.dead_letters()) == 10
    assert works.partition.log.end_offset == 10
    works.grant(2, 3, partition=works.dead)
    works.settle(ACK, 2, 3, partition=works.dead)
    assert [group.window.state(offset) for offset in (2, 3, 4)] == [DONE] * 3


def test_redriven_records_are_handed_out_once_whatever_tells_of_them(works: Works) -> None:
    """They are known twice: as freed, and as what the window got; and both before a sync."""
    for offset in range(3):
        ask(works, Redrive, offset, 1)
    member = Member(works.node, topic=DEAD)
    for _ in range(4):
        member.ask(records=1)
    works.node.pump()
    answers = [leases.read_acquired(data, 0, len(data)) for _, data in member.client.take()]
    found = [(span.first, span.records) for it in answers for span in it.spans]
    assert found == [(0, 1), (1, 1), (2, 1)]


def test_a_redriven_record_may_fail_as_often_as_a_new_one(works: Works) -> None:
    ask(works, Redrive, 0, 1)
    group = works.group_of(works.dead)
    for _ in range(4):
        works.grant(0, 1, partition=works.dead)
        works.settle(NACK, 0, 1, partition=works.dead, ready_at_us=1)
    assert group.window.state(0) != HELD
    works.grant(0, 1, partition=works.dead)
    works.settle(NACK, 0, 1, partition=works.dead, reason="again")
    assert group.window.state(0) == HELD
    assert (group.troubles[0].failed, group.troubles[0].redrives) == (5, 1)


def test_the_loop_guard_refuses_what_was_redriven_too_often(works: Works) -> None:
    for _ in range(2):
        assert ask(works, Redrive, 0, 2).redriven == 2
        works.grant(0, 2, partition=works.dead)
        works.settle(REJECT, 0, 2, partition=works.dead)
    reply = ask(works, Redrive, 0, 3)
    assert (reply.redriven, reply.looping) == (1, [0, 2])
    assert ask(works, Redrive, 0, 2, force=True).redriven == 2


def test_a_purge_settles_dead_letters_for_good(works: Works) -> None:
    assert ask(works, PurgeRecords, 0, 100).purged == 10
    assert ask(works, PurgeRecords, 0, 100).purged == 0
    assert works.group_of(works.dead).start == 10


def test_all_of_it_survives_a_restart(works: Works) -> None:
    ask(works, Redrive, 0, 1)
    ask(works, PurgeRecords, 1, 1)
    works.node.restart()
    group = works.group_of(works.dead)
    assert [group.window.state(offset) for offset in (0, 1, 2)] == [FREE, DONE, HELD]
    assert ask(works, HeldRuns).spans == [2, 8]


def test_what_lost_its_group_or_topic_is_not_given_back_to_nobody(works: Works) -> None:
    client = works.node.client()
    client.ask(DeleteGroup(group="billing", topic="orders"))
    with pytest.raises(GroupNotFound, match="group 'billing' of 'orders' was deleted"):
        ask(works, Redrive, 0, 2)
    client.ask(DeleteTopic(name="orders"))
    with pytest.raises(TopicNotFound, match="'orders' was deleted: its dead letters can be read"):
        ask(works, Redrive, 0, 2)
    assert ask(works, HeldRuns).spans == [0, 10]
    assert ask(works, PurgeRecords, 0, 2).purged == 2


def test_what_makes_no_sense_is_refused(works: Works) -> None:
    with pytest.raises(GroupNotFound):
        ask(works, HeldRuns, group="nobody")
    with pytest.raises(PreconditionFailed):
        ask(works, Redrive, 0, 1, topic="orders")
    with pytest.raises(BadRequest):
        ask(works, Redrive, 5, 1, 3, 1)
    with pytest.raises(LimitExceeded):
        ask(works, PurgeRecords, *([1, 1] * 30_000))


def test_a_long_story_keeps_the_last_error_and_shortens_the_others() -> None:
    attempts = [Attempt("m", "h", "failed", "E", f"{n} " + "x" * 1990, n, n + 1) for n in range(20)]
    story = json.loads(
        tell(("t", 1, 2, "g"), "exhausted", Trouble(20, 20, 0, 0, attempts=attempts), 9)
    )
    errors = [attempt["error"] for attempt in story["attempts"]]
    assert errors[-1] == attempts[-1].error
    assert max(map(len, errors[:-1])) == 120
    assert len(json.dumps(story)) < STORY_BYTES_MAX + 2_000
    assert (story["failed"], story["died_us"]) == (20, 20)


def test_a_story_without_attempts_says_when_it_was_told() -> None:
    story = json.loads(tell(("t", 1, 2, "g"), "max_age", None, 77))
    assert (story["attempts"], story["died_us"], story["reason"]) == ([], 77, "max_age")
