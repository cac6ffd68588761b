"""Starts a cluster of brokers inside this process, and stops, kills and starts its members.

Invariants: when `with` begins the cluster is formed, every member knows all of them, and any of
them may fail; when it ends all of them have stopped. A member keeps its address and, in memory or
on disk, its data.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

from penstock import _parts
from penstock.errors import PenstockError, TimedOut
from penstock.testing.threads import Running

if TYPE_CHECKING:
    from penstock.sync import Client

FORM_SECONDS_MAX: Final = 20.0
LOOK_SECONDS: Final = 0.02
VOTERS_MAX: Final = 5


class Member(Protocol):
    """A broker of a cluster."""

    @property
    def address(self) -> str:
        """Where clients connect: `host:port`."""

    def stop(self) -> None:
        """End the broker in order and wait until it has ended."""

    def kill(self) -> None:
        """End it as a killed process would end."""

    def start(self) -> Member:
        """Start it again, where it was, on the data that it left."""


class MemberStarter(Protocol):
    """What the entry point `embed` names."""

    def __call__(
        self,
        *,
        data: str | None,
        listener: socket.socket,
        join: Sequence[str],
        host_label: str,
    ) -> Member:
        """Start a broker on a bound socket; return when it listens."""


class RunningCluster:
    """Brokers that form a cluster, by number from 0 on."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)

    @property
    def address(self) -> str:
        """All addresses, comma separated, as `penstock.connect` takes them."""
        return ",".join(member.address for member in self.members)

    def stop(self, number: int) -> None:
        """End a member in order: it hands its leads over."""
        self.members[number].stop()

    def kill(self, number: int) -> None:
        """End a member as a killed process would end."""
        self.members[number].kill()

    def start(self, number: int) -> None:
        """Start a member again, where it was, on the data that it left."""
        self.members[number].start()

    def leader(self, topic: str, partition: int = 0) -> int:
        """The number of the member that leads a partition; waits until there is one.

        Raises:
            TimedOut: nobody leads it.
        """
        # Imported here: pytest loads this with its plugin, also for projects that do not use it.
        from penstock import sync

        with sync.connect(self.address) as client:
            give_up = time.monotonic() + FORM_SECONDS_MAX
            while time.monotonic() < give_up:
                number = self._led_by(client, topic, partition)
                if number is not None:
                    return number
                time.sleep(LOOK_SECONDS)
        raise TimedOut(f"nobody leads partition {partition} of {topic!r}")

    def _led_by(self, client: Client, topic: str, partition: int) -> int | None:
        reply = client.admin.metadata([topic])
        addresses = {node.id: node.address for node in reply.nodes}
        leader = reply.topics[0].partitions[partition].leader if reply.topics else 0
        known = [member.address for member in self.members]
        address = addresses.get(leader)
        return known.index(address) if address in known else None

    def form(self) -> None:
        """Form the cluster and wait until every member knows all of them.

        Raises:
            TimedOut: they do not come together.
        """
        from penstock import sync

        with sync.connect(self.members[0].address) as client:
            client.admin.init_cluster()
        give_up = time.monotonic() + FORM_SECONDS_MAX
        for member in self.members:
            with sync.connect(member.address, request_timeout=FORM_SECONDS_MAX) as client:
                while not _complete(client, len(self.members)):
                    if time.monotonic() > give_up:
                        raise TimedOut("the brokers form no cluster")
                    time.sleep(LOOK_SECONDS)


class ClusterContext(Running[RunningCluster]):
    """Starts a cluster when entered and stops it when left, by `with` and by `async with`."""

    def __init__(self, size: int, data: str | None) -> None:
        self._size = size
        self._data = data
        self._stack = ExitStack()

    def _start(self) -> RunningCluster:
        with ExitStack() as stack:
            sockets = [stack.enter_context(_bound()) for _ in range(self._size)]
            join = ["{}:{}".format(*sock.getsockname()) for sock in sockets]
            start: MemberStarter = _parts.load("embed")
            running = RunningCluster([])
            stack.callback(_stop_all, running.members)
            for number, sock in enumerate(sockets):
                data = None if self._data is None else f"{self._data}/{number}"
                label = f"host-{number}"
                member = start(data=data, listener=sock, join=join, host_label=label)
                running.members.append(member)
            running.form()
            self._stack = stack.pop_all()
        return running

    def _stop(self) -> None:
        self._stack.close()


def _complete(client: Client, size: int) -> bool:
    """Whether a broker knows all of the cluster, and that any of them may fail."""
    voters = min(size - 1 + size % 2, VOTERS_MAX)
    known = len(client.admin.metadata([]).nodes)
    return known == size and client.admin.status().figures["metadata_voters"] == voters


def _stop_all(members: Sequence[Member]) -> None:
    """Kill them: nobody is there any more to whom they could hand anything over."""
    errors = []
    for member in members:
        try:
            member.kill()
        except PenstockError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _bound() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def cluster(size: int = 3, data: str | None = None) -> ClusterContext:
    """Run a cluster of brokers for the length of a `with` or `async with` block.

    Args:
        size: How many brokers.
        data: A directory for their data; None keeps everything in memory.

    Raises:
        PenstockError: a broker could not start, or none is installed.
    """
    return ClusterContext(size, data)
