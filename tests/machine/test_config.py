from typing import Any

import pytest

from penstock.errors import InvalidConfig, InvalidName
from penstock_broker.machine import config
from penstock_broker.machine.config import KEYS, TopicConfig
from penstock_broker.machine.names import check_topic_name

DAY = 86_400_000


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("retention_ms", "7d", 7 * DAY),
        ("retention_ms", "1m30s", 90_000),
        ("retention_ms", "86400000", DAY),
        ("retention_ms", "-1", -1),
        ("retention_ms", 1000, 1000),
        ("retention_bytes", "1GiB", 1 << 30),
        ("retention_bytes", "10GB", 10**10),
        ("max_batch_bytes", "8 MiB", 8 << 20),
        ("dedup_window_ms", 0, 0),
        ("cleanup", "compact", "compact"),
        ("retention", "until_acked", "until_acked"),
    ],
)
def test_values_may_be_numbers_or_quantities(key: str, text: Any, value: object) -> None:
    assert config.parse({key: text}) == {key: value}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention", "for ever"),
        ("cleanup", 3),
        ("retention_ms", 0),
        ("retention_ms", -2),
        ("retention_ms", 1.5),
        ("retention_ms", True),
        ("retention_ms", None),
        ("retention_ms", "7 days"),
        ("retention_ms", "1GiB"),
        ("retention_ms", "9" * 30),
        ("max_batch_bytes", "9MiB"),
        ("max_batch_bytes", "1 mile"),
        ("max_batch_bytes", "large"),
        ("segment_bytes", -1),
        ("colour", "red"),
    ],
)
def test_other_values_are_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidConfig):
        config.parse({key: value})


def test_none_resets_a_key() -> None:
    current = config.parse({"retention_ms": "1d", "cleanup": "compact"})
    merged = config.merge(current, {"retention_ms": None, "segment_ms": "1h"})
    assert merged == {"cleanup": "compact", "segment_ms": 3_600_000}


def test_resetting_an_unknown_key_is_refused() -> None:
    with pytest.raises(InvalidConfig):
        config.merge({}, {"colour": None})


def test_every_key_has_a_default_that_it_admits() -> None:
    defaults = {name: getattr(TopicConfig(), name) for name in TopicConfig.__struct_fields__}
    assert list(defaults) == list(KEYS)
    assert config.parse(defaults) == dict(sorted(defaults.items()))


def test_description_tells_what_was_set() -> None:
    described = {str(row["name"]): row for row in config.describe({"cleanup": "compact"})}
    assert described["cleanup"]["value"] == "compact"
    assert described["cleanup"]["default"] == "delete"
    assert described["cleanup"]["set"]
    assert not described["retention_ms"]["set"]


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 200, "_one"])
def test_good_names_pass(name: str) -> None:
    check_topic_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 201, "a b", "a/b", "ä", "a\n", "__groups"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        check_topic_name(name)
