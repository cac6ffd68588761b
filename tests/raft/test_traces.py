"""Recorded traces: the whole behaviour of a group, line by line, to be read and reviewed."""

from pathlib import Path

import pytest

from tests.datadriven import replay
from tests.raft.scribe import Play

TRACES = sorted(Path(__file__).with_name("traces").glob("*.txt"))


def test_the_traces_are_there() -> None:
    assert len(TRACES) >= 12


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_the_recorded_trace_is_reproduced(path: Path) -> None:
    replay(path, Play().handle)
