"""Dead letters through the core: pages, filters, redrives and edits, begun again at any point."""

from __future__ import annotations

import json

import pytest

from penstock._core.sharing import dead_letters
from penstock._core.sharing.letters import DeadLetter, LetterFilter, read_letter
from penstock.errors import BadRequest, GroupNotFound
from penstock.protocol.frames import FETCH
from penstock.protocol.messages import TYPE_OF
from penstock.protocol.record import Record
from penstock.protocol.sharing import PurgeRecords, Redrive
from tests.client.fake_broker import FakeCluster
from tests.client.world import World

DEAD = "dead.t.g"


def story(number: int, reason: str = "attempts", **more: object) -> bytes:
    attempt = {
        "kind": "failed",
        "member": "m",
        "host": "h",
        "reason": f"Error{number % 3}",
        "error": f"Traceback {number}",
        "granted_us": 1,
        "ended_us": 2,
    }
    told = {
        "topic": "t",
        "partition": 0,
        "offset": 1000 + number,
        "group": "g",
        "reason": reason,
        "died_us": 1_000_000 * (number + 1),
        "delivered": 5,
        "failed": number % 5,
        "timed_out": 0,
        "redrives": 0,
        "attempts": [attempt],
    }
    return json.dumps({**told, **more}).encode()


def world(letters: int = 20) -> World:
    """A world with dead letters in two partitions."""
    made = World(FakeCluster(t=2)).connect()
    made.run(made.core.shared_admin.create_group("t", "g"))
    for number in range(letters):
        headers = {"penstock-dead": story(number), "n": str(number)}
        made.publish(b"%d" % number, DEAD, key=b"k%d" % (number % 4), headers=headers)
    made.advance(0.2)
    return made


def page(there: World, *, limit: int = 1000, after: object = None, **filters: object):
    wanted = LetterFilter(wall_us=there.cluster.wall_us, **filters)
    dead = there.core.shared_admin.dead_letters
    return there.run(dead.page("t", "g", wanted, None, after, limit))


def numbers(letters: list[DeadLetter]) -> list[int]:
    return sorted(int(letter.value) for letter in letters)


def test_a_letter_tells_its_history():
    [letter] = page(world(1))
    assert (letter.origin_topic, letter.origin_partition, letter.origin_offset) == ("t", 0, 1000)
    assert (letter.reason, letter.cause, letter.key) == ("attempts", "Error0", b"k0")
    assert dict(letter.headers) == {"n": b"0"}
    assert letter.attempts[0].error == "Traceback 0"
    assert letter.record.topic == DEAD


def test_a_page_says_how_many_there_are_in_all_partitions():
    there = world(20)
    assert [page(there, limit=limit).held for limit in (1, 3, 12, 19, 20, 1000)] == [20] * 6
    after, left = None, 20
    while left:
        found = page(there, limit=3, after=after)
        assert found.held == left
        after, left = found.after, left - len(found)


@pytest.mark.parametrize("header", [{}, {"penstock-dead": b"{"}, {"penstock-dead": b"\xff"}])
def test_a_record_without_a_readable_history_is_a_letter_too(header):
    letter = read_letter(Record("dead.t.g", 0, 5, 77, b"x", None, header), "g")
    assert (letter.group, letter.reason, letter.died_us) == ("g", "unknown", 77)


@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
def test_pages_hold_every_letter_once(limit):
    there = world()
    found, after, pages = [], {}, 0
    while after is not None:
        got = page(there, limit=limit, after=after)
        assert len(got) <= limit
        found += got.letters
        after = got.after
        pages += 1
    assert numbers(found) == list(range(20))
    assert len({letter.place for letter in found}) == 20
    assert pages >= 20 // limit


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"reason": "Error1"}, [1, 4, 7, 10, 13, 16, 19]),
        ({"reason": "attempts", "failed": 4}, [4, 9, 14, 19]),
        ({"error": "Traceback 1", "key": "k1"}, [1, 13, 17]),
        ({"headers": {"n": "12"}}, [12]),
        ({"since": "-1h"}, []),
        ({"where": lambda letter: letter.died_us > 18_000_000}, [18, 19]),
    ],
)
def test_filters_choose(filters, wanted):
    assert numbers(page(world(), **filters).letters) == wanted


def test_a_time_that_is_none_is_refused():
    with pytest.raises(BadRequest):
        LetterFilter(since="latest", wall_us=0)


def test_a_group_without_dead_letters_says_so():
    with pytest.raises(GroupNotFound, match="dead-letter"):
        page(World(FakeCluster(t=1)).connect())


def redrive(there: World, letters, **options):
    return there.run(there.core.shared_admin.dead_letters.redrive(letters, **options))


def test_a_redrive_goes_partition_by_partition_in_spans():
    there = world()
    report = redrive(there, page(there).letters)
    assert (report.matched, report.redriven, report.absent, report.looping) == (20, 20, [], [])
    assert there.cluster.seen[TYPE_OF[Redrive]] == 2
    again = redrive(there, [])
    assert again.redriven == 0
    assert not len(page(there))


def test_what_is_no_letter_any_more_is_reported():
    there = world()
    letters = page(there).letters
    redrive(there, letters[:5])
    report = redrive(there, letters)
    assert report.redriven == 15
    assert sorted(report.absent) == sorted(letter.place for letter in letters[:5])


def test_all_are_redriven_without_being_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dead_letters, "RECORDS_PER_REQUEST", 4)
    there = world()
    [letter, *_] = page(there).letters
    there.cluster.shared[(DEAD, "g", letter.place[0])].looping.add(letter.place[1])
    before = there.cluster.seen[TYPE_OF[Redrive]], there.cluster.seen[FETCH]
    report = there.run(there.core.shared_admin.dead_letters.redrive_all("t", "g"))
    assert (report.matched, report.redriven, report.looping) == (20, 19, [letter.place])
    assert there.cluster.seen[TYPE_OF[Redrive]] - before[0] >= 5
    assert there.cluster.seen[FETCH] == before[1]
    again = there.run(there.core.shared_admin.dead_letters.redrive_all("t", "g", True))
    assert (again.matched, again.redriven) == (1, 1)


def test_only_a_filter_that_asks_nothing_fits_all():
    assert LetterFilter(wall_us=0).fits_all
    asked = ({"reason": "x"}, {"headers": {"n": "1"}}, {"failed": 1}, {"where": bool}, {"key": ""})
    assert not any(LetterFilter(wall_us=0, **filters).fits_all for filters in asked)


def test_the_loop_guard_is_reported_and_can_be_overruled():
    there = world()
    [letter, *_] = page(there).letters
    there.cluster.shared[(DEAD, "g", letter.place[0])].looping.add(letter.place[1])
    assert redrive(there, [letter]).looping == [letter.place]
    assert redrive(there, [letter], force=True).redriven == 1


def test_a_letter_that_died_again_tells_both_stories_on_a_small_page():
    there = world(1)
    [letter] = page(there)
    redrive(there, [letter])
    there.cluster.shared[(DEAD, "g", letter.place[0])].attempts_max = 1
    shared = there.share(create=False)
    [record] = there.take(shared)
    record.nack(reason="Again")
    there.run(shared.flush())
    [again] = page(there, limit=20)
    assert [each.reason for each in again.attempts] == ["Error0", "Again"]
    assert (again.failed, again.redrives, again.cause) == (letter.failed + 1, 1, "Again")
    [plain] = page(there, limit=21)
    assert plain.attempts == letter.attempts


def test_an_edited_letter_is_copied_settled_and_given_back():
    there = world(3)
    [letter, *_] = page(there).letters
    report = redrive(there, [letter], values={letter.place: "repaired"})
    assert (report.redriven, report.edited) == (1, 1)
    partition = there.cluster.partition(DEAD, letter.place[0])
    assert partition.values()[-1] == b"repaired"
    group = there.cluster.shared[(DEAD, "g", letter.place[0])]
    assert group.state(letter.place[1]) == "done"
    assert group.state(partition.end - 1) == "free"
    shared = there.share(create=False)
    [record] = there.take(shared, 1)
    assert (record.value, record.origin) == (b"repaired", ("t", 0, letter.origin_offset))
    assert record.headers["penstock-edited"] == f"{letter.place[0]}:{letter.place[1]}".encode()


def test_an_unchanged_value_is_no_edit():
    there = world(1)
    [letter] = page(there)
    report = redrive(there, [letter], values={letter.place: letter.value})
    assert (report.redriven, report.edited) == (1, 0)


def test_an_edit_that_was_interrupted_leaves_one_copy():
    there = world(1)
    [letter] = page(there)
    there.cluster.silent.add(TYPE_OF[PurgeRecords])
    dead = there.core.shared_admin.dead_letters
    operation = there.start(dead.redrive([letter], {letter.place: b"better"}))
    there.advance(0.5)
    operation.cancel()
    there.cluster.silent.clear()
    redrive(there, [letter], values={letter.place: b"better"})
    number = letter.place[0]
    assert there.cluster.partition(DEAD, number).values() == [b"0", b"better"]


def test_an_edit_of_what_others_gave_back_meanwhile_takes_its_copy_away():
    there = world(1)
    [letter] = page(there)
    redrive(there, [letter])
    report = redrive(there, [letter], values={letter.place: b"too late"})
    assert (report.redriven, report.absent) == (0, [letter.place])
    group = there.cluster.shared[(DEAD, "g", letter.place[0])]
    assert [group.state(0), group.state(1)] == ["free", "done"]


def test_an_edit_survives_cuts_at_any_byte_of_the_replies():
    for cut in range(0, 400, 7):
        there = world(1)
        [letter] = page(there)
        there.cut_after = cut
        redrive(there, [letter], values={letter.place: b"better"})
        group = there.cluster.shared[(DEAD, "g", letter.place[0])]
        assert [group.state(0), group.state(1)] == ["done", "free"], cut


def test_letters_are_purged():
    there = world()
    purge = there.core.shared_admin.dead_letters.purge
    assert there.run(purge(page(there, reason="Error1").letters)) == 7
    assert len(page(there)) == 13


def test_connections_break_and_pages_go_on():
    there = world()
    there.cut_after = 700
    assert numbers(page(there).letters) == list(range(20))
    assert there.cuts == 1
