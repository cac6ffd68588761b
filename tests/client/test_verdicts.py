"""The ledger of verdicts: runs, what fits a frame, and what is confirmed."""

from hypothesis import given
from hypothesis import strategies as st

from penstock._core.sharing.verdicts import Grant, Ledger, merged
from penstock.protocol.leases import (
    ACK,
    ERROR_CHARACTERS_MAX,
    NACK,
    REASON_CHARACTERS_MAX,
    REJECT,
    RELEASE,
    SETTLE_BYTES_MAX,
    VERDICTS_MAX,
    read_settle,
    settle_request,
)


class Books:
    """A ledger and what it told."""

    def __init__(self, records: int = 0) -> None:
        self.rung = 0
        self.counted = 0
        self.ledger = Ledger(self._ring, self._count)
        self.ledger.hands = records
        self.grant = Grant(self.ledger, 7, records)

    def _ring(self) -> None:
        self.rung += 1

    def _count(self, count: int) -> None:
        self.counted += count

    def ack(self, offset: int) -> None:
        """As a record does it."""
        run = self.ledger.tail
        if run.end == offset and run.grant is self.grant:
            run.end += 1
        else:
            self.ledger.ack(self.grant, offset, offset + 1)


def test_neighbours_extend_one_run_without_a_word():
    books = Books(1000)
    for offset in range(1000):
        books.ack(offset)
    assert (len(books.ledger.runs), books.rung) == (1, 1)
    books.ledger.count()
    assert (books.counted, books.ledger.hands) == (1000, 0)


def test_an_ack_after_the_run_was_sent_begins_another():
    books = Books(2)
    books.ack(0)
    books.ledger.take()
    books.ack(1)
    assert [run.first for run in books.ledger.runs] == [1]
    assert [run.end for run in books.ledger.sent] == [1]


@given(st.permutations(range(24)), st.lists(st.integers(0, 23), max_size=6))
def test_whatever_the_order_every_record_is_told_once(order, nacked):
    books = Books(24)
    for offset in order:
        if offset in nacked:
            books.ledger.add(books.grant, offset, offset + 1, NACK, 0, "why", "error")
        else:
            books.ack(offset)
    verdicts = books.ledger.take()
    told = [
        (offset, each.verdict)
        for each in verdicts
        for offset in range(each.first, each.first + each.count)
    ]
    assert sorted(told) == [(n, NACK if n in nacked else ACK) for n in range(24)]
    assert len(verdicts) <= 2 * len(set(nacked)) + 1
    assert books.ledger.hands == 0
    assert books.ledger.confirmed() == [books.grant]


def test_runs_of_different_texts_or_times_stay_apart():
    books = Books(4)
    books.ledger.add(books.grant, 0, 1, NACK, 0, "a")
    books.ledger.add(books.grant, 1, 2, NACK, 0, "b")
    books.ledger.add(books.grant, 2, 3, NACK, 5, "b")
    books.ledger.add(books.grant, 3, 4, RELEASE)
    assert len(merged(books.ledger.runs)) == 4


def test_a_frame_takes_what_fits_and_the_rest_follows():
    books = Books(3 * VERDICTS_MAX)
    for offset in range(0, 3 * VERDICTS_MAX, 2):
        books.ack(offset)
    taken = 0
    while books.ledger.runs:
        verdicts = books.ledger.take()
        assert len(verdicts) <= VERDICTS_MAX
        taken += len(verdicts)
        books.ledger.confirmed()
    assert taken == 1.5 * VERDICTS_MAX


def test_long_texts_are_spread_over_frames():
    books = Books(100)
    for offset in range(100):
        books.ledger.add(books.grant, offset, offset + 1, NACK, 0, "r", "é" * 2000 + str(offset))
    frames = 0
    while books.ledger.runs:
        verdicts = books.ledger.take()
        assert sum(len(each.error.encode()) for each in verdicts) < SETTLE_BYTES_MAX
        books.ledger.confirmed()
        frames += 1
    assert frames > 1


def test_a_mark_waits_for_what_was_there_and_not_for_more():
    books = Books(10)
    books.ack(0)
    mark = books.ledger.mark()
    books.ack(1)
    assert not books.ledger.is_confirmed(mark)
    books.ledger.take()
    books.ledger.back()
    assert not books.ledger.is_confirmed(mark)
    books.ledger.take()
    books.ack(2)
    books.ledger.confirmed()
    assert books.ledger.is_confirmed(mark)
    assert not books.ledger.is_confirmed(books.ledger.mark())


def test_texts_that_utf_8_can_not_hold_are_written_out():
    books = Books(2)
    strange = b"caf\xe9.txt".decode(errors="surrogateescape")
    books.ledger.add(books.grant, 0, 1, REJECT, 0, strange, f"no such file: {strange}")
    books.ledger.add(books.grant, 1, 2, NACK, 0, "\udce9" * 1000, "\udce9" * 5000)
    request = settle_request(1, 2, 3, books.ledger.take())
    _, [one, other] = read_settle(request, 0, len(request))
    assert (one.reason, one.error) == ("caf\\udce9.txt", "no such file: caf\\udce9.txt")
    assert len(other.reason) == REASON_CHARACTERS_MAX
    assert len(other.error) == ERROR_CHARACTERS_MAX
