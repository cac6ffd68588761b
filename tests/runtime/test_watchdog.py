"""A silent disk and a long round are told of, once each."""

from __future__ import annotations

import logging
import time

import pytest

from penstock_broker.runtime.watchdog import Watchdog
from penstock_broker.runtime.worker import Worker
from tests.node.cluster import Cluster
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


def test_a_broker_whose_disk_is_full_hands_its_leads_over(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock_broker.runtime.watchdog.FULL_SECONDS", 0.0)
    cluster = Cluster(3)
    gid = cluster.topic("orders", 1, 3)[0]
    member = cluster.leader(gid)
    watchdog = Watchdog(member.node, worker)
    monkeypatch.setattr(member.node.store.files, "free_bytes", lambda: 0)
    cluster.run_until(lambda: member.node.store.full)

    for _ in range(3):
        watchdog.look()
    cluster.run_until(lambda: not list(member.node.groups.led()))

    assert cluster.leader(gid).number != member.number
    assert caplog.messages.count("leads are handed over: the disk is nearly full") == 1


def test_a_lead_that_comes_back_at_once_is_not_given_away_again_soon() -> None:
    cluster = Cluster(3)
    gid = cluster.topic("orders", 1, 3)[0]
    unwilling = cluster.leader(gid)
    terms = []

    for _ in range(60):
        if cluster.leader(gid) is unwilling:
            terms.append(unwilling.group(gid).raft.term)
            unwilling.node.hand_over.begin()
        cluster.advance(1.0)

    assert len(set(terms)) <= 2
