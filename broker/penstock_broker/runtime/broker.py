"""One broker: the store, the node, the reactor and the listener put together.

This is the only file that knows every part. Start-up is: lock and recover the data directory, build
the node, listen, say so. Stopping is: stop listening, drain, checkpoint, close.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from penstock._version import __version__
from penstock.errors import BadRequest, PenstockError, StorageFailure
from penstock_broker.node.config import NodeConfig
from penstock_broker.node.node import Node
from penstock_broker.runtime.clock import Clock, SystemClock
from penstock_broker.runtime.disk import Fatal
from penstock_broker.runtime.files import RealFiles
from penstock_broker.runtime.places import place_of, text_of
from penstock_broker.runtime.reactor import CONNECTIONS_MAX, Reactor
from penstock_broker.runtime.zones import time_zone
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, Store
from penstock_broker.storage.files import Files

ACCEPT_BACKLOG: Final = 1024
MEMORY_CONFIG: Final = StorageConfig(
    wal_file_bytes=16 * 1024 * 1024, wal_spares=0, segment_bytes=64 * 1024 * 1024
)
"""In memory nothing is gained by preparing files, and a test wants to start at once."""

GATHER_US: Final = 3_000
"""How long a replicated publish waits for others at most: clients that are scheduled at once need
a tenth of it."""
DRAIN_SECONDS_MAX: Final = 10.0
DEAD_AFTER_SECONDS_MIN: Final = 2
DEAD_AFTER_SECONDS_MAX: Final = 30 * 86_400
FILES_RESERVED: Final = 256
"""Descriptors that are not for connections: open segments, the log, threads."""

log = logging.getLogger("penstock.broker")


@dataclass(frozen=True)
class BrokerOptions:
    """How to run one broker."""

    data: str | None = None
    """The data directory; None keeps everything in memory."""
    host: str = "127.0.0.1"
    port: int = 7400
    port_file: str | None = None
    join: Sequence[str] = ()
    """Addresses of brokers to form a cluster with, this one's too if that is easier."""
    advertise: str | None = None
    """Where others reach this broker; None: where it listens."""
    host_label: str | None = None
    """Label of the machine; None: its name."""
    node_dead_after_ms: int | None = None
    """Silence after which a broker's replicas are made anew elsewhere; None: 30 seconds."""
    segment_bytes: int | None = None
    wal_file_bytes: int | None = None
    quarantine_seconds: int | None = None
    """How long replicas that went elsewhere are kept; None: a day."""
    gather_us: int = 0
    """How long publishes may wait for others; 0 where clients run in this thread too."""
    clock: Clock | None = None
    """What to take for the time; None: the machine's clocks."""
    files: Files | None = None
    """Where bytes lie instead of in a directory."""
    listener: socket.socket | None = None
    """A bound socket to take instead of a new one."""

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> BrokerOptions:
        """Read the options of `penstock serve`.

        Raises:
            BadRequest: `listen`, `advertise` or a part of `join` is not HOST:PORT, or a time is
                out of its range.
        """
        host, port = place_of(str(options.get("listen") or "127.0.0.1:7400"))
        join = [part.strip() for part in str(options.get("join") or "").split(",") if part.strip()]
        advertise = options.get("advertise")
        for place in (*join, str(advertise or "localhost:1")):
            place_of(place)
        data = None if options.get("memory") else str(options.get("data") or "penstock-data")
        port_file = options.get("port_file")
        hours = options.get("quarantine_hours")
        dead_after = options.get("node_dead_after")
        return cls(
            data=data,
            host=host or "0.0.0.0",
            port=port,
            port_file=str(port_file) if port_file else None,
            join=join,
            gather_us=GATHER_US,
            advertise=str(advertise) if advertise else None,
            host_label=str(options["host_label"]) if options.get("host_label") else None,
            node_dead_after_ms=_dead_after_ms(float(str(dead_after))) if dead_after else None,
            quarantine_seconds=int(float(str(hours)) * 3600) if hours is not None else None,
        )


class Broker:
    """A broker in this process; `run` serves, `stop` ends it in order."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self.address = ""
        self.node_id = 0
        self.reactor: Reactor
        """Once it runs."""
        self.stopped = trio.Event()
        self._stop_requested = trio.Event()
        self._killed = False

    def stop(self) -> None:
        """Ask for an orderly end; `stopped` is set when it is reached."""
        self._stop_requested.set()

    def kill(self) -> None:
        """End as a killed process would: nothing is finished, nobody is told."""
        self._killed = True
        self._stop_requested.set()

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is called.

        Raises:
            StorageError: the data directory can't be used.
            PreconditionFailed: the cluster has removed this broker.
            MetadataDiverged: it made of the metadata what no majority made.
            Fatal: the disk failed while serving.
        """
        sys.setswitchinterval(0.0005)
        store = self._open_store()
        hangs = False
        try:
            listener = self._listen()
            node = Node(store, self._node_config(), random.Random(secrets.randbits(64)))
            node.time_zone = time_zone
            clock = self.options.clock or SystemClock()
            self.reactor = reactor = Reactor(node, clock, _raise_file_limit())
            try:
                await self._serve(node, reactor, listener, task_status)
            finally:
                listener.close()
                hangs = not reactor.close()
        finally:
            if not hangs:  # else a late write would meet whoever takes the directory next
                store.close()
            self.stopped.set()
        if hangs:
            raise Fatal("the disk did not finish a write or sync; the log is recovered at start")

    async def _serve(
        self,
        node: Node,
        reactor: Reactor,
        listener: socket.socket,
        task_status: trio.TaskStatus[str],
    ) -> None:
        node.now(reactor.clock.wall_us(), reactor.clock.monotonic())
        node.start(secrets.token_bytes(16).hex())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            nursery.start_soon(_end_if_expelled, reactor)
            if not node.membership.waits_for_others:
                await reactor.ready.wait()
            self.node_id = node.node_id
            nursery.start_soon(self._accept, listener, reactor)
            task_status.started(self.address)
            await self._stop_requested.wait()
            listener.close()
            if not self._killed:
                reactor.drain()
                with trio.move_on_after(DRAIN_SECONDS_MAX):
                    await reactor.drained.wait()
            nursery.cancel_scope.cancel()

    def _open_store(self) -> Store:
        try:
            files = self._files()
            return Store.open(files, self._storage_config(), fresh_uuid=secrets.token_bytes(16))
        except OSError as error:
            raise StorageFailure(f"the data directory can't be used: {error}") from error

    def _files(self) -> Files:
        if self.options.data is None:
            return self.options.files or MemoryFiles()
        os.makedirs(self.options.data, exist_ok=True)
        return RealFiles(self.options.data)

    def _storage_config(self) -> StorageConfig:
        if self.options.data is None:
            return MEMORY_CONFIG
        given = {
            "segment_bytes": self.options.segment_bytes,
            "wal_file_bytes": self.options.wal_file_bytes,
            "quarantine_seconds": self.options.quarantine_seconds,
        }
        return StorageConfig(**{key: value for key, value in given.items() if value is not None})

    def _node_config(self) -> NodeConfig:
        options = self.options
        config = NodeConfig(
            address=options.advertise or self.address,
            version=__version__,
            host=options.host_label or socket.gethostname(),
            join=options.join,
            gather_us=options.gather_us,
        )
        if options.node_dead_after_ms is not None:
            config = replace(config, node_dead_after_ms=options.node_dead_after_ms)
        # A clock of a test may stand still exactly when something is due.
        return config if self.options.clock is None else replace(config, timer_grain_bits=0)

    def _listen(self) -> socket.socket:
        sock = self.options.listener or self._bind()
        sock.listen(ACCEPT_BACKLOG)
        sock.setblocking(False)
        self.address = _address(sock)
        return sock

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self.options.host, self.options.port))
        except OSError as error:
            sock.close()
            place = f"{self.options.host}:{self.options.port}"
            raise PenstockError(
                f"can't listen on {place}: {error.strerror}; choose another address or port"
            ) from error
        return sock

    def announce(self) -> None:
        """Say that clients can connect: in the log, and in the port file if one is wanted."""
        data = self.options.data or "(memory)"
        known = {"node": self.node_id} if self.node_id else {}  # who joins is told later
        log.info("listening", extra={"address": self.address, "data": data, **known})
        if self.options.port_file:
            temporary = f"{self.options.port_file}.new"
            with open(temporary, "w") as file:
                file.write(self.address.rpartition(":")[2] + "\n")
            os.replace(temporary, self.options.port_file)

    async def _accept(self, listener: socket.socket, reactor: Reactor) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                while True:
                    sock, peer = listener.accept()
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    reactor.add(sock, f"{peer[0]}:{peer[1]}")
            except BlockingIOError:
                continue
            except OSError as error:
                log.warning("accept failed", extra={"reason": error.strerror})
                await trio.sleep(0.1)


def _dead_after_ms(seconds: float) -> int:
    if not DEAD_AFTER_SECONDS_MIN <= seconds <= DEAD_AFTER_SECONDS_MAX:
        raise BadRequest(
            f"a broker is dead after {DEAD_AFTER_SECONDS_MIN} seconds at the least, "
            f"and {DEAD_AFTER_SECONDS_MAX // 86_400} days at the most"
        )
    return int(seconds * 1000)


async def _end_if_expelled(reactor: Reactor) -> None:
    """Serve nobody from what a broker knows that takes part in its cluster no more."""
    await reactor.expelled.wait()
    assert reactor.node.membership.removed is not None, "it is the reason"
    raise reactor.node.membership.removed


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return text_of(host, port)


def _raise_file_limit() -> int:
    """Allow as many open files as this process may; returns how many connections that leaves.

    The store must always be able to open a file: a broker without descriptors would have to stop.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(CONNECTIONS_MAX, max(hard - FILES_RESERVED, hard // 4))
