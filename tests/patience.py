"""A plugin for runs that somebody waits for: failures are told at once, and there is an end.

A run that is cut off from outside says nothing of what failed before. So each failure is printed
when it happens, and from the time in PENSTOCK_TESTS_END on (seconds of Unix time) no further test
is begun: the run fails, with its closing line and the slowest tests.
"""

from __future__ import annotations

import os
import time

import pytest

END = float(os.environ.get("PENSTOCK_TESTS_END", "inf"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that gathers the reports does it
    if report.failed:
        print(f"\n== failed: {report.nodeid} ({report.when})\n{report.longreprtext}", flush=True)
    if time.time() > END:
        pytest.exit("the time for this run is over; what follows was not tested", returncode=1)
