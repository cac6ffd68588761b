"""A node with shared groups in this process, and frames that no honest member sends.

An input is a byte for its kind, a byte that says which member and handle it goes to, and a body:
of an acquire, of a settle, or behind a type byte of any message. Many bodies are well formed and
full of absurd numbers. After some thousand inputs the node must serve an honest member, and is
replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import msgspec

from penstock.protocol import frames, leases, messages
from penstock.protocol import sharing as wire
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.messages import Message
from penstock.protocol.records import encode_batch
from penstock_broker.node.config import NodeConfig
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, Store

START_US: Final = 1_700_000_000_000_000
INPUTS_PER_WORLD: Final = 3_000
RECORDS: Final = 40
BODY_BYTES_MAX: Final = 300_000
TOPICS_MAX: Final = 200
OF_DEAD: Final = (0x48, 0x49, 0x4A)
"""Requests that name a dead-letter topic."""
TYPES: Final = (*range(0x40, 0x4B), *range(0x50, 0x57))
ABSURD: Final = (
    *(0, 1, 2, 3, 7, 39, 40, 41, 100, 255, 256, 65_535, 65_536, 1_000_000, 4_000_001),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
    *(-1, -2, -3, -(2**31), -(2**63)),
)
NAMES: Final = (
    *("t", "g", "m", "dead.t.g", "__timer", "__delayed.t", "__groups", "", ".", "..", "../x"),
    *("a/b", "\x00", "\x1b[2J", "%s{}", "\ud7ff", "ä" * 100, "x" * 201, "x" * 5000, "once"),
)
WORDS: Final = (
    "yes",
    "no",
    "key",
    "tenant",
    "topic",
    "drop",
    "full",
    "none",
    "1s",
    "30d",
    "1" * 400,
)
USUAL: Final[dict[str, tuple[object, ...]]] = {
    "topic": ("t",),
    "group": ("g",),
    "member": ("m", "n", "d"),
    "partition": (0,),
    "name": ("a", "b"),
    "time_zone": ("UTC",),
    "catch_up": ("one", "all", "skip"),
}
"""What fits, so that the rest of a message is looked at too."""
CRONS: Final = (
    *("* * * * *", "@every 1s", "@every 0s", "@every 9999999999d", "0 0 30 2 *", "@yearly"),
    *("*/0 * * * * *", "1-99999999 * * * *", "," * 200),
)


PLACES: Final = (("m", "t"), ("n", "t"), ("d", "dead.t.g"))
"""Members that stay attached, and where."""


class World:
    """A node, its topic and group, and two members that are attached."""

    def __init__(self) -> None:
        self._files = MemoryFiles()
        self._clock, self._wall_us, self._sessions, self.inputs = 10.0, START_US, 0, 0
        store = Store.open(self._files, StorageConfig(wal_file_bytes=4 << 20), fresh_uuid=bytes(16))
        self.node = Node(store, NodeConfig("127.0.0.1:7400", "fuzz"), Random(7))
        self.node.now(self._wall_us, self._clock)
        self.node.start("cluster")
        self.pump()
        admin = self.connect()
        config: dict[str, Any] = {"key_slots": "key", "tenant_separator": ":"}
        self.ask(admin, messages.CreateTopic(name="t", partitions=1, config=config))
        self.ask(admin, wire.CreateGroup(topic="t", group="g", settings={"lease_ms": 1000}))
        self.ask(admin, wire.EnableDelays(topic="t"))
        self.members = [self.attach(*place) for place in PLACES]
        self.gid = self.members[0][1].group_id
        self.publish()

    def connect(self) -> Session:
        """A connection that has said hello."""
        self._sessions += 1
        session = Session(self._sessions, self._sessions, "fuzz", self._clock)
        self.node.connected(session)
        hello = messages.Hello(magic="penstock", version_min=1, version_max=1, client="fuzz")
        self.ask(session, hello)
        return session

    def attach(self, name: str, topic: str = "t") -> tuple[Session, wire.AttachGroupReply]:
        """A member on a connection of its own."""
        session = self.connect()
        reply = self.ask(
            session, wire.AttachGroup(topic=topic, partition=0, group="g", member=name)
        )
        assert isinstance(reply, wire.AttachGroupReply)
        return session, reply

    def publish(self) -> None:
        """Some records with keys of several tenants."""
        values = [b"v"] * RECORDS
        batch = encode_batch(
            values, codec=0, base_ts_us=START_US, key_slots=[n % 5 for n in range(RECORDS)]
        )
        session = self.connect()
        self.send(session, frames.publish_head(1, self.gid, 2, 0, len(batch)) + bytes(batch))
        self.node.disconnected(session)

    def ask(self, session: Session, message: Message) -> Any:  # noqa: ANN401 - any reply
        """The reply to an honest request; an error is raised."""
        (found,) = self.send(session, encode_message(message, 1))
        type_, flags, body = found
        if flags & frames.FLAG_ERROR:
            raise decode_error(body)
        return decode_reply(type_, body)

    def send(self, session: Session, data: bytes) -> list[tuple[int, int, bytes]]:
        """Hand over bytes, run everything, and give the frames that came back."""
        view = memoryview(data)
        used, _ = self.node.receive(session, view, len(view), False)
        assert used == len(data) or session.closing, "a whole frame was left"
        self.pump()
        out, session.out = b"".join(map(bytes, session.out)), []
        self.node.sent(session, 0)
        found, rest = frames.scan(out, 0, len(out), frames.REPLY_BYTES_MAX)
        assert not rest, "half a frame was sent"
        return [(each.type, each.flags, out[each.start + 16 : each.end]) for each in found]

    def pump(self) -> None:
        """Run rounds and jobs until nothing is left to do."""
        node = self.node
        for _ in range(2000):
            node.end_round()
            job: Any = node.store.take_flush() or node.store.take_job()
            reads = node.take_reads()
            for read in reads:
                read.run()
                node.job_done(read, None)
            if job is not None:
                job.run()
                node.job_done(job, None)
            elif not reads:
                node.take_output()
                return
        raise AssertionError("the node never comes to rest")

    def pass_time(self, seconds: float = 0.3) -> None:
        """Let leases run out and retries come due."""
        self._clock += seconds
        self._wall_us += int(seconds * 1e6)
        self.node.tick(self._wall_us, self._clock)
        self.pump()

    def close(self) -> None:
        """Whatever was said: nothing is left over, and an honest member is served."""
        for session, _ in self.members:
            self.node.disconnected(session)
        for _ in range(40):
            self.pass_time(0.5)
        node = self.node
        assert not node.uncommitted_bytes, f"{node.uncommitted_bytes} bytes are never answered"
        admin = self.connect()
        self.ask(admin, messages.CreateTopic(name="once", partitions=1))
        self.ask(admin, wire.CreateGroup(topic="once", group="g"))
        session, attached = self.attach("honest", "once")
        batch = encode_batch([b"v"], codec=0, base_ts_us=START_US)
        head = frames.publish_head(1, attached.group_id, 2, 0, len(batch))
        self.send(session, head + bytes(batch))
        wanted = leases.Acquire(attached.handle, 10, 1 << 20, 0)
        ((_, flags, body),) = self.send(
            session, leases.acquire_request(2, attached.group_id, wanted)
        )
        assert not flags & frames.FLAG_ERROR, decode_error(body)
        whole = bytes(16) + body
        got = leases.read_acquired(whole, 0, len(whole))
        said = [leases.Verdict(got.lease, 0, 1, leases.ACK)]
        settle = leases.settle_request(3, attached.group_id, attached.handle, said)
        ((_, flags, body),) = self.send(session, settle)
        assert not flags & frames.FLAG_ERROR, decode_error(body)
        self.node.store.close()


_world: list[World] = []


def run(data: bytes) -> str:
    """Send an input to the node; the answer is the outcome."""
    if len(data) < 3:
        return "short"
    try:
        return _use(data)
    except BaseException:
        _world.clear()  # what comes after a crash would say little
        raise


def _use(data: bytes) -> str:
    world = _current()
    session, attached = world.members[data[1] % len(PLACES)]
    handle = attached.handle if data[1] & 6 else data[1]
    type_, body = _frame_of(data, handle)
    gid = attached.group_id if data[1] & 24 else data[1]
    found = world.send(session, frames.frame(type_, 0, world.inputs & 0xFFFF, body, gid))
    kinds = []
    for kind, flags, reply in found:
        if flags & frames.FLAG_ERROR:
            kinds.append(f"{kind:#x} {type(decode_error(reply)).__name__}")
        else:
            kinds.append(f"{kind:#x} ok {len(reply).bit_length()}")
    if session.closing or len(world.node.groups.metadata.machine.topics) > TOPICS_MAX:
        _end()
    return f"{type_:#x}: {' '.join(kinds[:3])}"


def _frame_of(data: bytes, handle: int) -> tuple[int, bytes]:
    kind = data[0] % 3
    head = struct.pack("<I", handle)
    if kind == 0:
        return leases.ACQUIRE, head + data[2:]
    if kind == 1:
        return leases.SETTLE, head + data[2:]
    return data[2], data[3:]


def _current() -> World:
    if _world and _world[0].inputs >= INPUTS_PER_WORLD:
        _end()
    if not _world:
        _world.append(World())
    world = _world[0]
    world.inputs += 1
    if not world.inputs % 20:
        world.pass_time()
    if not world.inputs % 50:
        world.publish()
    for at, (session, _) in enumerate(world.members):
        if not world.inputs % 500:
            world.node.disconnected(session)
            world.members[at] = world.attach(*PLACES[at])
    return world


def _end() -> None:
    _world.pop().close()


# ----- inputs


def corpus() -> list[bytes]:
    """Frames of honest members."""
    chance = Random(1)
    found = [b"\0\6" + struct.pack("<III", 10, 1 << 20, 0) + bytes(8 * n) for n in (0, 1, 3)]
    found += [b"\1\6" + _settle_body(chance, honest=True) for _ in range(10)]
    found += [b"\2\6" + _message_body(chance, type_) for type_ in TYPES for _ in range(3)]
    return found


def repair(data: bytearray, rng: Random) -> None:
    """Put absurd numbers into a well formed body, every other time."""
    if len(data) < 3 or rng.random() < 0.4:
        return
    kind = data[0] % 3
    if kind == 0:
        numbers = [rng.choice(ABSURD) & 0xFFFFFFFF for _ in range(3)]
        if rng.random() < 0.5:
            numbers[0] = rng.choice((1, 10, 100))
        data[2:] = struct.pack("<III", *numbers) + rng.randbytes(8 * rng.choice((0, 0, 1, 64, 65)))
    elif kind == 1:
        data[2:] = _settle_body(rng)
    else:
        data[2:] = _message_body(rng, rng.choice(TYPES))
    if rng.random() < 0.8:
        data[1] = rng.choice((26, 27, 28, 30, 31))
    del data[BODY_BYTES_MAX:]


def _settle_body(rng: Random, honest: bool = False) -> bytes:
    count = rng.choice((1, 1, 1, 2, 5, 100))
    if not honest and rng.random() < 0.01:
        count = rng.choice((9_999, 10_000, 10_001))
    known = [
        lease
        for world in _world
        for partition in world.node.partitions.values()
        for group in partition.machine.sharing.groups.values()
        for lease in list(group.leases)[-3:]
    ]
    return msgspec.msgpack.encode([_verdict(rng, known) for _ in range(count)])


def _verdict(rng: Random, known: list[int]) -> list[object]:
    def number(*usual: int) -> int:
        return rng.choice(usual) if rng.random() < 0.8 else rng.choice(ABSURD)

    lease = rng.choice(known) if known and rng.random() < 0.8 else number(1 << 32 | 1, 0)
    fields: list[object] = [
        lease, number(rng.randrange(3000), 0), number(1, 2, 40, 2**31 - 1), number(1, 2, 3, 4),
        number(0, START_US, START_US + 1_000_000, 2**62),
        rng.choice(("", "busy", "x" * 200, "x" * 201, "\x00", "Busy,Other")),
        rng.choice(("", "trace", "é" * 2000, "x" * 2001)),
    ]  # fmt: skip
    return fields[: rng.choice((4, 7, 7, 7, 3, 6))] + [0] * (rng.random() < 0.02)


def _message_body(rng: Random, type_: int) -> bytes:
    class_ = messages.REQUESTS[type_]
    values = {
        each.name: _value(rng, each.name, each.type, type_ in OF_DEAD)
        for each in msgspec.structs.fields(class_)
        if each.required or rng.random() < 0.7
    }
    try:
        message = class_(**values)
        assert isinstance(message, Message)
        return bytes((type_,)) + encode_message(message, 1)[16:]
    except Exception:  # a number or a name that can't even be encoded: send what can
        return bytes((type_,)) + msgspec.msgpack.encode(None)


def _value(rng: Random, name: str, kind: Any, dead: bool) -> object:  # noqa: ANN401 - any type
    if name == "topic" and dead and rng.random() < 0.7:
        return "dead.t.g"
    if name == "spans" and rng.random() < 0.6:
        first, count = rng.randrange(100), rng.choice((1, 3, 2**31))
        return [first, count, first + 2**32, rng.choice(ABSURD)][: rng.choice((2, 2, 4))]
    if name in USUAL and rng.random() < 0.8:
        return rng.choice(USUAL[name])
    if name in ("topic", "group", "member"):
        return rng.choice(NAMES)
    if name == "settings":
        return dict(_settings(rng))
    return rng.choice(CRONS) if name == "cron" else _of_type(rng, str(kind))


def _of_type(rng: Random, kind: str) -> object:
    if "dict" in kind:
        return {rng.choice(NAMES): b"x"}
    if "list" in kind:
        return [rng.choice(ABSURD) for _ in range(rng.choice((0, 1, 2, 2, 4, 3, 1000)))]
    if "bytes" in kind:
        return rng.choice((None, b"", b"x", b"x" * 70_000))
    if "bool" in kind:
        return rng.random() < 0.5
    if "int" in kind:
        return rng.choice((0, 0, 1, -1)) if rng.random() < 0.6 else rng.choice(ABSURD)
    return rng.choice(NAMES)


def _settings(rng: Random) -> Iterator[tuple[str, object]]:
    from penstock_broker.machine.sharing.settings import KEYS

    for name in rng.sample(sorted(KEYS), rng.choice((0, 1, 1, 3))):
        yield name, rng.choice(ABSURD) if rng.random() < 0.6 else rng.choice(WORDS)
