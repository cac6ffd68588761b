"""The valid bytes that fuzzing starts from: the committed test vectors and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penstock.protocol import leases
from penstock.protocol.compression import compress
from penstock.protocol.connection import Connection, Role, State
from penstock.protocol.events import Request
from penstock.protocol.frames import FETCH, PUBLISH
from penstock.protocol.messages import HelloReply

VECTORS = Path(__file__).parents[2] / "tests" / "protocol" / "vectors"
WELCOME = HelloReply(
    version=1,
    node=1,
    cluster="c",
    broker="b",
    frame_bytes_max=1 << 20,
    batch_bytes_max=1 << 20,
    credit_bytes=1 << 20,
)
IN_FLIGHT = {**dict.fromkeys(range(2, 9), PUBLISH), 258: 0x02, 259: FETCH}


def _load(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())
    return found


def _of(name: str, field: str) -> list[bytes]:
    return [bytes.fromhex(entry[field]) for entry in _load(name) if field in entry]


def frames() -> list[bytes]:
    """Frames of every type, and runs of them."""
    found = [*_of("frames", "frame"), *_of("messages", "frame")]
    return [*found, b"".join(found[:5]), b"".join(found[5:15])]


def bodies() -> list[bytes]:
    """Bodies of every message, behind a byte for the direction and one for the type."""
    found = [
        bytes((entry["direction"] == "request", entry["type"])) + bytes.fromhex(entry["frame"])[16:]
        for entry in _load("messages")
    ]
    errors = [b"\2\0" + frame[16:] for frame in _of("errors", "frame")]
    return [*found, *errors[::6]]


def streams() -> list[bytes]:
    """What either side may receive, behind a byte for the side and one for the size of reads."""
    hello = Connection(Role.CLIENT).send(Request(1, Connection.hello("fuzz")))
    requests, replies = [b"\0\xff" + hello], []
    for entry in (*_load("messages"), *_load("frames"), *_load("errors")):
        frame = bytes.fromhex(entry["frame"])
        if frame[5] & 1:
            replies.append(b"\1\xff" + frame)
        else:
            requests.append(b"\2\xff" + frame)
    published = _of("frames", "frame")[1]
    many = b"".join(
        published[:8] + number.to_bytes(4, "little") + published[12:] for number in range(2, 9)
    )
    return [*requests, *replies[:30], b"\1\x05" + many, b"\1\xff" + many + published]


def opened(role: Role) -> Connection:
    """A connection past its hello; a client has requests in flight.

    Put into that state directly: talking it there would take most of the time.
    """
    side = Connection(role)
    talk = side._talk
    talk.state, talk.version, talk.welcome = State.OPEN, 1, WELCOME
    if role is Role.CLIENT:
        talk.in_flight = dict(IN_FLIGHT)
    return side


def unstamped() -> list[bytes]:
    """Batches as producers send them."""
    return _of("batches", "unstamped")


def stored() -> list[bytes]:
    """Batches as brokers store them."""
    return _of("batches", "stored")


def runs() -> list[bytes]:
    """Batches one after another."""
    found = stored()
    return [b"".join(found[:3]), b"".join(found[3:7]), b"".join(found[-3:]), found[0] * 3]


def compressed() -> list[bytes]:
    """Compressed payloads behind their size."""
    found = []
    for raw in (b"the same words " * 50, bytes(3000), bytes(range(256)) * 10):
        packed = compress(raw)
        assert packed is not None
        found.append(len(raw).to_bytes(4, "little") + packed)
    return found


def member_frames() -> list[bytes]:
    """Bodies of acquires and settles and of their answers, behind a byte for which it is."""
    said = [leases.Verdict(7, n, 2, 1 + n % 4, 0, "reason", "error" * n) for n in range(5)]
    spans = [leases.Span(n, 3, 1, n) for n in range(3)]
    made = (
        leases.acquire_request(1, 2, leases.Acquire(3, 100, 1 << 20, 500, (1, 2, 3))),
        leases.settle_request(1, 2, 3, said),
        leases.acquire_reply_head(1, 2, leases.Acquired(7, 9, 11, 1000, spans, b""), 4) + b"runs",
        leases.settle_reply(1, 2, leases.Settled(5, 1, 1, [3, 1])),
    )
    return [bytes((kind,)) + frame[16:] for kind, frame in enumerate(made)]


def texts() -> list[bytes]:
    """Names and durations."""
    return [b"orders.v1-eu_2", b"1w2d3h4m5s6ms", b"7d", b"1500", b"..", b"90m"]
