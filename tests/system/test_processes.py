"""`penstock serve --processes`: several brokers of one machine under one supervisor."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.faults.cluster import free_ports
from penstock import sync
from penstock.errors import PenstockError
from tests.system.process import BrokerProcess, wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[BrokerProcess]:
    address = f"127.0.0.1:{free_ports(3)[0]}"
    with BrokerProcess(tmp_path, address=address, options=["--processes", "3"]) as process:
        yield process.start()


def addresses(process: BrokerProcess) -> list[str]:
    return [f"127.0.0.1:{process.port + number}" for number in range(3)]


def status(address: str) -> dict[str, object]:
    try:
        with sync.connect(address, request_timeout=2.0) as client:
            reply = client.admin.status()
            return {"node": reply.node, **reply.figures}
    except PenstockError:
        return {}


def test_members_form_a_cluster_come_back_and_stop_together(supervised: BrokerProcess) -> None:
    places = addresses(supervised)
    assert wait_until(lambda: all(map(status, places)))
    with sync.connect(places[0]) as client:
        client.admin.init_cluster()
    assert wait_until(lambda: all(status(p).get("metadata_voters") == 3 for p in places))
    with sync.connect(",".join(places)) as client:
        client.admin.create_topic("orders", replication=3)
        client.publish("orders", b"a")
        pid = status(places[1])["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        client.publish("orders", b"b")
        assert wait_until(lambda: status(places[1]).get("pid") not in (None, pid))
        client.publish("orders", b"c")
    pids = [status(place)["pid"] for place in places]
    supervised.send_signal(signal.SIGTERM)
    assert supervised.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_members_end_with_their_supervisor_however_it_ends(supervised: BrokerProcess) -> None:
    places = addresses(supervised)
    assert wait_until(lambda: all(map(status, places)))
    pids = [status(place)["pid"] for place in places]
    os.kill(supervised.pid, signal.SIGKILL)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_options_that_can_not_work_end_it(supervised: BrokerProcess, tmp_path: Path) -> None:
    again = BrokerProcess(tmp_path / "again", address=supervised.address, data=supervised.data,
                          options=["--processes", "2"])  # fmt: skip
    again.spawn()
    assert again.wait() == 1
