"""Several broker processes that form a cluster: started, hurt, and started again.

Each member is a `BrokerProcess` on a port of its own that stays the same over restarts; the ports
are chosen before the first one starts, since each is told where all of them will be.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from ops.faults.broker import BrokerProcess, StartError, wait_until
from ops.faults.network import Network
from penstock import sync
from penstock.errors import PenstockError

FORM_SECONDS_MAX: Final = 20.0
ASK_SECONDS: Final = 2.0
PORT_MIN, PORT_MAX = 12_000, 32_000
VOTERS_MAX: Final = 5
"""So many nodes decide on metadata in a large cluster."""


class MemberKind(Protocol):
    """Makes a member; `BrokerProcess` and those derived from it do."""

    def __call__(self, folder: Path, *, address: str, options: Sequence[str]) -> BrokerProcess:
        """A broker that is not started yet."""


class ClusterProcesses:
    """So many brokers; `members` are in the order of their numbers, from 0 on.

    Attributes:
        address: all addresses, comma separated, for a client.
    """

    def __init__(
        self,
        folder: Path,
        size: int = 3,
        *,
        options: Sequence[str] = (),
        kind: MemberKind = BrokerProcess,
        network: Network | None = None,
    ) -> None:
        ports = free_ports(size)
        addresses = [
            f"{network.address(at) if network is not None else '127.0.0.1'}:{port}"
            for at, port in enumerate(ports)
        ]
        self.address = ",".join(addresses)
        self.members = [
            kind(
                folder / f"{number}",
                address=address,
                options=["--join", self.address, "--host-label", f"host-{number}", *options],
            )
            for number, address in enumerate(addresses)
        ]
        if network is not None:
            for number, member in enumerate(self.members):
                member.prefix = network.prefix(number)

    def start(self) -> Self:
        """Start all of them and form the cluster; returns when each knows all.

        Raises:
            StartError: they do not come together in time.
        """
        for member in self.members:
            member.spawn()
        wait_until(lambda: all(member.listens for member in self.members), FORM_SECONDS_MAX)
        with sync.connect(self.members[0].address, request_timeout=FORM_SECONDS_MAX) as client:
            client.admin.init_cluster()
        if not wait_until(self.complete, FORM_SECONDS_MAX):
            logs = "\n".join(member.log()[-1500:] for member in self.members)
            raise StartError(f"the brokers form no cluster; their logs end so:\n{logs}")
        return self

    def complete(self) -> bool:
        """Whether each member answers and knows all of them, and any of them may fail."""
        size = len(self.members)
        voters = min(size - 1 + size % 2, VOTERS_MAX)
        return all(
            len(self.nodes(member)) == size and self.voters(member) == voters
            for member in self.members
        )

    @staticmethod
    def voters(member: BrokerProcess) -> int:
        """How many nodes decide on metadata, as a member knows it."""
        with (
            suppress(PenstockError),
            sync.connect(member.address, request_timeout=ASK_SECONDS) as client,
        ):
            return int(str(client.admin.status().figures["metadata_voters"]))
        return 0

    @staticmethod
    def nodes(member: BrokerProcess) -> dict[str, int]:
        """Address -> node id, as a member knows it; empty when it does not answer."""
        with (
            suppress(PenstockError),
            sync.connect(member.address, request_timeout=ASK_SECONDS) as client,
        ):
            return {node.address: node.id for node in client.admin.metadata().nodes}
        return {}

    def whole(self) -> bool:
        """Whether one more broker may be lost: all replicas, and who decides, are on live ones."""
        with (
            suppress(PenstockError),
            sync.connect(self.address, request_timeout=ASK_SECONDS) as client,
        ):
            status = client.admin.cluster_status()
            alive = {node.id for node in status.nodes if node.alive}
            voters = status.metadata.voters
            lacks = status.under_replicated or status.leaderless or status.moving
            return alive.issuperset(voters) and len(voters) > 1 and not lacks
        return False

    def member(self, node: int) -> BrokerProcess:
        """The process of a node id."""
        for asked in self.members:
            for address, known in self.nodes(asked).items():
                if known == node:
                    return next(m for m in self.members if m.address == address)
        raise LookupError(f"no member knows of node {node}")

    def leader(self, topic: str, partition: int = 0) -> BrokerProcess:
        """The process that leads a partition, when there is one."""
        with sync.connect(self.address) as client:
            led: list[int] = []

            def known() -> bool:
                (info,) = client.admin.metadata([topic]).topics
                led[:] = [info.partitions[partition].leader]
                return led[0] != 0

            wait_until(known, FORM_SECONDS_MAX)
        return self.member(led[0])

    def kill(self) -> None:
        """End all of them by SIGKILL."""
        for member in self.members:
            member.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface in a row that nobody uses now.

    They lie below those that the kernel gives to outgoing connections: a broker that is away finds
    its port free when it comes back.
    """
    while True:
        first = random.randrange(PORT_MIN, PORT_MAX - count)
        ports = list(range(first, first + count))
        with ExitStack() as stack, suppress(OSError):
            for port in ports:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports
