"""Wall clocks that jump: nothing depends on them but the times that records carry."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from penstock import sync
from tests.system.process import Sabotaged, healthy

pytestmark = pytest.mark.system

HOUR = 3600


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -365 * 24 * HOUR])
def test_a_clock_that_jumps_changes_neither_order_nor_sessions(tmp_path: Path, jump: int) -> None:
    with (
        Sabotaged(tmp_path).start() as broker,
        sync.connect(broker.address) as client,
    ):
        client.admin.create_topic("orders")
        with client.subscribe("orders", group="billing", session_timeout=5.0) as records:
            client.publish("orders", b"before")
            assert len(records.fetch(1, wait=5.0)) == 1
            joined = client.admin.describe_group("billing").generation
            broker.begin("clock", str(jump))
            client.publish("orders", b"after")
            assert len(records.fetch(1, wait=5.0)) == 1
            records.commit()
            assert client.admin.describe_group("billing").generation == joined
        healthy(broker)


def test_times_of_records_never_go_back_also_over_restarts(tmp_path: Path) -> None:
    with Sabotaged(tmp_path).start() as broker:
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders")
            first = client.publish("orders", b"a", dedup_id="one")
            for number, jump in enumerate((-HOUR, HOUR, -2 * HOUR)):
                broker.begin("clock", str(jump))
                client.publish("orders", b"b")
                if number == 1:
                    broker.kill()
                else:
                    assert broker.stop() == 0
                broker.start()
                client.publish("orders", b"c")
            again = client.publish("orders", b"a", dedup_id="one")
            end = client.admin.list_offsets("orders", "latest")[0]
            with client.subscribe("orders", partitions=[0], start=0) as records:
                times = [next(records).timestamp_us for _ in range(end)]
        assert all(before <= after for before, after in pairwise(times))
        assert again.offset in (first.offset, 7)  # the window of ten minutes went with the jump
        healthy(broker)


def test_a_time_is_looked_up_in_a_log_whose_clock_went_back(tmp_path: Path) -> None:
    with Sabotaged(tmp_path).start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        placed = []
        for jump in (0, -HOUR, -2 * HOUR):
            broker.begin("clock", str(jump))
            placed.append(client.publish("orders", b"a"))
        for receipt in placed:
            found = client.admin.list_offsets("orders", {0: receipt.timestamp})
            assert found[0] <= receipt.offset
