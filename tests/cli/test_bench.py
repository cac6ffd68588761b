from __future__ import annotations

import json
import zlib
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.bench import histogram
from penstock.cli.bench.goals import Goal
from penstock.cli.bench.payload import make_values, slice_of, stamp, stamped_at
from penstock.cli.bench.runner import Sample, cpu_seconds, summarise
from tests.cli.conftest import Cli


@given(st.integers(0, 2**50))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    bucket = histogram.bucket_of(value)
    assert histogram.lowest_of(bucket) <= value < histogram.lowest_of(bucket + 1)
    assert abs(histogram.middle_of(bucket) - value) <= max(1, value // 64)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_percentile_is_close_to_the_exact_one(values: list[int], share: float) -> None:
    ranked = enumerate(sorted(values), 1)
    exact = next(value for rank, value in ranked if rank >= share * len(values))
    found = histogram.percentile(histogram.count(values), share)
    assert found is not None
    assert abs(found - exact) <= max(1, exact // 64)


def test_nothing_has_no_percentile() -> None:
    assert histogram.percentile({}, 0.5) is None


@given(st.lists(st.integers(0, 10**6)), st.lists(st.integers(0, 10**6)))
def test_merging_is_counting_all(left: list[int], right: list[int]) -> None:
    merged = histogram.merge([histogram.count(left), histogram.count(right)])
    assert merged == histogram.count(left + right)


@pytest.mark.parametrize("size", [16, 100, 200, 1024, 5000])
def test_values_are_of_their_size_and_distinct(size: int) -> None:
    values = make_values(size)
    assert {len(value) for value in values} == {size}
    assert len(set(values)) > len(values) * 0.99
    assert values == make_values(size)
    assert values != make_values(size, seed=2)


@pytest.mark.parametrize("size", [200, 1024])
def test_values_are_json_and_compress_as_records_do(size: int) -> None:
    values = make_values(size)
    assert all(isinstance(msgspec.json.decode(value), dict) for value in values[:50])
    whole = b"".join(values[:200])
    assert 2 < len(whole) / len(zlib.compress(whole)) < 8


def test_a_slice_goes_round_the_pool() -> None:
    pool = [b"a", b"b", b"c"]
    assert slice_of(pool, 5, 5) == [b"c", b"a", b"b", b"c", b"a"]


def test_a_stamp_travels_inside_a_value_of_the_same_size() -> None:
    value = stamp(b"x" * 16, 12.5)
    assert (len(value), stamped_at(value)) == (16, 12.5)


def sample(rate: int, latency: int) -> Sample:
    return Sample(rate, 1.0, 0.5, 0.25, Counter({histogram.bucket_of(latency): 3}))


def test_a_summary_shows_medians_and_the_spread() -> None:
    row = summarise([sample(100, 10), sample(300, 30), sample(200, 20)], 50)
    assert row["records_per_second"] == 200
    assert (row["records_per_second_min"], row["records_per_second_max"]) == (100, 300)
    assert row["bytes_per_second"] == 10_000
    assert (row["p50_us"], row["p999_us"]) == (20, 20)
    assert row["client_cpu_us_per_record"] == 2500.0
    assert row["broker_cpu_us_per_record"] == 1250.0


def test_a_broker_elsewhere_has_no_cpu_figure() -> None:
    assert cpu_seconds(None) is None
    assert cpu_seconds(2**30) is None
    assert summarise([Sample(1, 1.0, 0.1, None)], 1)["broker_cpu_us_per_record"] is None


def test_the_goal_farthest_from_being_met_is_the_one_shown() -> None:
    goal = Goal(rate=100_000, asyncio_rate=60_000, p99_us=1500)
    figures = {"records_per_second": 90_000, "p50_us": 500, "p99_us": 3000}
    judged = goal.judge(figures, "trio")
    assert judged["of_goals"] == {"rate": 0.9, "p99": 0.5}
    assert (judged["of_goal"], judged["goal"]) == (0.5, "100,000/s, p99 1.5 ms")
    assert goal.judge(figures, "asyncio")["of_goals"]["rate"] == 1.5


def test_a_case_without_a_goal_is_not_judged() -> None:
    figures = {"records_per_second": 1, "p50_us": None, "p99_us": None}
    assert Goal().judge(figures, "trio") == {"goal": "", "of_goal": None, "of_goals": {}}
    assert Goal(p50_us=300).judge(figures, "trio")["of_goal"] is None


@pytest.mark.system
@pytest.mark.parametrize("driver", ["trio", "asyncio", "sync"])
def test_what_goes_through_is_measured(cli: Cli, driver: str) -> None:
    quick = ["--duration", "300ms", "--warmup", "50ms", "--runs", "1", "--driver", driver]
    [row] = json.loads(cli("bench", "suite", "--only", "through", *quick, "-o", "json").stdout)
    assert row["records"] > 0
    assert row["of_goal"] == pytest.approx(row["records_per_second"] / 3_000_000, abs=0.01)
