"""A broker with shared groups that is killed, whose clock jumps, whose disk is full."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ops.faults.shared_members import Members, now_us
from ops.faults.shared_work import SharedWork
from penstock import sync
from penstock.errors import StorageFull, TimedOut
from tests.system.process import BrokerProcess, Sabotaged, healthy, wait_until

pytestmark = pytest.mark.system

GROUP = "billing"
HOUR = 3600


def test_every_record_is_acked_or_dead_once_though_the_broker_is_killed(tmp_path: Path) -> None:
    chance = random.Random(5)
    with BrokerProcess(tmp_path).start() as broker:
        work = SharedWork(tmp_path / "members", broker.address, "orders", partitions=2)
        for number in range(2):
            work.members.start("--in-flight", str(50 * number + 10), "--busy", "0.002", ready=False)
        work.produce()
        for _ in range(3):
            time.sleep(chance.uniform(0.4, 0.9))
            work.ledger.crashes.append(now_us())
            broker.kill()
            broker.start()
        time.sleep(0.5)
        work.stop()
        work.settle(redrive=True)
        ledger = work.check()
        assert ledger.breaches == []
        assert ledger.counts["records checked"] > 300
        assert ledger.counts["dead letters"] > 0
        assert ledger.counts["delayed records checked"] > 10
        assert ledger.counts["firings checked"] >= 2
        healthy(broker)


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_leases_retries_and_dead_letters_go_on_when_the_clock_jumps(
    tmp_path: Path, jump: int
) -> None:
    with Sabotaged(tmp_path).start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        client.admin.create_group(
            "orders", GROUP, {"lease_ms": "1s", "retry_min_ms": 0, "attempts_max": 3}
        )
        client.publish_many("orders", [b"fine/0", b"poison/0"])
        with Members(tmp_path / "members", broker.address, "orders", GROUP) as members:
            victim = members.start("--stand-still", "30", "--in-flight", "50")
            victim.wait_for("began")
            broker.begin("clock", str(jump))
            time.sleep(0.3)
            heir = members.start()
            victim.kill()
            heir.wait(lambda: 0 in heir.offsets("ended"), "taken over", 5.0)
            assert wait_until(
                lambda: client.admin.describe_shared("orders", GROUP).partitions[0].start == 2
            )
            assert len(client.admin.dead_letters("orders", GROUP).letters) == 1
        healthy(broker)


def test_leases_end_after_a_restart_with_the_clock_put_back(tmp_path: Path) -> None:
    with Sabotaged(tmp_path) as broker:
        broker.begin("clock", str(HOUR))
        broker.start()
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders")
            client.admin.create_group("orders", GROUP, {"lease_ms": "1s", "retry_min_ms": 0})
            client.publish("orders", b"fine/0")
        with Members(tmp_path / "members", broker.address, "orders", GROUP) as members:
            victim = members.start("--stand-still", "30")
            victim.wait_for("began")
            victim.kill()
            broker.kill()
            broker.end("clock")
            broker.start()
            heir = members.start()
            heir.wait_for("confirmed", 1)
        healthy(broker)


def test_delays_and_schedules_are_never_early_or_doubled_when_the_clock_jumps(
    tmp_path: Path,
) -> None:
    with Sabotaged(tmp_path).start() as broker:
        work = SharedWork(tmp_path / "members", broker.address, "orders")
        work.ledger.steady = False
        work.members.start("--in-flight", "50", ready=False)
        work.produce()
        for jump in (1.5, -2.0, 0.0):
            time.sleep(1.0)
            broker.begin("clock", str(jump))
        time.sleep(1.0)
        work.stop()
        work.settle()
        assert work.check().breaches == []
        healthy(broker)


def test_on_a_full_disk_acks_and_redrives_go_on_while_publishes_are_refused(
    tmp_path: Path,
) -> None:
    with (
        Sabotaged(tmp_path).start() as broker,
        sync.connect(broker.address, delivery_timeout=0.5) as client,
    ):
        client.admin.create_topic("orders")
        client.publish_many("orders", [b"%d" % number for number in range(10)])
        with client.subscribe("orders", group=GROUP, mode="shared") as records:
            for record in records.fetch(5, wait=5.0):
                record.reject("not yet")
            records.flush()
            assert wait_until(lambda: len(client.admin.dead_letters("orders", GROUP).letters) == 5)
            broker.begin("low", "1000000")
            assert wait_until(lambda: is_refused(client))
            assert client.admin.redrive("orders", GROUP).redriven == 5
            got = [record.value for _ in range(10) for record in take(records)]
            assert {b"%d" % number for number in range(10)} <= set(got)
            assert is_refused(client)
            found = client.admin.describe_shared("orders", GROUP).partitions[0]
            assert found.start == found.high_watermark
            assert client.admin.dead_letters("orders", GROUP).letters == []
            broker.end("low")
            assert wait_until(lambda: not is_refused(client))
        healthy(broker)


def take(records: sync.SharedSubscription) -> list[sync.SharedRecord]:
    found = records.fetch(10, wait=0.3)
    records.ack_many(found)
    records.flush()
    return found


def is_refused(client: sync.Client) -> bool:
    try:
        client.publish("orders", b"more")
    except (StorageFull, TimedOut):
        return True
    return False
