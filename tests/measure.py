"""A plugin that measures coverage in each process that runs tests (`-p tests.measure`).

`ops/test` loads it, and puts together what the processes wrote. It begins before any plugin has
imported what is to be measured, and is at rest in tests marked `no_cover`.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import coverage
import pytest

measured = coverage.Coverage(data_suffix=True)
measured.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    tracer = sys.gettrace()  # of this thread: a broker that serves other tests stays measured
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    measured.stop()
    measured.save()
