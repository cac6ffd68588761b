"""All links of a node: the one part that knows every peer.

It says when to dial whom, takes what groups have to say, packs it when the round ends, and gives
what arrives to the groups. Who exists is told by the metadata, and by the hello of a node that the
metadata here does not name yet. Invariants: without other nodes nothing happens and nothing is
spent; the sender of a message is the node whose hello opened its connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError, RemoteProtocolError, WrongCluster
from penstock.protocol.batch import Buffer
from penstock.protocol.codec import encode_error, encode_message
from penstock_broker.node.link import Dial
from penstock_broker.node.peers import hello
from penstock_broker.node.peers.frames import PEER_HELLO, PIECE_BYTES, Channel
from penstock_broker.node.peers.heartbeats import Rounds
from penstock_broker.node.peers.hello import PeerHello, PeerHelloReply
from penstock_broker.node.peers.identity import Identity
from penstock_broker.node.peers.inlet import Inlet
from penstock_broker.node.peers.leads import Leads
from penstock_broker.node.peers.line import Line
from penstock_broker.node.peers.marks import Marks
from penstock_broker.node.peers.peer import Peer
from penstock_broker.node.peers.reception import Receiver, Reception
from penstock_broker.node.peers.seeking import Seeking
from penstock_broker.raft import Message, Raft

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

BEAT_SECONDS: Final = 0.2
ALIVE_SECONDS: Final = 1.0
SILENT_SECONDS_MAX: Final = 3.0
"""A peer that is not heard for so long: its connections are given up, and dialled again."""
PEERS_MAX: Final = 1024
_NEVER: Final = float("inf")

log = logging.getLogger("penstock.broker.peers")


class Peers:
    """The other nodes, as this one sees them.

    Attributes:
        receivers: frame type -> who takes such frames; other parts add theirs.
        piece_bytes: of a snapshot, in one frame.
        watchers: called with the id of a node whose process is gone, or unreachable.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers: dict[int, Peer] = {}
        self._leads = Leads()
        self._seeking = Seeking(self, node.config.join)
        self._queued: list[Peer] = []
        self.piece_bytes = PIECE_BYTES
        self._urgent: dict[int, Group] = {}
        self._dial_at = _NEVER
        self._beat_at = 0.0
        self._late_at = _NEVER
        """When this process itself must have been at rest for long, if it is not done by then."""
        self._metadata_index = -1
        self._marks = Marks(node)
        self._rounds = Rounds(node, node.rng, self._marks)
        self._identity = Identity(node, self._marks)
        reception = Reception(node, self._rounds, self._leads)
        self.watchers: list[Callable[[int], None]] = [reception.forget]
        self.receivers: dict[int, Receiver] = reception.receivers()

    # ----- who is there

    @property
    def leaders(self) -> Mapping[int, tuple[int, int]]:
        """Group -> (term, node) that leads it elsewhere, as it said itself."""
        return self._leads.elsewhere

    def all(self) -> Mapping[int, Peer]:
        """Every peer, by node id."""
        return self._peers

    def alive(self, node_id: int) -> bool:
        """Whether a node was heard of within a second; this one is alive."""
        peer = self._peers.get(node_id)
        if peer is None:
            return node_id == self._node.node_id
        return self.clock - peer.heard_at <= ALIVE_SECONDS

    def figures(self) -> list[dict[str, object]]:
        """How the links to each peer are, for the status."""
        return [peer.figures(self.clock) for _, peer in sorted(self._peers.items())]

    def introduce(self, nodes: Mapping[int, str], gone: Iterable[int] = ()) -> None:
        """Learn from the metadata who exists, by id and address; `gone` never come back."""
        self._identity.gone = frozenset(gone)
        self._marks.forget(self._identity.gone)
        for node_id, address in nodes.items():
            if node_id != self._node.node_id:
                peer = self._meet(node_id, address)
                if peer.listed != address:
                    peer.listed = peer.address = address
        for node_id, peer in list(self._peers.items()):
            if node_id in self._identity.gone or (peer.listed and node_id not in nodes):
                self._forget(peer)

    def _meet(self, node_id: int, address: str) -> Peer:
        peer = self._peers.get(node_id)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                raise WrongCluster(f"there are {PEERS_MAX} other nodes already")
            peer = self._peers[node_id] = Peer(self, node_id, address)
            self._dial_at = self.clock
            self._node.outward = True
        return peer

    def _forget(self, peer: Peer) -> None:
        del self._peers[peer.id]
        self._hang_up_all(peer)
        self.lost(peer)

    def _hang_up_all(self, peer: Peer) -> None:
        for line in peer.lines:
            line.give_up()
        for channel, session in enumerate(peer.inlets):
            if session is not None:
                peer.inlets[channel] = None
                self.hang_up(session)

    # ----- connections that we dial

    def dials(self) -> list[Dial]:
        """Connections to open now."""
        now, found, at = self.clock, self._seeking.dials(), _NEVER
        if now < self._dial_at:
            return found
        for peer in self._peers.values():
            for line in peer.lines:
                if not line.idle or (line is not peer.control and not peer.control.up):
                    continue
                if now >= line.next_at:
                    line.dialing = True
                    found.append(Dial(self, peer.id, line.channel, peer.address))
                else:
                    at = min(at, line.next_at)
        self._dial_at = at
        return found

    def dialed(self, dial: Dial, session: Session) -> None:
        """A connection is open: say hello."""
        peer = self._peers.get(dial.key)
        if peer is None:
            self.hang_up(session)
        else:
            peer.lines[dial.channel].dialed(session)

    def dial_failed(self, dial: Dial) -> None:
        """A connection could not be opened."""
        peer = self._peers.get(dial.key)
        if peer is not None:
            peer.lines[dial.channel].failed()

    def say_hello(self, session: Session, channel: int, to: int) -> None:
        """The first frame of a connection, to a node or (0) to whoever is there."""
        self._node.emit(session, encode_message(self._identity.hello(channel, to), 0))

    def found(self, answer: PeerHelloReply) -> None:
        """Somebody answered whom we did not know, or elsewhere than we thought.

        Raises:
            WrongCluster: it is no peer of ours.
        """
        self._identity.check(answer)
        peer = self._meet(answer.node, answer.address)
        peer.address = answer.address
        peer.control.hurry()

    def check_answer(self, line: Line, answer: PeerHelloReply) -> None:
        """Is it the node that we wanted?

        Raises:
            WrongCluster: it is another one.
        """
        self._identity.check(answer)
        if answer.node != line.peer.id:
            address, found = line.peer.address, answer.node
            raise WrongCluster(f"at {address} is node {found}, not node {line.peer.id}")

    def came_up(self, line: Line) -> None:
        """A line may be used."""
        peer = line.peer
        peer.refusal = ""
        if line is not peer.control:
            return
        for other in peer.lines:
            other.hurry()
        for frame in self._leads.everything():
            line.send([frame])
        self._node.agreement.tell(peer.id)
        self._node.groups.offer_to_lead()
        log.info("connected to a node", extra={"node": peer.id, "address": peer.address})

    def refused(self, peer: Peer, error: PenstockError) -> None:
        """A peer is not who it should be, or does not want us: say so once."""
        if str(error) != peer.refusal:
            peer.refusal = str(error)
            extra = {"node": peer.id, "address": peer.address, "reason": peer.refusal}
            log.warning("a node can't be talked to", extra=extra)
        if error.detail.get("gone") == self._node.node_id:
            self._node.membership.expelled(f"node {self._node.node_id} was removed")

    # ----- connections that peers dial

    def greeted(self, session: Session, correlation: int, body: Buffer) -> None:
        """The first frame of a connection is the hello of a node.

        Raises:
            RemoteProtocolError: it is malformed.
            StaleDirectory: the directory of this node is an older copy, by what the other knows.
        """
        said = hello.decode_hello(body)
        try:
            version = hello.agree(said)
            peer = self._admit(said)
        except PenstockError as error:
            self._node.emit(session, encode_error(correlation, PEER_HELLO, error))
            self._node.hang_up(session)
            return
        self._learn(said)
        old, peer.inlets[said.channel] = peer.inlets[said.channel], session
        if old is not None:
            self.hang_up(old)
        if said.channel == Channel.CONTROL:
            if old is not None and said.life != peer.life:
                self.lost(peer)  # its process ended, faster than word of that
            peer.life = said.life
        session.link = Inlet(self, peer, Channel(said.channel), said.address)
        session.ready = True
        session.name = f"node {peer.id}"
        peer.heard_at = self.clock
        peer.control.hurry()
        self._node.emit(session, encode_message(self._identity.answer(version), correlation))

    def _learn(self, said: PeerHello) -> None:
        """Who is an older copy by what the node knows is refused when it dials again."""
        for node in self._marks.learn(said.marks):
            peer = self._peers.get(node)
            if peer is not None:
                self._hang_up_all(peer)
                self.lost(peer)

    def _admit(self, said: PeerHello) -> Peer:
        self._identity.check(said)
        self._identity.check_meant(said.to_node)
        peer = self._meet(said.node, said.address)
        self._check_alone(peer, said.address)
        self._marks.greet(said.node, said.life, said.opened)
        peer.address = said.address
        return peer

    def _check_alone(self, peer: Peer, address: str) -> None:
        """Refuse whoever has a copy of the directory of a node that is alive.

        What one of the two has on its disk would else count as being on that of the other.
        """
        inlet = peer.inlets[Channel.CONTROL]
        if inlet is None or not self.alive(peer.id):
            return
        assert isinstance(inlet.link, Inlet), "only inlets are kept"
        if inlet.link.address != address:
            raise WrongCluster(
                f"node {peer.id} is alive at {inlet.link.address}: is this a copy of its directory?"
            )

    def broke(self, line: Line) -> None:
        """A line that was up is gone, and what was on its way with it."""
        if line.channel == Channel.CONTROL:
            self.lost(line.peer)
        elif line.channel == Channel.BULK:
            self._node.catchup.interrupted(line.peer.id)

    def lost(self, peer: Peer) -> None:
        """A control connection broke: the process at the other end is gone, most likely."""
        if peer.silent:
            return
        peer.silence()
        log.info("a node is gone", extra={"node": peer.id, "address": peer.address})
        self._node.groups.suspect(peer.id)
        for watcher in self.watchers:
            watcher(peer.id)

    # ----- what arrives

    def receive(
        self, session: Session, type_: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        """One frame of a peer.

        Raises:
            PenstockError: the connection must be closed.
        """
        inlet = session.link
        assert isinstance(inlet, Inlet), "only inlets pass frames on"
        receiver = self.receivers.get(type_)
        if receiver is None:
            raise RemoteProtocolError(f"there is no frame of type 0x{type_:02x} between nodes")
        receiver(inlet.peer.id, buffer, start, end, owned)

    # ----- what is sent

    def send(self, gid: int, message: Message) -> bool:
        """Queue a message of a group; False: dropped, Raft sends it again if need be."""
        peer = self._peers.get(message.to)
        if peer is None or not peer.add(gid, message):
            return False
        if not peer.queued:
            peer.queued = True
            self._queued.append(peer)
        return True

    def post(self, to: int, channel: Channel, buffers: Iterable[Buffer]) -> bool:
        """Queue one whole frame of another part; False: not connected, or too much waits."""
        peer = self._peers.get(to)
        return peer is not None and peer.lines[channel].send(buffers)

    def announce(self, gid: int, term: int) -> None:
        """We lead a group in a term; term 0: no longer."""
        self._leads.announce(gid, term)
        self._node.outward = True

    def beat(self, group: Group) -> None:
        """Reads wait for a round of heartbeats: have one at the end of this round."""
        self._urgent[group.gid] = group
        self._node.outward = True

    def flush(self) -> None:
        """The round ends: send what was queued, one frame per peer and kind."""
        if self._urgent:
            urgent, self._urgent = self._urgent, {}
            due = [group for group in urgent.values() if group.raft.heartbeat_due]
            self._rounds.send(due, self._peers, everybody=False)
        if self._queued:
            queued, self._queued = self._queued, []
            for peer in queued:
                for gid in peer.flush():
                    self._progresses(gid, peer.id)
                if peer.sending:
                    peer.queued = True
                    self._queued.append(peer)
        for frame in self._leads.take_news():
            for peer in self._peers.values():
                peer.control.send([frame])

    @property
    def eager(self) -> bool:
        """Whether more of a snapshot can leave at once: the next round need not wait."""
        return any(peer.eager for peer in self._queued)

    def _progresses(self, gid: int, node_id: int) -> None:
        group = self._node.groups.get(gid)
        if group is not None and group.leading:
            group.raft.snapshot_progresses(node_id)

    def emit(self, session: Session, buffers: Iterable[Buffer]) -> None:
        """Queue one frame, as the buffers that it consists of."""
        before = len(session.out)
        session.out.extend(buffers)
        session.unsent_bytes += sum(map(len, session.out[before:]))
        if not session.queued:
            self._node.queue(session)

    def hang_up(self, session: Session) -> None:
        """Close a connection; what is queued for it does not matter any more."""
        session.out.clear()
        self._node.hang_up(session)

    # ----- time

    @property
    def clock(self) -> float:
        """Time of the round, seconds."""
        return self._node.clock

    def jitter(self) -> float:
        """A factor for pauses, so that nodes do not try all at once."""
        return self._node.rng.uniform(0.5, 1.0)

    def dial_from(self, at: float) -> None:
        """Somebody is to be dialled at that time."""
        self._dial_at = min(self._dial_at, at)

    def sure_until(self, raft: Raft) -> float:
        """Until when nobody else can lead a group that is led here; 0: somebody else may by now."""
        return self._rounds.sure_until(raft)

    def tick(self) -> None:
        """Let time pass: a round of heartbeats when it is due; silent peers are given up."""
        groups = self._node.groups
        if self.clock < self._beat_at or not groups.node_id:
            return
        self._beat_at = self.clock + BEAT_SECONDS
        late, self._late_at = self.clock > self._late_at, self.clock + ALIVE_SECONDS
        if groups.metadata_index != self._metadata_index:
            self._read_metadata()
        self._seeking.tick(any(peer.control.up for peer in self._peers.values()))
        if not self._peers:
            return
        for peer in list(self._peers.values()):
            self._watch(peer, late)
        self._rounds.send(groups.restless(), self._peers, everybody=True)

    def _read_metadata(self) -> None:
        groups = self._node.groups
        self._metadata_index = groups.metadata_index
        nodes = groups.metadata.machine.nodes.values()
        here = {entry.id: entry.address for entry in nodes if not entry.gone}
        self.introduce(here, [entry.id for entry in nodes if entry.gone])

    def _watch(self, peer: Peer, late: bool) -> None:
        now, control = self.clock, peer.control
        if late:
            control.since = now  # it may have spoken: we did not listen
        for line in peer.lines:
            line.tick(now)
        if not control.up or now - max(peer.heard_at, control.since) <= SILENT_SECONDS_MAX:
            return
        extra = {"node": peer.id, "seconds": SILENT_SECONDS_MAX}
        log.warning("nothing is heard of a node: its connections are closed", extra=extra)
        self._hang_up_all(peer)
        self.lost(peer)
