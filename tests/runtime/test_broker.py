"""A broker in this process, through real sockets."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path

import pytest

from penstock import sync
from penstock.errors import BadRequest, DataDirectoryLocked, PenstockError, StorageFailure
from penstock.protocol import frames
from penstock.protocol.codec import decode_error, encode_message
from penstock.protocol.messages import Hello
from penstock_broker.runtime import broker as broker_module
from penstock_broker.runtime import disk as disk_module
from penstock_broker.runtime import embed
from penstock_broker.runtime.broker import BrokerOptions
from penstock_broker.runtime.files import RealFile
from penstock_broker.simulation.memory_files import MemoryFile

HELLO = encode_message(Hello(magic="penstock", version_min=1, version_max=1), 1)


def open_socket(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_frame(sock: socket.socket) -> bytes:
    head = b""
    while len(head) < 16:
        part = sock.recv(16 - len(head))
        if not part:
            return head
        head += part
    rest = int.from_bytes(head[:4], "little") - 16
    body = b""
    while len(body) < rest:
        body += sock.recv(rest - len(body))
    return head + body


def flood(sock: socket.socket, data: bytes) -> None:
    while True:
        sock.sendall(data)


def test_a_record_goes_through_a_broker_in_memory() -> None:
    with embed.start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("t")
        assert client.publish("t", b"a").offset == 0


def test_the_bytes_of_a_broker_in_memory_go_with_it() -> None:
    def held() -> int:
        return sum(each.size() for each in gc.get_objects() if isinstance(each, MemoryFile))

    before = held()
    gc.disable()
    try:
        broker = embed.start()
        assert held() > before + 1_000_000
        broker.stop()
        assert held() > before + 1_000_000, "it may be started again"
        broker.start()
        broker.stop()
        del broker
        assert held() <= before
    finally:
        gc.enable()


def test_records_outlive_an_orderly_stop(tmp_path: Path) -> None:
    for expected in range(3):
        with (
            embed.start(data=str(tmp_path / "d")) as broker,
            sync.connect(broker.address) as client,
        ):
            client.admin.create_topic("t", if_not_exists=True)
            assert client.publish("t", b"a").offset == expected


def test_two_brokers_never_share_a_directory(tmp_path: Path) -> None:
    with embed.start(data=str(tmp_path / "d")), pytest.raises(DataDirectoryLocked):
        embed.start(data=str(tmp_path / "d"))


def test_a_taken_port_is_told() -> None:
    with embed.start() as broker:
        port = int(broker.address.rpartition(":")[2])
        with pytest.raises(PenstockError, match="can't listen"):
            embed.start(port=port)


def test_a_peer_that_speaks_something_else_is_told_and_closed() -> None:
    with embed.start() as broker, open_socket(broker.address) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = read_frame(sock)
        assert reply[5] & frames.FLAG_ERROR
        assert "frame" in decode_error(reply[16:]).message
        assert sock.recv(1) == b""


def test_a_broken_peer_does_not_disturb_the_others() -> None:
    with embed.start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("t")
        for data in (b"\0" * 16, b"\xff" * 64, HELLO[:20], HELLO + b"\xff" * 32):
            with open_socket(broker.address) as sock:
                sock.sendall(data)
        assert client.publish("t", b"a").offset == 0


def test_a_client_that_never_reads_is_not_read_either() -> None:
    with embed.start() as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("t")
        client.publish_many("t", [b"x" * 1000] * 5000, partition=0)
        group = client.admin.metadata().topics[0].partitions[0].group
        with open_socket(broker.address) as sock:
            sock.sendall(HELLO)
            read_frame(sock)
            sock.settimeout(1.0)
            request = frames.fetch_request(2, group, 0, 4 << 20, 1, 0)
            with pytest.raises(TimeoutError):
                flood(sock, request * 100)
            assert client.publish("t", b"a").offset == 5000


@pytest.mark.parametrize("listen", ["nowhere", "host:port", "host:99999", ":"])
def test_a_listen_address_must_be_host_and_port(listen: str) -> None:
    with pytest.raises(BadRequest):
        BrokerOptions.from_mapping({"listen": listen})


def test_how_long_a_broker_may_be_silent_is_an_option() -> None:
    assert BrokerOptions.from_mapping({"node_dead_after": 120.0}).node_dead_after_ms == 120_000
    assert BrokerOptions.from_mapping({}).node_dead_after_ms is None
    for seconds in (1.0, 1e9):
        with pytest.raises(BadRequest, match="2 seconds at the least"):
            BrokerOptions.from_mapping({"node_dead_after": seconds})


def test_options_have_defaults() -> None:
    options = BrokerOptions.from_mapping({"listen": "[::1]:0", "memory": True})
    assert (options.host, options.port, options.data) == ("::1", 0, None)


def test_a_broker_whose_disk_hangs_keeps_the_directory_locked_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(broker_module, "DRAIN_SECONDS_MAX", 0.1)
    monkeypatch.setattr(disk_module, "JOB_SECONDS_MAX", 0.1)
    data = str(tmp_path / "d")
    running = embed.start(data=data)
    monkeypatch.setattr(RealFile, "sync", lambda _: goes_on.wait())
    running.stop()
    assert isinstance(running._error, BaseExceptionGroup)
    assert "did not finish" in str(running._error.exceptions[0])
    with pytest.raises(DataDirectoryLocked):
        embed.start(data=data)
    monkeypatch.undo()
    goes_on.set()


def test_a_busy_port_leaves_the_directory_free(tmp_path: Path) -> None:
    with embed.start() as other:
        port = int(other.address.rpartition(":")[2])
        with pytest.raises(PenstockError, match="can't listen"):
            embed.start(data=str(tmp_path / "d"), port=port)
    with embed.start(data=str(tmp_path / "d")):
        pass


def test_a_data_directory_that_can_not_be_one_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailure, match="can't be used"):
        embed.start(data=str(tmp_path / "file" / "d"))
