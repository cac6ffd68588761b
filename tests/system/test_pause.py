"""Processes that stand still for a while: the broker, a client."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.faults.load import Load, Style, check_commits
from penstock import sync
from tests.system.process import (
    ENVIRONMENT,
    BrokerProcess,
    Ledger,
    audit,
    healthy,
    wait_until,
)

pytestmark = pytest.mark.system

MEMBER = """
import sys
from penstock import sync
with sync.connect(sys.argv[1]) as client:
    with client.subscribe("orders", group="billing", session_timeout=0.5) as records:
        for record in records:
            print(record.offset, flush=True)
"""


def test_a_broker_that_stood_still_goes_on_without_a_loss(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders", partitions=2)
        ledger = Ledger("orders")
        with Load(broker.address, ledger) as load:
            load.produce("one", Style(pause=0.005))
            load.produce("two", Style(driver="asyncio", pause=0.005))
            load.consume("billing")
            for seconds in (0.1, 0.7, 1.5):
                time.sleep(0.2)
                broker.send_signal(signal.SIGSTOP)
                time.sleep(seconds)
                broker.send_signal(signal.SIGCONT)
            before = ledger.count
            assert wait_until(lambda: ledger.count > before)
        assert load.errors == []
        assert audit(broker.address, ledger).breaches == []
        assert check_commits(load, "billing") == []
        healthy(broker)


def test_a_member_that_stood_still_loses_its_place_and_the_next_one_gets_all(
    tmp_path: Path,
) -> None:
    with BrokerProcess(tmp_path).start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        command = [sys.executable, "-c", MEMBER, broker.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as first:
            assert first.stdout is not None
            client.publish("orders", b"a")
            assert first.stdout.readline() == "0\n"
            first.send_signal(signal.SIGSTOP)
            with client.subscribe("orders", group="billing", session_timeout=0.5) as records:
                client.publish("orders", b"b")
                assert records.fetch(1, wait=5.0)
            first.kill()
        healthy(broker)


def test_a_client_that_stands_still_does_not_stop_the_others(tmp_path: Path) -> None:
    program = MEMBER.replace("print(record.offset, flush=True)", "pass")
    with BrokerProcess(tmp_path).start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        command = [sys.executable, "-c", program, broker.address]
        still = subprocess.Popen(command, env=ENVIRONMENT)
        try:
            assert wait_until(lambda: bool(client.admin.list_groups().groups))
            still.send_signal(signal.SIGSTOP)
            for _ in range(20):
                client.publish_many("orders", [b"x" * 1000] * 1000)
            healthy(broker)
            assert broker.memory_bytes() < 400 << 20
        finally:
            still.kill()
            still.wait()
