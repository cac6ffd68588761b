"""Three brokers as processes of their own; whoever leads most partitions is to be killed."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Final

import penstock
from ops.faults.cluster import free_ports
from ops.showcase.process import BrokerProcess, wait_until
from ops.showcase.programs import TOPIC, connect
from penstock.errors import PenstockError

SIZE: Final = 3
TOGETHER_SECONDS_MAX: Final = 30.0


class Cluster:
    """As one `BrokerProcess`, with members: `kill` takes the one that `aim` has chosen."""

    replication: Final = SIZE

    def __init__(self, folder: Path) -> None:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(SIZE)]
        self.address = ",".join(addresses)
        self.starts: list[float] = []
        """How long it took all of them to begin, then each restart, in seconds."""
        self._members = []
        for number, address in enumerate(addresses):
            home = folder / str(number)
            home.mkdir()
            options = ["--join", self.address, "--host-label", f"host-{number}"]
            self._members.append(BrokerProcess(home, address, options))
        self._victim = self._members[0]
        self._formed = False

    @property
    def state(self) -> str:
        """How many are up, in words."""
        return f"{sum(bool(member.pid) for member in self._members)} of {SIZE} brokers up"

    async def start(self) -> None:
        """Start those that do not run; the first time they form a cluster."""
        began = time.monotonic()
        down = [member for member in self._members if not member.pid]
        for member in down:
            await member.start()
        if not self._formed:
            self._formed = True
            async with connect(self._members[0].address, "setup") as client:
                await client.admin.init_cluster()
        if len(down) == SIZE:
            await self._come_together()
        self.starts.append(time.monotonic() - began)

    async def _come_together(self) -> None:
        """Wait until each of them takes part and every partition has a leader."""
        async with connect(self.address, "setup") as client:
            end = time.monotonic() + TOGETHER_SECONDS_MAX
            while time.monotonic() < end and not await self._complete(client):
                await wait_until(lambda: False, 0.1)

    @staticmethod
    async def _complete(client: penstock.Client) -> bool:
        try:
            status = await client.admin.cluster_status()
        except PenstockError:
            return False
        there = len(status.nodes) == SIZE == len(status.metadata.voters)
        return there and all(node.answered for node in status.nodes) and not status.leaderless

    async def aim(self) -> str:
        """Choose whom to kill: whoever leads most of the topic; returns who that is, in words."""
        async with connect(self.address, "saboteur") as client:
            status = await client.admin.cluster_status()
            states = await client.admin.list_partitions(TOPIC)
        (leader, count), *_ = Counter(state.leader for state in states).most_common()
        address = next(node.address for node in status.nodes if node.id == leader)
        self._victim = next(member for member in self._members if member.address == address)
        return f"node {leader}, which leads {count} of {len(states)} partitions,"

    def kill(self) -> None:
        """End the one that was chosen by SIGKILL."""
        self._victim.kill()

    def end(self) -> None:
        """End all of them by SIGKILL."""
        for member in self._members:
            member.kill()

    async def stop(self) -> None:
        """End all of them in order."""
        for member in self._members:
            await member.stop()

    def log_end(self) -> str:
        """The last lines that each of them wrote."""
        return "\n\n".join(member.log_end() for member in self._members)
