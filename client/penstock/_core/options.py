"""What a client is told: addresses, durability, time and size limits, with their bounds checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from penstock.errors import BadRequest
from penstock.protocol.frames import ACKS_LEADER, ACKS_NONE, ACKS_QUORUM

Acks = Literal["quorum", "leader", "none"]
Compression = Literal["zstd", "none"]
Duration = float | timedelta
"""Seconds, or a timedelta."""

DEFAULT_PORT: Final = 7400
SCHEME: Final = "penstock://"
SERVERS_MAX: Final = 64
NAME_CHARACTERS_MAX: Final = 200
V6_CHARACTERS: Final = frozenset("0123456789abcdefABCDEF:.")

ACKS: Final[dict[str, int]] = {"none": ACKS_NONE, "leader": ACKS_LEADER, "quorum": ACKS_QUORUM}


def seconds(value: Duration, name: str) -> float:
    """A positive duration in seconds.

    Raises:
        BadRequest: it is not above zero.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not number > 0:
        raise BadRequest(f"{name} must be above zero, not {value!r}")
    return number


def seconds_or_none(value: Duration, name: str) -> float:
    """A duration in seconds that may be 0.

    Raises:
        BadRequest: it is below zero.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not number >= 0:
        raise BadRequest(f"{name} must not be below zero, not {value!r}")
    return number


def parse_servers(text: str) -> tuple[tuple[str, int], ...]:
    """Read "host:port,host2:port2"; `penstock://` before it and the port may be left out.

    Raises:
        BadRequest: the text names no address, or a port is impossible.
    """
    rest = text.strip().removeprefix(SCHEME).rstrip("/")
    if "://" in rest or "@" in rest or "/" in rest:
        raise BadRequest("servers are given as host:port,host2:port2")
    found = tuple(parse_address(part.strip()) for part in rest.split(",") if part.strip())
    if not 0 < len(found) <= SERVERS_MAX:
        raise BadRequest(f"give 1 to {SERVERS_MAX} servers as host:port,host2:port2")
    return found


def parse_address(text: str) -> tuple[str, int]:
    """Read "host:port", "host", "[v6]:port" or "[v6]".

    Raises:
        BadRequest: the port is not a number from 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):
        host, port = text, str(DEFAULT_PORT)
    number = int(port) if port.isascii() and port.isdigit() else 0
    name = host.strip("[]")
    if not 0 < number < 65536 or not name or (":" in name and not _is_v6(name)):
        raise BadRequest(f"{text!r} is not a host:port address")
    return name, number


def _is_v6(name: str) -> bool:
    """Whether a name with colons looks like an address, not like a slip of the keyboard."""
    return V6_CHARACTERS.issuperset(name.partition("%")[0]) and (
        "::" in name or name.count(":") == 7
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings of one client; durations in seconds, sizes in bytes.

    Attributes:
        servers: where to begin; the rest of the cluster is learned.
        name: shown by the broker beside the connection, and in the ids of members of groups.
        acks: what a publish waits for: durable on a quorum, written by the leader, or nothing.
        delivery_timeout: how long a publish is tried before `TimedOut`.
        request_timeout: how long any other request is tried.
        connect_timeout: how long one attempt to connect may take.
        idempotent: let brokers drop what was resent; by default so unless acks="none", where that
            can't be.
        batch_bytes: a batch is full at this size, before compression.
        batch_records: a batch is full at this count.
        partial_requests: unfilled batches in flight; records pile up meanwhile.
        pipelined_requests: batches in flight per partition.
        buffer_bytes: published bytes that may wait for their ack; `publish` waits beyond it.
        backoff_min, backoff_max: the first and the longest pause between attempts.
    """

    servers: tuple[tuple[str, int], ...]
    name: str = ""
    host: str = ""
    acks: Acks = "quorum"
    compression: Compression = "zstd"
    delivery_timeout: float = 30.0
    request_timeout: float = 10.0
    connect_timeout: float = 5.0
    idempotent: bool | None = None
    batch_bytes: int = 256 * 1024
    batch_records: int = 4096
    partial_requests: int = 2
    pipelined_requests: int = 8
    buffer_bytes: int = 64 * 1024 * 1024
    backoff_min: float = 0.05
    backoff_max: float = 2.0
    acks_code: int = field(init=False)

    def __post_init__(self) -> None:
        if self.acks not in ACKS:
            raise BadRequest(f"acks must be one of {', '.join(ACKS)}, not {self.acks!r}")
        if self.idempotent and self.acks == "none":
            raise BadRequest('idempotent=True needs acks="quorum" or "leader"')
        if self.compression not in ("zstd", "none"):
            raise BadRequest(f"compression must be zstd or none, not {self.compression!r}")
        if len(self.name) > NAME_CHARACTERS_MAX:
            raise BadRequest(f"a client name has at most {NAME_CHARACTERS_MAX} characters")
        for name, low, high in _BOUNDS:
            if not low <= getattr(self, name) <= high:
                raise BadRequest(f"{name} must lie between {low} and {high}")
        object.__setattr__(self, "acks_code", ACKS[self.acks])
        if self.idempotent is None:
            object.__setattr__(self, "idempotent", self.acks != "none")


_BOUNDS: Final = (
    ("delivery_timeout", 0.001, 86_400.0),
    ("request_timeout", 0.001, 3_600.0),
    ("connect_timeout", 0.001, 600.0),
    ("batch_bytes", 1, 4 * 1024 * 1024),
    ("batch_records", 1, 65_535),
    ("partial_requests", 1, 8),
    # The broker remembers the last 16 batches of a producer; half of that leaves room for resends.
    ("pipelined_requests", 1, 8),
    ("buffer_bytes", 64 * 1024, 4 * 1024 * 1024 * 1024),
    ("backoff_min", 0.001, 60.0),
    ("backoff_max", 0.001, 600.0),
)
