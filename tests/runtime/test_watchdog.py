"""A silent disk and a long round are told of, once each."""

from __future__ import annotations

import logging
import time

import pytest

from penstock_broker.runtime.watchdog import Watchdog
from penstock_broker.runtime.worker import Worker
from tests.node.harness import Harness


@pytest.fixture
def worker() -> Worker:
    made = Worker("test")
    made.close(5)
    return made


def test_a_stall_is_told_of_once_and_so_is_its_end(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watchdog = Watchdog(Harness().node, worker)
    for since in (time.monotonic() - 1, time.monotonic() - 3):
        worker.since = since
        for _ in range(3):
            watchdog.look()
    worker.since = None
    watchdog.look()
    watchdog.look()
    said = [record.message for record in caplog.records]
    assert said == ["the disk does not answer", "the disk answers again"]
    assert watchdog.disk_stalls == 1


def test_a_broker_that_is_alone_keeps_its_leads_whatever_its_disk_does(worker: Worker) -> None:
    node = Harness().node
    watchdog = Watchdog(node, worker)
    worker.since = time.monotonic() - 60
    watchdog.look()
    assert not node.hand_over.under_way
    assert node.ready


def test_long_rounds_are_counted(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(Harness().node, worker)
    watchdog.round_took(0.7)
    assert watchdog.slow_rounds == 1
    assert "a round took long" in caplog.text
