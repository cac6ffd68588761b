"""The demo's judge of the shared group finds what is lost, doubled or not as the file says."""

from __future__ import annotations

import pytest

from ops.showcase.flights import read_rows
from ops.showcase.landings import NoTime, expected_failures, parse, parse_strictly
from ops.showcase.shared_ledger import Letter, Shop
from ops.showcase.shared_verdict import judge

ROWS = 3_000
ATTEMPTS = 3


def work(shop: Shop, *, strictly: bool) -> None:
    """Do what the workers would do, as if nothing went wrong."""
    for number, row in enumerate(read_rows(ROWS)):
        row["row"] = str(number)
        try:
            landing = parse_strictly(row)
        except (NoTime, ValueError) as error:
            tries = 1 if isinstance(error, NoTime) else ATTEMPTS
            if strictly:
                shop.letters.append(Letter(number, type(error).__name__, tries))
            else:
                shop.add("dora", row, parse(row))
        else:
            if strictly:
                shop.add("carl", row, landing)


@pytest.fixture
def shop() -> Shop:
    found = Shop()
    work(found, strictly=True)
    found.first_done = len(found.landings)
    found.redriven = found.stored_letters = len(found.letters)
    work(found, strictly=False)
    return found


def broken(shop: Shop) -> list[str]:
    return [check.promise for check in judge(ROWS, shop, ATTEMPTS) if not check.kept]


def test_the_data_holds_rows_of_each_kind_that_the_parser_does_not_take() -> None:
    reasons = expected_failures()
    assert len(reasons) == 1971
    assert sum(reason == "ValueError" for reason in reasons.values()) == 144
    assert parse({"arr_time": "2400", "arr_delay": "7"}) == (0, 7)


def test_whole_run_keeps_every_promise(shop: Shop) -> None:
    assert broken(shop) == []
    assert all(check.figures for check in judge(ROWS, shop, ATTEMPTS))


def test_row_that_is_handed_out_again_counts_once(shop: Shop) -> None:
    work(shop, strictly=False)
    assert broken(shop) == []
    assert shop.again == len(shop.letters)


def test_lost_row_is_found(shop: Shop) -> None:
    del shop.landings[17]
    assert broken(shop) == ["shared: every row done, totals as in the file"]


def test_row_that_two_workers_read_differently_is_found(shop: Shop) -> None:
    row = next(read_rows(1))
    shop.add("carl", {**row, "row": "0"}, parse({**row, "arr_delay": "1"}))
    assert broken(shop) == ["shared: every row done, totals as in the file"]


def test_lost_dead_letter_is_found(shop: Shop) -> None:
    shop.letters.pop()
    assert "dead letters: the rest, and why" in broken(shop)


def test_dead_letter_of_a_good_row_is_found(shop: Shop) -> None:
    shop.letters.append(Letter(0, "ValueError", ATTEMPTS))
    assert "dead letters: the rest, and why" in broken(shop)


def test_doubled_dead_letter_is_found(shop: Shop) -> None:
    shop.stored_letters += 1
    assert broken(shop) == ["dead letters: each one once"]


def test_letter_that_was_tried_too_often_is_found(shop: Shop) -> None:
    shop.letters[0] = shop.letters[0]._replace(attempts=ATTEMPTS + 1)
    assert broken(shop) == ["dead letters: tried as the policy says"]


def test_letter_that_did_not_come_back_is_found(shop: Shop) -> None:
    shop.left = 1
    assert broken(shop) == ["redrive: all back, none left"]
