"""Every kind of violation is told, and a history without one is not accused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ops.history.__main__ import check_files, main
from ops.history.check import check
from ops.history.form import HEAD, BadHistory, Operation, Writer, read

PLACE = ("orders", 0)


class History:
    """Operations that follow each other, one second each, unless a test says otherwise."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def note(
        self,
        op: str,
        process: str = "p",
        *,
        start: float | None = None,
        end: float | None = None,
        outcome: str = "ok",
        **more: Any,
    ) -> History:
        line = len(self.operations) + 2
        begin = float(line) if start is None else start
        over = begin + 0.5 if end is None else end
        self.operations.append(Operation(op, process, *PLACE, begin, over, outcome, more, line))
        return self

    def publish(self, sequence: int, offset: int, count: int = 1, **more: Any) -> History:
        digests = [f"d{sequence + at}" for at in range(count)]
        more = {"producer": "p", "sequence": sequence, "digests": digests, "offset": offset} | more
        return self.note("publish", **more)

    def final(self, offset: int, *sequences: int) -> History:
        records = [[at, "p", n, f"d{n}"] for at, n in enumerate(sequences, offset)]
        return self.note("final", offset=offset, records=records)

    def read(self, offset: int, *sequences: int, linearizable: bool = False) -> History:
        records = [[at, "p", n, f"d{n}"] for at, n in enumerate(sequences, offset)]
        return self.note("read", offset=offset, records=records, linearizable=linearizable)

    def deliver(self, lease: str, attempt: int = 1, until: float = 99.0) -> History:
        more: dict[str, object] = {"lease": lease, "attempt": attempt, "until": until}
        return self.note("deliver", lease, group="g", offset=0, **more)

    def settle(self, lease: str, verdict: str, offset: int = 0) -> History:
        more = {"lease": lease, "verdict": verdict, "by": lease.rpartition(".")[0]}
        return self.note("settle", lease, group="g", offset=offset, **more)

    def found(self) -> Counter[str]:
        return check(self.operations).violations


def test_a_clean_history_has_no_violation() -> None:
    history = History().publish(0, 0, 2).publish(2, 2).read(0, 0, 1, 2).final(0, 0, 1).final(2, 2)
    history.publish(3, -1, outcome="unknown").publish(4, -1, outcome="failed")
    assert not history.found()


def test_an_acknowledged_record_that_is_not_there_is_lost() -> None:
    assert History().publish(0, 0).publish(1, 1).final(0, 0).found()["lost"]


def test_a_record_that_a_reader_saw_and_that_is_gone_is_lost() -> None:
    history = (
        History().publish(0, -1, outcome="unknown").read(0, 0).note("final", offset=0, records=[])
    )
    assert history.found()["lost"] == 1


def test_what_was_trimmed_is_not_lost() -> None:
    history = History().publish(0, 0).publish(1, 1).note("trim", offset=1).final(1, 1)
    assert not history.found()


def test_a_record_at_another_offset_than_was_said_is_told() -> None:
    found = History().publish(0, 0).publish(1, 1).final(0, 1, 0).found()
    assert found["moved"] == 2
    assert found["changed"] == 2


def test_other_bytes_are_told() -> None:
    history = History().publish(0, 0).note("final", offset=0, records=[[0, "p", 0, "other"]])
    assert history.found() == {"changed": 1}


def test_a_record_that_is_there_twice_is_told() -> None:
    assert History().publish(0, 0).final(0, 0, 0).found()["duplicated"] == 1


def test_records_of_a_producer_out_of_order_are_told() -> None:
    history = History().publish(1, 0, end=9.0).publish(0, 1, end=9.0).final(0, 1, 0)
    assert history.found() == {"reordered": 1}


def test_a_later_publish_before_an_answered_one_is_told() -> None:
    history = History().publish(0, 1).publish(0, 0, producer="q")
    history.note("final", offset=0, records=[[0, "q", 0, "d0"], [1, "p", 0, "d0"]])
    assert history.found() == {"overtaken": 1}


def test_a_record_that_was_sent_again_stands_where_its_first_attempt_put_it() -> None:
    history = History().publish(0, -1, outcome="unknown").publish(0, 1, producer="q").publish(0, 0)
    assert not history.found()


def test_a_record_that_nobody_published_is_told() -> None:
    assert History().read(0, 7).found() == {"unknown": 1}


def test_a_record_whose_publish_failed_must_not_be_read() -> None:
    assert History().publish(0, -1, outcome="failed").read(0, 0).found() == {"unknown": 1}


def test_a_hole_in_a_read_is_told() -> None:
    history = History().publish(0, 0, 3)
    history.note("read", offset=0, linearizable=False, records=[[0, "p", 0, ""], [2, "p", 2, ""]])
    assert history.found() == {"gap": 1}


def test_a_hole_in_the_final_partition_is_told() -> None:
    assert History().publish(0, 0, 3).final(0, 0).final(2, 2).found()["gap"] == 1


def test_a_linearizable_read_that_knows_less_than_an_answer_is_stale() -> None:
    assert History().publish(0, 0).read(0, linearizable=True).found() == {"stale": 1}
    assert not History().publish(0, 0).read(0).found()


def test_an_end_that_goes_back_is_stale() -> None:
    history = History().note("end", offset=5, linearizable=True)
    assert history.note("end", offset=4, linearizable=True).found() == {"stale": 1}


def test_an_answer_during_a_linearizable_read_need_not_be_known() -> None:
    history = History().publish(0, 0, start=1.0, end=9.0)
    assert not history.note("end", start=2.0, offset=0, linearizable=True).found()


def test_a_position_before_an_answered_commit_is_stale() -> None:
    history = History().note("commit", group="g", offset=7)
    history.note("position", group="g", offset=6, linearizable=True)
    assert history.found() == {"stale": 1}


def test_a_position_may_go_back_after_a_seek() -> None:
    history = History().note("commit", group="g", offset=7).note("seek", group="g", offset=1)
    assert not history.note("position", group="g", offset=1, linearizable=True).found()


def test_an_acked_record_that_comes_again_is_told() -> None:
    history = History().deliver("a").settle("a", "ack").deliver("b", 2)
    assert history.found() == {"redelivered": 1}


def test_two_leases_at_a_time_are_told() -> None:
    assert History().deliver("a").deliver("b", 2).found() == {"shared": 1}
    assert not History().deliver("a").settle("a", "release").deliver("b").found()
    assert not History().deliver("a", until=2.1).deliver("b", 2).found()


def test_a_lease_that_a_dead_leader_gave_last_may_overlap_for_a_moment() -> None:
    assert not History().deliver("1.7").deliver("2.1").found()
    assert History().deliver("1.7").deliver("1.8").found() == {"shared": 1}
    confirmed = History().deliver("1.7").settle("1.8", "ack", offset=1)
    assert confirmed.deliver("2.1").found() == {"shared": 1}
    before = History().settle("1.8", "ack", offset=1).deliver("1.7")
    assert not before.deliver("2.1").found()


def test_attempts_that_go_down_are_told() -> None:
    history = History().deliver("a", 3).settle("a", "nack").deliver("b", 2)
    assert history.found() == {"forgotten": 1}


def test_a_record_that_a_drained_group_never_got_is_told() -> None:
    history = History().publish(0, 0, 2).deliver("a").final(0, 0, 1).note("drained", group="g")
    assert history.found() == {"undelivered": 1}


def test_a_written_history_is_read_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for path, digest in ((good, "d"), (bad, "e")):
        with Writer(path) as history:
            history.note(
                "publish", "p", PLACE, (0.0, 1.0), producer="p", sequence=0, digests=["d"], offset=0
            )
            history.note("final", "r", PLACE, (2.0, 3.0), offset=0, records=[[0, "p", 0, digest]])
    assert main([str(good)]) == 0
    assert main([str(bad)]) == 1
    assert "changed: orders:0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"op": "eat"},
        {"outcome": "maybe"},
        {"end": None},
        {"end": 0.5},
        {"partition": "0"},
        {"offset": 1.5},
        {"surplus": 1},
        {"records": [[0, "p", 0]]},
    ],
)
def test_a_line_that_has_not_the_form_is_refused(change: dict[str, object]) -> None:
    line: dict[str, object] = {"op": "final", "process": "r", "topic": "t", "partition": 0}
    line |= {"start": 1.0, "end": 2.0, "outcome": "ok", "offset": 0, "records": []}
    assert len(list(read([json.dumps(HEAD), json.dumps(line)]))) == 1
    with pytest.raises(BadHistory, match="line 2"):
        list(read([json.dumps(HEAD), json.dumps(line | change)]))


def test_a_file_without_the_head_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("{}\n")
    assert main([str(other)]) == 2


@pytest.mark.parametrize("good", [True, False])
def test_a_history_that_is_judged_place_by_place_gets_the_same_verdict(
    tmp_path: Path, good: bool
) -> None:
    path = tmp_path / "history"
    records = [[at, "p", at, ""] for at in range(3)]
    leased: dict[str, Any] = {"group": "g", "lease": "1.1"}
    with Writer(path) as writer:
        for topic in ("a", "b"):
            for at in range(3):
                more: dict[str, Any] = {"producer": "p", "sequence": at, "digests": [""]}
                writer.note("publish", "p", (topic, 0), (at, at + 0.5), offset=at, **more)
                if good or at < 2:
                    writer.note(
                        "deliver", "m", (topic, 0), (4, 5), offset=at, attempt=0, until=9, **leased
                    )
            writer.note("final", "x", (topic, 0), (6, 7), offset=0, records=records[: 2 + good])
            writer.note("drained", "x", (topic, 0), (6, 7), group="g")
    in_memory, by_place = check_files([path]), check_files([path], spool_above=0)
    assert vars(by_place) == vars(in_memory)
    assert set(by_place.violations) == (set() if good else {"lost"})
    assert list(tmp_path.iterdir()) == [path]
