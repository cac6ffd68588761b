from __future__ import annotations

import json

import pytest

from penstock.cli.bench.shared_cases import CASES, Case
from penstock.cli.bench.shared_runner import spread
from penstock.cli.settings import Failure
from tests.cli.conftest import Cli


def test_percentiles_are_in_milliseconds() -> None:
    found = spread([number / 1000 for number in range(1, 101)])
    assert found == {
        "count": 100,
        "min_ms": 1.0,
        "p50_ms": 51.0,
        "p90_ms": 91.0,
        "p99_ms": 100.0,
        "max_ms": 100.0,
    }
    with pytest.raises(Failure):
        spread([])


def test_a_rate_is_held_against_its_goal_from_below() -> None:
    row = Case("x", lambda _bench: {}, 1000).judge({"per_second": 500}, {})
    assert (row["ratio"], row["met"]) == (0.5, False)
    assert Case("x", lambda _bench: {}, 1000).judge({"per_second": 1000}, {})["met"]


def test_a_delay_is_held_against_its_goal_from_above() -> None:
    late = Case("x", lambda _bench: {}, 50, "max_ms")
    assert late.judge({"max_ms": 25.0}, {})["ratio"] == 2.0
    assert not late.judge({"max_ms": 51.0}, {})["met"]


def test_a_share_is_taken_of_another_case_if_that_was_run() -> None:
    case = Case("x", lambda _bench: {}, share_of=(0.6, "whole"))
    row = case.judge({"per_second": 90}, {"whole": {"per_second": 100}})
    assert (row["goal"], row["ratio"]) == (60, 1.5)
    assert "met" not in case.judge({"per_second": 90}, {})


def test_shares_are_of_cases_that_stand_before() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for case in CASES:
        if case.share_of is not None:
            assert names.index(case.share_of[1]) < names.index(case.name)


@pytest.mark.system
@pytest.mark.parametrize("driver", ["trio", "asyncio", "sync"])
def test_members_are_measured(cli: Cli, driver: str) -> None:
    quick = ["--records", "2000", "--duration", "0.5", "--driver", driver]
    shown = cli("bench", "shared", "--only", "ack singly, 1", *quick, "-o", "json")
    [row] = json.loads(shown.stdout)
    assert 0 < row["records"] <= 2000
    assert row["seen"] == row["per_second"] > 0
    assert row["ratio"] == pytest.approx(row["per_second"] / 400_000, abs=0.001)
    assert cli("topic", "list", "-o", "name").stdout.count("bench-") == 0
