"""Whether all brokers make the same of the metadata; who does not is found out, and ends.

All apply one log of group 0, so at every entry all digests of what was decided are equal
(`machine/decisions.py`), unless a broker's memory, disk or version is at fault. Each tells the
others its own now and then. Invariants: only digests at the very same entry are compared, and only
those that a process said which still runs; a broker ends only if a majority of the voters and of
all members told one and the same other digest at one entry; while nobody has a majority all go on,
and tell. Nothing of this is kept on the disk, but the digest in the machine's snapshot.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from penstock.errors import MetadataDiverged, RemoteProtocolError
from penstock_broker.machine.replica_recovery import has_majority
from penstock_broker.node.peers.frames import Channel, Table

if TYPE_CHECKING:
    from penstock_broker.node.metadata import MetadataGroup
    from penstock_broker.node.node import Node

DIGESTS: Final = 0x7D
"""Type of the frame: rows of index u64, digest u64."""
DIGEST_TABLE: Final = Table(DIGESTS, "", "QQ")
TELL_SECONDS: Final = 2.0
PAST_MAX: Final = 4096
"""Entries of which a broker remembers its own digest, at least."""
STRIDE: Final = 256
"""At its multiples all tell their digest, so that those of third ones are comparable too while the
metadata changes fast and nobody tells the same last entry."""
ROWS_MAX: Final = 9
"""Of a frame: the last entry, and multiples of the stride before it."""
HEARD_MAX: Final = 16
"""Rows of another broker that are remembered."""

log = logging.getLogger("penstock.broker.node")


class Past:
    """The own digests at the latest entries: each holds until the next entry that changed it."""

    def __init__(self, index: int, digest: int) -> None:
        """Begin at an entry; what was before is not known."""
        self._indexes = [index]
        self._digests = [digest]

    def note(self, index: int, digest: int) -> None:
        """A later entry was applied."""
        if digest == self._digests[-1]:
            return
        self._indexes.append(index)
        self._digests.append(digest)
        if len(self._indexes) > 2 * PAST_MAX:
            del self._indexes[:PAST_MAX], self._digests[:PAST_MAX]

    def at(self, index: int) -> int | None:
        """The digest when this entry was applied, which it must be; None: that is too long ago."""
        place = bisect_right(self._indexes, index)
        return self._digests[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Parted:
    """Another node that made something else of the metadata than this one."""

    index: int
    """An entry at which both have told it."""
    proven: bool
    """Whether a majority made what this node made: then it is the other one that parted."""


class Agreement:
    """Tells what this node made of the metadata, and hears what the others did.

    Attributes:
        parted: node -> since when it is known to have parted from this one; also while it is away,
            until it tells otherwise, or is a member no more.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._heard: dict[int, dict[int, int]] = {}
        """Node -> entry -> digest, as its present process said."""
        self._agreeing: dict[int, int] = {}
        """Node -> the last entry up to which it is known to agree."""
        self._waiting: set[int] = set()
        """Nodes that told of entries which were not compared yet."""
        self._told = 0
        self._tell_at = 0.0
        self.parted: dict[int, Parted] = {}
        node.peers.receivers[DIGESTS] = self.received
        node.peers.watchers.append(self.forget)

    @property
    def _metadata(self) -> MetadataGroup:
        return self._node.groups.metadata

    @property
    def doubtful(self) -> bool:
        """Whether another node that runs made something else, and nobody knows who is right.

        As long as that is so no snapshot of the metadata leaves: who takes it would be a second
        witness for what may be wrong. Who takes the log's entries decides for itself.
        """
        return any(node in self._heard and not found.proven for node, found in self.parted.items())

    # ----- telling

    def tick(self) -> None:
        """A few times a second: tell what was applied since, and compare it with what was heard."""
        now = self._node.clock
        if not self._node.peers.all() or not self._node.groups.node_id:
            return
        applied = self._metadata.applied_index
        if applied != self._told and now >= self._tell_at:
            self._told, self._tell_at = applied, now + TELL_SECONDS
            self._tell_all()
        if (self._waiting or self.parted) and self._node.membership.removed is None:
            self._look()

    def _tell_all(self) -> None:
        for peer in self._node.peers.all():
            self.tell(peer)

    def tell(self, peer: int) -> None:
        """Tell one node: when the connection to it comes up, and whenever there is news."""
        rows = self._rows() if self._node.groups.node_id else {}
        if rows:
            frame = DIGEST_TABLE.pack((), [tuple(rows), tuple(rows.values())])
            self._node.peers.post(peer, Channel.CONTROL, [frame])

    def _rows(self) -> dict[int, int]:
        applied = self._metadata.applied_index
        last = applied - applied % STRIDE
        strides = range(last, max(0, last - (ROWS_MAX - 1) * STRIDE), -STRIDE)
        found = ((index, self._metadata.digest_at(index)) for index in (applied, *strides))
        return {index: digest for index, digest in found if index and digest is not None}

    # ----- hearing

    def received(self, sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        """Another node tells its digests.

        Raises:
            RemoteProtocolError: the frame is damaged, or has too many rows.
        """
        _, (indexes, digests) = DIGEST_TABLE.unpack(buffer, start, end)
        if not 0 < len(indexes) <= ROWS_MAX:
            raise RemoteProtocolError(f"a node tells {len(indexes)} digests at once")
        heard = self._heard.setdefault(sender, {})
        heard.update(zip(indexes, digests, strict=True))
        for index in sorted(heard)[:-HEARD_MAX]:
            del heard[index]
        self._waiting.add(sender)
        self._compare(sender)  # at once: it may be the last that it says

    def forget(self, node: int) -> None:
        """A node's process is gone: the next one may know better, and says so itself."""
        self._heard.pop(node, None)
        self._agreeing.pop(node, None)
        self._waiting.discard(node)

    def _look(self) -> None:
        """Compare what was not compared yet."""
        members, applied = self._metadata.machine.members, self._metadata.applied_index
        for node in [node for node in self.parted if node not in members]:
            del self.parted[node]
        for node in list(self._waiting):
            self._compare(node)
            if max(self._heard[node]) <= applied:
                self._waiting.remove(node)
        if self.parted:
            self._prove()
            self._look_at_itself()

    def _compare(self, node: int) -> None:
        """Compare at the last entry that both tell of.

        Who parted stays so, and up to where two agree they always did: that entry says it all.
        """
        if node not in self._metadata.machine.members:
            return
        for index, theirs in sorted(self._heard[node].items(), reverse=True):
            own = self._metadata.digest_at(index)
            if own is None:
                continue
            if theirs == own:
                self._agreeing[node] = index
                if self.parted.pop(node, None) is not None:
                    log.info("a node agrees about the metadata again", extra={"node": node})
            elif node not in self.parted:
                self._agreeing.pop(node, None)
                self.parted[node] = Parted(index, proven=False)
                figures = {"there": f"{theirs:016x}", "here": f"{own:016x}"}
                log.error(
                    "another node made something else of the metadata",
                    extra={"node": node, "entry": index, **figures},
                )
            return

    def _prove(self) -> None:
        """Whether a majority made what was made here, where somebody else parted."""
        for node, parted in self.parted.items():
            with_us = {other for other, index in self._agreeing.items() if index >= parted.index}
            with_us.add(self._node.node_id)
            if not parted.proven and self._is_majority(with_us):
                self.parted[node] = Parted(parted.index, proven=True)
                log.error(
                    "a node parted from the majority: it must be replaced", extra={"node": node}
                )

    def _look_at_itself(self) -> None:
        """Whether a majority told one other digest at one entry: then it was we who parted."""
        others: dict[tuple[int, int], set[int]] = {}
        for node in self.parted:
            for index, theirs in self._heard.get(node, {}).items():
                if self._metadata.digest_at(index) not in (None, theirs):
                    others.setdefault((index, theirs), set()).add(node)
        for (index, digest), nodes in others.items():
            if self._is_majority(nodes):
                self._tell_all()  # else they might only see this node go
                here, told = self._node.node_id, ", ".join(map(str, sorted(nodes)))
                self._node.membership.ends(MetadataDiverged(
                    f"this broker (node {here}) made something else of the cluster's metadata "
                    f"than the majority did (nodes {told}), at entry {index}: "
                    f"{self._metadata.digest_at(index):016x} instead of {digest:016x}",
                    node=here,
                    entry=index,
                ))  # fmt: skip
                return

    def _is_majority(self, nodes: Collection[int]) -> bool:
        """Whether they are one of the voters, in the midst of a change of both, and of all."""
        configuration = self._metadata.raft.configuration
        bodies = (configuration.voters, configuration.outgoing, self._metadata.machine.members)
        return all(has_majority(body, nodes) for body in bodies if body)
