"""Many connections, slow ones, and peers that do not read."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import sync
from penstock.protocol.codec import encode_message
from penstock.protocol.frames import FRAME_HEADER, PUBLISH, fetch_request, publish_head
from penstock.protocol.messages import Metadata
from penstock.protocol.records import encode_batch
from tests.system.process import BrokerProcess, healthy, ping, wait_until
from tests.system.raw import HELLO, Raw

pytestmark = pytest.mark.system

KIB, MIB = 1 << 10, 1 << 20
RECORD = b"x" * 100_000
RECORDS = 1000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with 100 MB in one topic: more than it keeps in memory."""
    with BrokerProcess(tmp_path_factory.mktemp("connections")).start() as running:
        with sync.connect(running.address, compression="none") as client:
            client.admin.create_topic("large")
            for _ in range(RECORDS // 10):
                client.publish_many("large", [RECORD] * 10)
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log()


@pytest.fixture
def group(broker: BrokerProcess) -> int:
    with sync.connect(broker.address) as client:
        return client.admin.metadata(["large"]).topics[0].partitions[0].group


@contextlib.contextmanager
def crowd(broker: BrokerProcess, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that send something and then nothing."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection((broker.host, broker.port)))
            sock.sendall(data)
            found.append(sock)
        yield found


def push(raw: Raw, data: bytes, seconds: float) -> int:
    """Send it again and again while the peer takes it, and read nothing."""
    raw.sock.settimeout(0.3)
    give_up, sent = time.monotonic() + seconds, 0
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < give_up:
            sent += raw.sock.send(data)
    return sent


# ----- what a connection costs


def test_idle_connections_cost_little_memory_and_no_service(broker: BrokerProcess) -> None:
    before = broker.memory_bytes()
    with crowd(broker, 1000, HELLO):
        assert wait_until(lambda: ping(broker.address) < 2)
        assert broker.memory_bytes() - before < 1000 * 16 * KIB
        healthy(broker)


def test_connections_without_a_hello_are_closed_after_some_seconds(broker: BrokerProcess) -> None:
    with crowd(broker, 500, HELLO[:10]) as slow:
        before = broker.memory_bytes()
        healthy(broker)
        slow[0].settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while slow[0].recv(1 << 16):
                pass
        assert broker.memory_bytes() - before < 500 * 64 * KIB
        healthy(broker)


def test_unfinished_large_requests_are_bounded_and_leave_room_for_others(
    broker: BrokerProcess,
) -> None:
    before = broker.memory_bytes()
    head = HELLO + FRAME_HEADER.pack(8 * MIB, PUBLISH, 0, 0, 1, 1) + bytes(1000)
    with crowd(broker, 100, head):
        time.sleep(0.3)
        assert broker.memory_bytes() - before < 300 * MIB
        with sync.connect(broker.address, compression="none", delivery_timeout=60.0) as client:
            client.publish("large", bytes(900 * KIB))
        healthy(broker)


# ----- peers that do not read


@pytest.mark.parametrize("where", ["old", "new"])
def test_a_flood_of_fetches_whose_replies_are_not_read_is_bounded(
    broker: BrokerProcess, group: int, where: str
) -> None:
    before = broker.memory_bytes()
    offset = 0 if where == "old" else RECORDS - 1
    with Raw(broker.address, receive_bytes=4096) as raw:
        assert push(raw, fetch_request(7, group, offset, 16 * MIB, 1, 0) * 10_000, 2.0) > 100 * KIB
        healthy(broker)
        assert broker.memory_bytes() - before < 150 * MIB


def test_many_peers_that_read_nothing_are_bounded_together(
    broker: BrokerProcess, group: int
) -> None:
    before = broker.memory_bytes()
    request = fetch_request(7, group, 0, 16 * MIB, 1, 0)
    with crowd(broker, 40, HELLO + request * 50):
        time.sleep(1.0)
        healthy(broker)
        assert broker.memory_bytes() - before < 450 * MIB
    assert "too slowly" in broker.log()


def test_ten_thousand_pipelined_requests_are_all_answered(broker: BrokerProcess) -> None:
    count = 10_000
    with Raw(broker.address) as raw:
        requests = b"".join(encode_message(Metadata(topics=[]), n) for n in range(count))
        sender = threading.Thread(target=raw.send, args=(requests,))
        sender.start()
        answered = [raw.frame()[2] for _ in range(count)]
        sender.join()
    assert answered == list(range(count))
    healthy(broker)


def test_thousands_of_long_polls_do_not_slow_publishes_down(
    broker: BrokerProcess, group: int
) -> None:
    with sync.connect(broker.address) as client:
        end = client.admin.list_offsets("large", "latest")[0]
        waiting = fetch_request(7, group, end, 16 * MIB, 16 * MIB, 60_000)
        with crowd(broker, 4, HELLO + waiting * 4096):
            time.sleep(0.5)
            began = time.monotonic()
            for _ in range(20):
                client.publish("large", b"a")
            assert time.monotonic() - began < 4
            healthy(broker)


# ----- ends of connections


def test_a_half_closed_connection_is_closed_and_its_publish_is_kept(broker: BrokerProcess) -> None:
    with sync.connect(broker.address) as client:
        client.admin.create_topic("half", if_not_exists=True)
        group = client.admin.metadata(["half"]).topics[0].partitions[0].group
        batch = bytes(encode_batch([b"a"], codec=0, base_ts_us=1))
        with Raw(broker.address) as raw:
            raw.send(publish_head(1, group, 2, 0, len(batch)) + batch)
            raw.sock.shutdown(socket.SHUT_WR)
            assert raw.ends()
        assert wait_until(lambda: client.admin.list_offsets("half", "latest") == {0: 1})


def test_connections_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        with sync.connect(broker.address) as client:
            client.admin.create_topic("orders")
            group = client.admin.metadata(["orders"]).topics[0].partitions[0].group
        poll = fetch_request(7, group, 0, 1000, 16 * MIB, 60_000)
        files = broker.open_files()
        memory = [come_and_go(broker, HELLO + poll * 20, files) for _ in range(3)]
        assert memory[2] - memory[0] < 5 * MIB
        healthy(broker)


def come_and_go(broker: BrokerProcess, data: bytes, files: int) -> int:
    for _ in range(5):
        with crowd(broker, 100, data):
            pass
    assert wait_until(lambda: broker.open_files() <= files)
    return broker.memory_bytes()


def test_more_connections_than_descriptors_are_refused_and_the_disk_still_works(
    tmp_path: Path,
) -> None:
    prefix = ("prlimit", "--nofile=400:400")
    with BrokerProcess(tmp_path, prefix=prefix).start() as broker:
        with sync.connect(broker.address, compression="none") as client:
            client.admin.create_topic("large", partitions=4)
            with crowd(broker, 600, HELLO):
                for _ in range(20):
                    client.publish_many("large", [RECORD] * 50)
        assert wait_until(lambda: broker.open_files() < 100)
        healthy(broker)
