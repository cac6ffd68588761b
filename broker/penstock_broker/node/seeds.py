"""The brokers that a node without a cluster was told to join: asked again and again.

Each address is dialled as a client would and asked to take this node in. Invariants: at most one
connection and one question under way per address; nobody is asked before each address was tried
once, or while two of them belong to different clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from penstock.errors import NotLeader, PenstockError, RemoteProtocolError, RetriableError
from penstock.protocol.cluster import JoinCluster, JoinClusterReply
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.frames import (
    FLAG_ERROR,
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    HELLO_BYTES_MAX,
)
from penstock.protocol.messages import PROTOCOL_MAGIC, VERSION_MAX, VERSION_MIN, Hello, HelloReply
from penstock_broker.node.link import Dial

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

ASK_SECONDS: Final = 0.2
ANSWER_SECONDS_MAX: Final = 2.0
REDIAL_SECONDS: Final = 0.2
SEEDS_MAX: Final = 64
"""Addresses that are asked: those of the option, and those that brokers point to."""
REPLY_BYTES_MAX: Final = 256 * 1024

_HELLO: Final = Hello(
    magic=PROTOCOL_MAGIC, version_min=VERSION_MIN, version_max=VERSION_MAX, client="joining"
)


class Seed:
    """One address, and what is known of the broker there; the link of its connection."""

    frame_bytes_max = FRAME_HEADER_BYTES + max(REPLY_BYTES_MAX, HELLO_BYTES_MAX)
    bulky = False

    def __init__(self, seeds: Seeds, address: str) -> None:
        self.address = address
        self.session: Session | None = None
        self.dialing = False
        self.next_at = 0.0
        """When it is dialled, or asked, next."""
        self.asked_at: float | None = None
        """Since when an answer is awaited."""
        self.tried = False
        """Whether it said hello once, or could not be reached."""
        self.uuid = ""
        """Of its data directory, once it has told."""
        self.itself = False
        """Whether it turned out to be this very broker."""
        self.cluster = ""
        """The cluster that it belongs to, as last heard."""
        self.forming = False
        """Whether it was about to form one itself."""
        self.answers = -1.0
        """When the question was asked that its last answer was for."""
        self.refusal = ""
        """Why its cluster does not take this broker in, in its words."""
        self._seeds = seeds

    def receive(
        self, session: Session, type_: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        _, _, flags, _, _, _ = FRAME_HEADER.unpack_from(buffer, start)
        body = bytes(buffer[start + FRAME_HEADER_BYTES : end])
        if flags & FLAG_ERROR:
            self._seeds.refused(self, decode_error(body))
            return
        message = decode_reply(type_, body)
        if isinstance(message, JoinClusterReply):
            self._seeds.answered(self, message)
        elif isinstance(message, HelloReply):
            self._seeds.greeted(self, message)
        else:
            raise RemoteProtocolError(f"{type(message).__name__} was not asked for")

    def disconnected(self, session: Session) -> None:
        self.session = None
        self.asked_at = None
        self.tried = True
        self.next_at = self._seeds.again_at()


class Seeds:
    """Asks all of them until one takes this node in."""

    def __init__(
        self, node: Node, addresses: Sequence[str], joined: Callable[[str, int], None]
    ) -> None:
        self._node = node
        self._joined = joined
        self._seeds: dict[int, Seed] = {}
        self._key = 0
        self.over = False
        for address in addresses:
            self._add(address)

    def _add(self, address: str) -> None:
        known = {seed.address for seed in self._seeds.values()}
        if address not in known and len(known) < SEEDS_MAX:
            self._key += 1
            self._seeds[self._key] = Seed(self, address)

    def again_at(self) -> float:
        """When to try again: soon, but not all at once."""
        return self._node.clock + REDIAL_SECONDS * self._node.rng.uniform(0.75, 1.5)

    # ----- what is known

    def silent(self, since: float) -> list[Seed]:
        """Those that have not answered a question asked at that time or later."""
        others = [seed for seed in self._seeds.values() if not seed.itself]
        return [seed for seed in others if seed.answers < since]

    def forming(self) -> str:
        """Address of one that is about to form a cluster; empty: none that is known."""
        return next((seed.address for seed in self._seeds.values() if seed.forming), "")

    def formed(self) -> str:
        """A cluster that one of them belongs to; empty: none that is known."""
        return next((seed.cluster for seed in self._seeds.values() if seed.cluster), "")

    def others(self) -> dict[str, str]:
        """Those that have answered: uuid -> address."""
        return {s.uuid: s.address for s in self._seeds.values() if s.uuid and not s.itself}

    def conflict(self) -> str:
        """What is wrong with the list, in words, if it names brokers of different clusters."""
        found = {seed.cluster: seed.address for seed in self._seeds.values() if seed.cluster}
        if len(found) < 2:
            return ""
        places = ", ".join(f"{address} to {cluster}" for cluster, address in found.items())
        return f"the brokers to join belong to different clusters: {places}"

    def trouble(self) -> str:
        """Why this broker joins nobody, in words, if a person has to do something about it."""
        refusals = (f"{s.address}: {s.refusal}" for s in self._seeds.values() if s.refusal)
        return self.conflict() or next(refusals, "")

    def _may_ask(self) -> bool:
        return all(seed.tried for seed in self._seeds.values()) and not self.conflict()

    # ----- connections

    def dials(self) -> list[Dial]:
        """Addresses to connect to now."""
        if self.over:
            return []
        now, found = self._node.clock, []
        for key, seed in self._seeds.items():
            idle = seed.session is None and not seed.dialing and not seed.itself
            if idle and now >= seed.next_at:
                seed.dialing = True
                found.append(Dial(self, key, 0, seed.address))
        return found

    def dialed(self, dial: Dial, session: Session) -> None:
        """Say hello over a new connection."""
        seed = self._seeds[dial.key]
        seed.dialing = False
        session.link = seed
        seed.session, seed.asked_at = session, self._node.clock
        self._node.emit(session, encode_message(_HELLO, 1))

    def dial_failed(self, dial: Dial) -> None:
        seed = self._seeds[dial.key]
        seed.dialing = False
        seed.tried = True
        seed.next_at = self.again_at()

    def tick(self) -> None:
        """Ask again those whose turn it is; give up connections without an answer."""
        now = self._node.clock
        for seed in self._seeds.values():
            if seed.session is None:
                continue
            if self.over or (seed.asked_at and now - seed.asked_at > ANSWER_SECONDS_MAX):
                self._node.hang_up(seed.session)
            elif seed.asked_at is None and now >= seed.next_at:
                self._ask(seed)

    def _ask(self, seed: Seed) -> None:
        node = self._node
        if seed.session is None or self.over or not self._may_ask():
            return
        config = node.config
        question = JoinCluster(
            uuid=node.store.node_uuid.hex(),
            address=config.address,
            host=config.host,
            feature_max=config.feature_max,
        )
        seed.asked_at = node.clock
        node.emit(seed.session, encode_message(question, 2))

    # ----- answers

    def greeted(self, seed: Seed, reply: HelloReply) -> None:
        """It speaks our protocol, and says which cluster it belongs to."""
        seed.cluster, seed.tried, seed.asked_at = reply.cluster, True, None
        for each in self._seeds.values():
            if each.asked_at is None and self._node.clock >= each.next_at:
                self._ask(each)

    def answered(self, seed: Seed, reply: JoinClusterReply) -> None:
        """It told what we are."""
        self._heard(seed)
        seed.uuid = reply.uuid
        if reply.uuid == self._node.store.node_uuid.hex():
            seed.itself = True
            if seed.session is not None:
                self._node.hang_up(seed.session)
            return
        seed.cluster, seed.forming, seed.refusal = reply.cluster, reply.forming, ""
        if reply.cluster and not self.over:
            self._joined(reply.cluster, reply.node)

    def refused(self, seed: Seed, error: PenstockError) -> None:
        """It can't take us in now; it may know who can."""
        self._heard(seed)
        address = error.detail.get("address")
        cluster = error.detail.get("cluster")
        if isinstance(cluster, str):
            seed.cluster = cluster
        seed.refusal = "" if isinstance(error, RetriableError) else str(error)
        if isinstance(error, NotLeader) and isinstance(address, str):
            self._add(address)

    def _heard(self, seed: Seed) -> None:
        if seed.asked_at is not None:
            seed.answers = seed.asked_at
        seed.asked_at = None
        seed.next_at = self._node.clock + ASK_SECONDS
