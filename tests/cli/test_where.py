from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.where import DEPTH_MAX, LENGTH_MAX, NAMES, WhereError, glob, parse

ORDER: dict[str, Any] = {
    "total": 120.5,
    "paid": True,
    "none": None,
    "customer": {"name": "Ada", "tags": ["new", "big"]},
    "items": [{"sku": "A-1", "n": 1}, {"sku": "B-2", "n": 2}],
    "odd name": 1,
    "in": 7,
}
RECORD = {
    "topic": "orders",
    "partition": 2,
    "offset": 17,
    "timestamp": "2026-01-31T09:30:00.000Z",
    "key": "a",
    "value": msgspec.json.encode(ORDER).decode(),
    "json": ORDER,
    "headers": {"source": "web"},
    "size": 80,
}


def scope(**changes: Any) -> dict[str, Any]:
    return {name: lambda value=value: value for name, value in {**RECORD, **changes}.items()}


@pytest.mark.parametrize(
    "text",
    [
        'value.total > 100 and key == "a"',
        "value.total >= 120.5 and value.total <= 120.5",
        "value.paid",
        "value.paid == true",
        "not value.none",
        "value.none == null",
        "value.missing.deeper == null",
        "exists(value.total) and not exists(value.missing)",
        "value.items[0].sku like 'A-*'",
        "value.items[-1].n == 2",
        'value["odd name"] == 1',
        "value.in == 7",
        "value.customer.tags contains 'big'",
        "'big' in value.customer.tags",
        "value.customer contains 'name'",
        'value contains "Ada"',
        'headers.source in ["web", "app"]',
        'topic == "orders" and partition in [1, 2] and offset >= 17',
        'timestamp > "2026-01-31" and timestamp < "2026-02"',
        "size < 100",
        "(key == 'b' or key == 'a') and not (offset == 1)",
        'key != "b"',
        "value.total > 1e2 and value.total > -1",
        '"\\u00e4" == "ä"',
    ],
)
def test_true_of_the_record(text: str) -> None:
    assert parse(text)(scope()) is True


@pytest.mark.parametrize(
    "text",
    [
        "value.total == '120.5'",
        "value.paid == 1",
        "value.total > 'a'",
        "value.none > 0",
        "value.missing < 1",
        "key == null",
        "value.items[5].n == 2",
        "value.items.sku == 'A-1'",
        "partition == true",
    ],
)
def test_values_of_different_kinds_are_never_equal_and_never_in_order(text: str) -> None:
    assert parse(text)(scope()) is False


def test_and_binds_tighter_than_or() -> None:
    assert parse("key == 'a' or key == 'b' and offset == 0")(scope()) is True
    assert parse("(key == 'a' or key == 'b') and offset == 0")(scope()) is False


def test_a_value_that_is_not_json_has_no_fields() -> None:
    assert parse("value.total > 1")(scope(json=None, value="plain")) is False


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "at the end"),
        ("key ==", "at the end"),
        ("key = 'a'", "before \"= 'a'\""),
        ("key == 'a' key", "before 'key'"),
        ("total > 1", "before 'total > 1'"),
        ("(key == 'a'", "at the end"),
        ("value.[0]", "before '[0]'"),
        ("value[true]", "before 'true]'"),
        ("value[1.5]", "before ']'"),
        ("[1, 2", "at the end"),
        ("exists(1)", "before '1)'"),
        ('key == "\\x"', "before"),
        ("__import__('os')", "before"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(WhereError) as caught:
        parse(text)
    assert place in str(caught.value)


def test_length_and_depth_are_limited() -> None:
    parse("(" * (DEPTH_MAX - 1) + "key" + ")" * (DEPTH_MAX - 1))
    for text in ("(" * 500 + "key" + ")" * 500, "[" * 500, "not " * 500 + "key"):
        with pytest.raises(WhereError, match="deeper"):
            parse(text)
    with pytest.raises(WhereError, match="longer"):
        parse("key" + " " * LENGTH_MAX)


@pytest.mark.parametrize(
    ("text", "pattern", "matches"),
    [
        ("abc", "abc", True),
        ("abc", "ab", False),
        ("abc", "*", True),
        ("", "*", True),
        ("abc", "a*c", True),
        ("ac", "a*c", True),
        ("a", "a*a", False),
        ("aXbXc", "a*b*c", True),
        ("abab", "*ab", True),
        ("aba", "ab*ba", False),
    ],
)
def test_a_pattern_matches_the_whole_text(text: str, pattern: str, matches: bool) -> None:
    assert glob(text, pattern) is matches


def test_a_hostile_pattern_is_answered_at_once() -> None:
    assert glob("a" * 1_000_000, "*a" * 2000 + "b") is False


tokens = st.sampled_from(
    [
        *sorted(NAMES),
        *("and", "or", "not", "in", "contains", "like", "exists", "(", ")", "[", "]", "true"),
        *(".", ",", "==", "!=", "<", ">=", "1", "-2.5", '"a"', "'b*'", "null", ".total"),
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.text(max_size=40) | st.lists(tokens, max_size=12).map(" ".join))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        predicate = parse(text)
    except WhereError:
        return
    assert predicate(scope()) in (True, False)


operands = st.sampled_from(
    ["value", "value.total", "key", "headers", "headers.a", "offset", "size", "[key, 1]", "null",
     "1.5", "'a*'", "value[0]", "(not key)"]
)  # fmt: skip
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "contains", "like"])


@given(operands, operators, operands, json_values, json_values)
def test_no_record_makes_an_expression_fail(
    left: str, operator: str, right: str, value: Any, key: Any
) -> None:
    predicate = parse(f"{left} {operator} {right}")
    assert predicate(scope(json=value, value=value, key=key, headers=value)) in (True, False)
