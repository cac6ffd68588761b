"""The digest of what was decided: equal wherever the same was, and other as soon as it was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from penstock_broker.machine.commands import Command, CreateTopic, RaiseFeatureLevel, SetBalancing
from penstock_broker.machine.decisions import chained
from penstock_broker.machine.effects import LogStartMoved
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import Stamp
from tests.machine import history

DECIDED = {1: 0x307BE589081A58CC}
"""What group 0 decided in the pinned history, by feature level. Another value of a level that was
released once makes brokers of two versions take each other for parted: it never changes, but with
the history itself."""


def played(change: Callable[[int, Command], Command | None] = lambda _, same: same) -> int:
    machine = MetadataMachine()
    for index, command in enumerate(history.metadata_commands(), 1):
        changed = change(index, command)
        if changed is not None:
            machine.apply(changed, Stamp(index, 1, index))
    return machine.digest


def test_the_digest_of_a_history_never_changes() -> None:
    assert played() == DECIDED[1]


def test_what_is_refused_leaves_no_trace() -> None:
    machine = MetadataMachine()
    assert machine.digest == 0
    for index, command in enumerate(history.metadata_commands(), 1):
        before = machine.digest
        reply, _ = machine.apply(command, Stamp(index, 1, index))
        assert (machine.digest == before) == (type(reply).__name__ == "Refused"), command
        machine.preview(RaiseFeatureLevel(level=1), Stamp(index + 1, 1, 1))


@pytest.mark.parametrize("index", [1, 2, 14, 30, 41, 55, 61, 67])
def test_a_command_that_is_not_carried_out_is_noticed_for_ever(index: int) -> None:
    assert played(lambda at, same: None if at == index else same) != played()


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": [[3, 2, 1]] * 7},
        {"partitions": 6},
        {"config": {"cleanup": "compact", "segment_ms": "2h", "retention_ms": -1}},
        {"id": "another"},
    ],
)
def test_another_topic_is_noticed(change: dict[str, Any]) -> None:
    def changed(index: int, command: Command) -> Command:
        first = isinstance(command, CreateTopic) and index == 2
        return replace(command, **change) if first else command

    assert played(changed) != played()


def test_the_same_decision_at_another_entry_is_another_one() -> None:
    (one, other) = (chained(7, index, (1, True), [], {}, {}) for index in (5, 6))
    assert one != other
    assert 0 < one < 2**64


def test_what_is_switched_for_the_whole_cluster_is_noticed() -> None:
    one, other = MetadataMachine(), MetadataMachine()
    for index, command in enumerate(history.metadata_commands()[:3], 1):
        for machine in (one, other):
            machine.apply(command, Stamp(index, 1, index))
    one.apply(SetBalancing(on=False), Stamp(4, 1, 4))
    other.apply(SetBalancing(on=True), Stamp(4, 1, 4))
    assert one.digest != other.digest


def test_the_order_of_effects_and_how_often_one_is_named_do_not_matter() -> None:
    machine = MetadataMachine()
    for index, command in enumerate(history.metadata_commands()[:3], 1):
        _, effects = machine.apply(command, Stamp(index, 1, index))
    nodes, topics = machine.nodes, machine.topics
    found = {
        chained(7, 3, (1, True), order, nodes, topics)
        for order in (effects, effects[::-1], effects * 2)
    }
    assert len(found) == 1


def test_an_effect_that_is_not_of_the_metadata_is_an_error_of_the_program() -> None:
    with pytest.raises(AssertionError, match="LogStartMoved"):
        chained(0, 1, (1, True), [LogStartMoved(5)], {}, {})
