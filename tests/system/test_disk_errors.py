"""Disks that fail and disks that are full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.faults.ledger import read_partition
from ops.faults.load import Load, Style
from ops.faults.power import Disk, Unavailable
from penstock import sync
from penstock.errors import ConnectionLost, StorageFull, TimedOut
from tests.system.process import (
    BrokerProcess,
    Ledger,
    Sabotaged,
    StartError,
    audit,
    healthy,
    wait_until,
)

pytestmark = pytest.mark.system

FATAL = 70


def fill(address: str, ledger: Ledger, name: str, seconds: float) -> Load:
    """A load that may fail: what was acknowledged counts, what failed does not."""
    load = Load(address, ledger)
    load.produce(name, Style(window=64, pause=0.001))
    time.sleep(seconds)
    return load


def test_a_failed_sync_ends_the_broker_and_nothing_is_acknowledged_after_it(
    tmp_path: Path,
) -> None:
    with Sabotaged(tmp_path).start() as broker:
        ledger = Ledger("orders")
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders", partitions=2)
        load = fill(broker.address, ledger, "one", 0.3)
        broker.begin("sync")
        assert broker.wait(60) == FATAL
        assert "sync of wal/" in broker.log()
        assert "Traceback" not in broker.log()
        acknowledged = ledger.count
        time.sleep(0.2)
        assert ledger.count == acknowledged > 0
        broker.end("sync")
        broker.start()
        load.join()
        assert load.errors == []
        assert audit(broker.address, ledger).breaches == []


def test_a_broker_survives_a_failure_at_each_sync_of_its_life(tmp_path: Path) -> None:
    with Sabotaged(tmp_path) as broker:
        kept = []
        for number in range(2, 40, 6):
            broker.begin("sync", str(number))
            try:
                broker.start()
            except StartError:
                assert broker.wait() in (1, FATAL)
                continue
            kept += publish_until_it_ends(broker.address, f"{number}")
            if broker.running:
                broker.kill()
            else:
                assert broker.wait() == FATAL
        broker.end("sync")
        broker.start()
        assert "Traceback" not in broker.log()
        with sync.connect(broker.address) as client:
            found = {value for _, value in read_partition(client, "orders", 0)}
        assert set(kept) <= found
        assert len(kept) > 5


def publish_until_it_ends(address: str, name: str) -> list[bytes]:
    kept = []
    try:
        with sync.connect(address, delivery_timeout=0.5, request_timeout=0.5) as client:
            client.admin.create_topic("orders", if_not_exists=True)
            for number in range(30):
                value = f"{name}-{number}".encode()
                client.publish("orders", value)
                kept.append(value)
    except (ConnectionLost, TimedOut):
        return kept
    return kept


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_an_error_of_the_kernel_in_a_sync_ends_the_broker(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        ledger = Ledger("orders")
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders", partitions=2)
        load = fill(broker.address, ledger, "one", 0.2)
        strace = subprocess.Popen(
            ["strace", "-qq", "-f", "-e", "trace=fdatasync", "-e",
             "inject=fdatasync:error=EIO:when=20", "-p", str(broker.pid)],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert broker.wait(20) == FATAL
        strace.wait(60)
        broker.start()
        load.join()
        assert load.errors == []
        assert audit(broker.address, ledger).breaches == []


@pytest.mark.parametrize("fault", ["full", "low"])
def test_a_full_disk_refuses_publishes_and_goes_on_with_all_else(
    tmp_path: Path, fault: str
) -> None:
    with Sabotaged(tmp_path).start() as broker:
        with sync.connect(broker.address, delivery_timeout=0.5) as client:
            client.admin.create_topic("orders")
            for number in range(10):
                client.publish("orders", b"%d" % number)
            broker.begin(fault, "1000000")
            assert wait_until(lambda: is_refused(client))
            with client.subscribe("orders", partitions=[0], start=0) as records:
                assert len(records.fetch(10, wait=5)) == 10
            if fault == "low":
                with client.subscribe("orders", group="billing", commit="manual") as records:
                    assert len(records.fetch(10, wait=5)) == 10
                    records.commit()
            broker.end(fault)
            assert wait_until(lambda: not is_refused(client))
        broker.kill()
        broker.start()
        with sync.connect(broker.address) as client:
            with client.subscribe("orders", partitions=[0], start=0) as records:
                values = [record.value for record in records.fetch(20, wait=5)]
            if fault == "low":
                assert client.admin.describe_group("billing").partitions[0].committed == 10
        assert values[:10] == [b"%d" % number for number in range(10)]
        assert values.count(b"more") >= 1
        healthy(broker)


def is_refused(client: sync.Client) -> bool:
    try:
        client.publish("orders", b"more")
    except (StorageFull, TimedOut):
        return True
    return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    try:
        with Disk(tmp_path, size=1 << 30) as disk:
            yield disk.place
    except Unavailable as reason:
        pytest.skip(str(reason))


def take_up_room(ballast: Path) -> None:
    """Take nearly all room of a disk, on which others go on writing meanwhile."""
    with ballast.open("wb") as file:
        while (free := shutil.disk_usage(ballast.parent).free) > 2 << 20:
            end = os.fstat(file.fileno()).st_size
            with contextlib.suppress(OSError):  # others were quicker: look how much is left
                os.posix_fallocate(file.fileno(), end, free - (1 << 20))


def test_a_disk_that_fills_up_under_load_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with BrokerProcess(tmp_path, data=small_disk / "data").start() as broker:
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders", partitions=2)
        ledger = Ledger("orders")
        with Load(broker.address, ledger) as load:
            load.produce("one", Style(window=64, value_bytes=20_000, compression="none"))
            time.sleep(0.3)
            take_up_room(ballast)
            assert wait_until(lambda: "publishes are refused" in broker.log())
            time.sleep(0.5)
            assert broker.running, broker.log()
            before = ledger.count
            time.sleep(0.3)
            assert ledger.count == before, "publishes go on though the disk is full"
            ballast.unlink()
            assert wait_until(lambda: ledger.count > before)
        assert load.errors == []
        broker.kill()
        broker.start()
        assert audit(broker.address, ledger).breaches == []


def test_a_broker_that_starts_on_a_full_disk_waits_for_room_and_says_so(tmp_path: Path) -> None:
    with Sabotaged(tmp_path).start() as broker:
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders")
            client.publish("orders", b"kept")
        broker.kill()
        broker.begin("full")
        broker.spawn()
        assert wait_until(lambda: "publishes are refused" in broker.log())
        assert broker.running
        broker.end("full")
        assert wait_until(lambda: broker.listens)
        with sync.connect(broker.address) as client:
            assert client.publish("orders", b"more").offset == 1
