"""Two copies, one disk lost for ever, and a crash of the other broker at the worst moment."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from penstock import sync
from penstock.errors import PenstockError, PreconditionFailed
from tests.system.cluster import ClusterProcesses, wait_until
from tests.system.test_cluster import stored

pytestmark = pytest.mark.system


def survivor(cluster: ClusterProcesses) -> int:
    """Who would go on, with all that was acknowledged; 0: a majority may still come back."""
    with suppress(PreconditionFailed), sync.connect(cluster.address) as client:
        plan = client.admin.recover_partition("orders", 0, dry_run=True)
        assert plan.complete
        return plan.node
    return 0


def is_whole(cluster: ClusterProcesses) -> bool:
    with suppress(PenstockError), sync.connect(cluster.address) as client:
        (state,) = client.admin.list_partitions("orders")
        return state.state == "ok" and len(state.members) == 2
    return False


def test_a_lost_disk_costs_two_copies_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        with sync.connect(cluster.address) as client:
            client.admin.create_topic("orders", 1, 2)
            client.publish_many("orders", [b"%d" % number for number in range(500)])
        lost = cluster.leader("orders")
        lost.kill()
        shutil.rmtree(lost.data)
        assert survivor(cluster) == 0
        lost.start()
        assert wait_until(lambda: survivor(cluster) > 0)
        left = cluster.member(survivor(cluster))
        with sync.connect(cluster.address) as client:
            client.admin.recover_partition("orders", 0)
        left.kill()
        left.start()
        with sync.connect(cluster.address) as client:
            client.publish("orders", b"500")
        assert stored(cluster, "orders", 501) == [b"%d" % number for number in range(501)]
        assert wait_until(lambda: is_whole(cluster))
