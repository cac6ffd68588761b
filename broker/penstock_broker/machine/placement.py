"""Where the replicas of new partitions go.

Hosts come first: replicas share a host only when there are fewer hosts than replicas. Among equals
the node with the fewest replicas is taken, then the one that leads the fewest, then rendezvous
hashing decides, so that the same table gives the same placement everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

Replicas = list[int]
"""Node ids, the preferred leader first."""


class Placer:
    """Places partition after partition, counting what each node holds."""

    def __init__(self, hosts: Mapping[int, str], placed: Iterable[Sequence[int]]) -> None:
        self._hosts = {node: host or f"node {node}" for node, host in hosts.items()}
        self._held = dict.fromkeys(hosts, 0)
        self._led = dict.fromkeys(hosts, 0)
        for replicas in placed:
            self._count(replicas)

    def place(self, topic_id: str, partition: int, replication: int) -> Replicas:
        """Choose distinct nodes for one partition; there must be as many as `replication`."""
        assert 0 < replication <= len(self._hosts)
        score = {node: _score(topic_id, partition, node) for node in self._hosts}
        chosen: Replicas = []
        used = dict.fromkeys(self._hosts.values(), 0)
        while len(chosen) < replication:
            rest = [node for node in self._hosts if node not in chosen]
            best = min(
                rest,
                key=lambda node: (used[self._hosts[node]], self._held[node], self._led[node],
                                  score[node], node),
            )  # fmt: skip
            used[self._hosts[best]] += 1
            chosen.append(best)
        leader = min(chosen, key=lambda node: (self._led[node], score[node], node))
        chosen.remove(leader)
        chosen.insert(0, leader)
        self._count(chosen)
        return chosen

    def _count(self, replicas: Sequence[int]) -> None:
        for node in replicas:  # others take no new ones: what they have does not matter
            if node in self._held:
                self._held[node] += 1
        if replicas[0] in self._led:
            self._led[replicas[0]] += 1


def _score(topic_id: str, partition: int, node: int) -> int:
    digest = blake2b(f"{topic_id}/{partition}/{node}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
