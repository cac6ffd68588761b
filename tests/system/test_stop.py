"""SIGTERM and SIGINT: drain, answer, leave; a second one does not wait."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from ops.faults.load import Load, Style
from penstock import sync
from penstock_broker.runtime.files import RealFiles
from penstock_broker.storage import StorageConfig, Store
from tests.system.process import BrokerProcess, Ledger, Sabotaged, audit, wait_until

pytestmark = pytest.mark.system


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_ends_with_zero_and_loses_nothing(tmp_path: Path, number: int) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders", partitions=2)
        ledger = Ledger("orders")
        with Load(broker.address, ledger) as load:
            load.produce("one", Style())
            load.produce("two", Style(driver="trio"))
            time.sleep(0.4)
            began = time.monotonic()
            assert broker.stop(number) == 0
            assert time.monotonic() - began < 5
            broker.start()
        assert load.errors == []
        assert audit(broker.address, ledger).breaches == []
        assert "Traceback" not in broker.log()


def test_a_broker_that_was_stopped_starts_without_replaying_its_log(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        with sync.connect(broker.address, compression="none") as client:
            client.admin.create_topic("orders")
            for _ in range(20):
                client.publish_many("orders", [b"x" * 1000] * 1000)
        assert broker.stop() == 0
        store = Store.open(RealFiles(broker.data), StorageConfig(), fresh_uuid=bytes(16))
        assert [len(group.entries) for group in store.recovered.values() if group.entries] == []
        store.close()
        broker.start()
        with sync.connect(broker.address) as client:
            assert client.admin.list_offsets("orders", "latest") == {0: 20_000}


def test_waiting_fetches_do_not_delay_a_stop(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        with client.subscribe("orders", group="billing") as records:
            thread = threading.Thread(target=records.fetch, args=(1, 2.0))
            thread.start()
            time.sleep(0.3)
            began = time.monotonic()
            assert broker.stop() == 0
            assert time.monotonic() - began < 3
            broker.start()
            thread.join()


def test_a_second_signal_ends_a_broker_whose_disk_hangs(tmp_path: Path) -> None:
    with Sabotaged(tmp_path).start() as broker:
        client = sync.connect(broker.address).__enter__()
        client.admin.create_topic("orders")
        client.publish("orders", b"kept")
        broker.begin("hang")
        client.publish_nowait("orders", b"never acknowledged")
        time.sleep(0.2)
        broker.send_signal(signal.SIGTERM)
        assert wait_until(lambda: "stopping" in broker.log())
        time.sleep(0.2)
        broker.send_signal(signal.SIGTERM)
        broker.wait(12)
        client.close(0.1)
        broker.end("hang")
        broker.start()
        with sync.connect(broker.address) as client:
            assert client.admin.list_offsets("orders", "latest")[0] in (1, 2)


def test_a_signal_ends_a_broker_that_is_starting(tmp_path: Path) -> None:
    with Sabotaged(tmp_path) as broker:
        broker.begin("hang")
        broker.spawn()
        assert wait_until(lambda: (broker.data / "lock").exists())
        broker.send_signal(signal.SIGTERM)
        broker.wait(12)
