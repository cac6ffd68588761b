"""A short run of every fuzzing target; `ops/fuzz/run` is the long one."""

from random import Random

import pytest

from ops.fuzz.__main__ import fuzz
from ops.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_bytes_crash_nothing(name):
    outcomes, crashes = fuzz(name, 400, Random(f"7 {name}"))
    assert not crashes, crashes[0]
    assert len(outcomes) > 3
