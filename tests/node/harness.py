"""One pure node driven by hand: jobs run at once, time stands still unless a test moves it."""

from __future__ import annotations

from random import Random
from typing import Any

from penstock.errors import PenstockError
from penstock.protocol import frames
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.messages import (
    CreateTopic,
    Hello,
    Message,
    Metadata,
    MetadataReply,
)
from penstock.protocol.records import RecordBatch, encode_batch
from penstock_broker.node.config import NodeConfig
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, Store

START_US = 1_700_000_000_000_000


class Client:
    """A connection to the node that speaks frames."""

    def __init__(self, harness: Harness, hello: bool = True) -> None:
        self.harness = harness
        harness.sessions += 1
        self.session = Session(harness.sessions, harness.sessions, "test", harness.clock)
        self.correlation = 0
        harness.node.connected(self.session)
        if hello:
            self.ask(Hello(magic="penstock", version_min=1, version_max=1, client="test"))

    def send(self, data: bytes) -> None:
        """Hand bytes to the node without letting the round end."""
        used, _ = self.harness.node.receive(self.session, memoryview(data), len(data), False)
        assert used == len(data) or self.session.closing

    def take(self) -> list[tuple[frames.Frame, bytes]]:
        """What the node sent since the last call, as frames."""
        out, self.session.out = b"".join(self.session.out), []
        self.harness.node.sent(self.session, 0)
        found, rest = frames.scan(out, 0, len(out), frames.REPLY_BYTES_MAX)
        assert rest == 0
        return [(frame, out[frame.start : frame.end]) for frame in found]

    def ask(self, message: Message) -> Any:
        """Send a request, pump, and return the decoded reply; an error reply is raised."""
        self.correlation += 1
        self.send(encode_message(message, self.correlation))
        self.harness.pump()
        ((frame, data),) = self.take()
        return self.decode(frame, data)

    @staticmethod
    def decode(frame: frames.Frame, data: bytes) -> Any:
        if frame.flags & frames.FLAG_ERROR:
            raise decode_error(data[16:])
        return decode_reply(frame.type, data[16:])

    def publish_nowait(self, group: int, *values: bytes, acks: int = 2, **batch: Any) -> None:
        """Send one batch without letting the round end."""
        self.correlation += 1
        made = encode_batch(list(values), codec=0, base_ts_us=START_US, **batch)
        head = frames.publish_head(self.correlation, group, acks, 0, len(made))
        self.send(head + bytes(made))

    def publish(self, group: int, *values: bytes, **batch: Any) -> tuple[int, bool]:
        """Publish one batch; returns (base offset, whether it was a duplicate)."""
        self.publish_nowait(group, *values, **batch)
        self.harness.pump()
        return self.publish_reply()

    def publish_reply(self) -> tuple[int, bool]:
        ((frame, data),) = self.take()
        if frame.flags & frames.FLAG_ERROR:
            raise decode_error(data[16:])
        offset = frames.PUBLISH_REPLY.unpack(data)[6]
        return offset, bool(frame.flags & frames.FLAG_DUPLICATE)

    def fetch_nowait(self, group: int, offset: int, wait_ms: int = 0, **limits: int) -> None:
        """Send a fetch without letting the round end."""
        self.correlation += 1
        max_bytes, min_bytes = limits.get("max_bytes", 1 << 20), limits.get("min_bytes", 1)
        self.send(
            frames.fetch_request(self.correlation, group, offset, max_bytes, min_bytes, wait_ms)
        )

    def fetch(self, group: int, offset: int, **limits: int) -> list[bytes]:
        """Fetch; returns the values from the offset on."""
        self.fetch_nowait(group, offset, **limits)
        self.harness.pump()
        return self.fetched(offset)

    def fetched(self, offset: int = 0) -> list[bytes]:
        ((frame, data),) = self.take()
        if frame.flags & frames.FLAG_ERROR:
            raise decode_error(data[16:])
        values: list[bytes] = []
        at = frames.REPLY_BYTES
        while at < len(data):
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            batch = RecordBatch(bytearray(data[at : at + length]))
            skip = max(0, offset - batch.base_offset)
            values += list(batch.values)[skip:]
            at += length
        return values


class Harness:
    """A node over memory files."""

    def __init__(self, files: MemoryFiles | None = None, **config: int) -> None:
        self.files = files or MemoryFiles()
        self.config = StorageConfig(**{"wal_file_bytes": 1 << 20, **config})
        self.sessions = 0
        self.clock = 10.0
        self.wall_us = START_US
        self.open()

    def open(self) -> None:
        """Start a node on the files."""
        store = Store.open(self.files, self.config, fresh_uuid=b"0123456789abcdef")
        self.node = Node(store, NodeConfig("127.0.0.1:7400", "test"), Random(7))
        self.node.now(self.wall_us, self.clock)
        self.node.start("cluster")
        self.pump()
        assert self.node.ready

    def restart(self) -> None:
        """Start again on what is on the disk; what was not flushed is gone."""
        self.node.store.close()
        self.open()

    def pump(self, background: bool = True) -> None:
        """End the round and run jobs until nothing is left to do."""
        node = self.node
        for _ in range(1000):
            node.end_round()
            job: Any = node.store.take_flush()
            if job is None and background:
                job = node.store.take_job()
            reads = node.take_reads()
            for read in reads:
                read.run()
                node.job_done(read, None)
            if job is None and not reads:
                node.take_output()
                return
            if job is not None:
                job.run()
                node.job_done(job, None)
        raise AssertionError("the node never comes to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass in steps, as the runtime's tick does."""
        while seconds > 1e-9:
            step = min(seconds, 0.1)
            seconds -= step
            self.clock += step
            self.wall_us += int(step * 1e6)
            self.node.tick(self.wall_us, self.clock)
            self.pump()

    def client(self) -> Client:
        """A connection that has said hello."""
        return Client(self)

    def topic(self, name: str = "orders", partitions: int = 1, **config: object) -> list[int]:
        """Create a topic; returns the Raft groups of its partitions."""
        reply = self.client().ask(CreateTopic(name=name, partitions=partitions, config=config))
        return [partition.group for partition in reply.topic.partitions]

    def metadata(self) -> MetadataReply:
        """What a client is told."""
        reply = self.client().ask(Metadata())
        assert isinstance(reply, MetadataReply)
        return reply


def error_of(call: Any, *args: Any, **kwargs: Any) -> PenstockError:
    """The error that a call raises."""
    try:
        call(*args, **kwargs)
    except PenstockError as error:
        return error
    raise AssertionError("no error was raised")
