"""SIGKILL at random moments: what was acknowledged is there, once and in order."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ops.faults.load import Load, Style, check_commits
from penstock import sync
from tests.system.process import BrokerProcess, Ledger, audit, healthy

pytestmark = pytest.mark.system


def make_topic(broker: BrokerProcess, name: str, partitions: int = 2) -> Ledger:
    with sync.connect(broker.address) as client:
        client.admin.create_topic(name, partitions=partitions)
    return Ledger(name)


def test_acknowledged_records_survive_kills_under_load_once_and_in_order(tmp_path: Path) -> None:
    chance = random.Random(1)
    with BrokerProcess(tmp_path).start() as broker:
        ledger = make_topic(broker, "orders")
        with Load(broker.address, ledger) as load:
            for driver in ("blocking", "trio", "asyncio"):
                load.produce(driver, Style(driver=driver, pause=0.01))
            load.consume("billing")
            for _ in range(4):
                time.sleep(chance.uniform(0.2, 0.9))
                broker.kill()
                broker.start()
            time.sleep(0.3)
        assert load.errors == []
        broker.kill()
        broker.start()
        found = audit(broker.address, ledger)
        assert found.breaches == []
        assert found.stored == ledger.count > 1000
        assert check_commits(load, "billing") == []
        healthy(broker)


def test_large_batches_without_compression_survive_kills(tmp_path: Path) -> None:
    chance = random.Random(2)
    with BrokerProcess(tmp_path).start() as broker:
        ledger = make_topic(broker, "large", partitions=1)
        style = Style(partitions=1, window=32, value_bytes=60_000, compression="none")
        with Load(broker.address, ledger) as load:
            load.produce("large", style)
            for _ in range(3):
                time.sleep(chance.uniform(0.2, 0.5))
                broker.kill()
                broker.start()
        assert load.errors == []
        assert audit(broker.address, ledger).breaches == []


def test_a_broker_killed_while_it_starts_starts_again(tmp_path: Path) -> None:
    chance = random.Random(3)
    with BrokerProcess(tmp_path).start() as broker:
        ledger = make_topic(broker, "orders")
        with Load(broker.address, ledger) as load:
            load.produce("one", Style(window=64))
            time.sleep(0.5)
            for _ in range(4):
                broker.kill()
                broker.spawn()
                time.sleep(chance.uniform(0.15, 0.6))
            broker.kill()
            broker.start()
        assert load.errors == []
        assert audit(broker.address, ledger).breaches == []


def test_a_record_sent_again_after_a_kill_is_answered_with_its_first_place(
    tmp_path: Path,
) -> None:
    with BrokerProcess(tmp_path).start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        first = client.publish("orders", b"a", dedup_id="a-1")
        broker.kill()
        broker.start()
        again = client.publish("orders", b"a", dedup_id="a-1")
        assert (again.offset, again.duplicate) == (first.offset, True)
        assert client.publish("orders", b"b").offset == 1
