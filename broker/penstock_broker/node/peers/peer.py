"""One other node: its lines, its inlets, and what is to be said to it when the round ends.

Invariants: messages are queued only for a line that is up, within its limit; what is queued leaves
when the round ends, each kind in one frame; rounds of heartbeats that wait for an answer are few.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from penstock.protocol.batch import Buffer
from penstock_broker.node.peers.appends import Sized, pack_appends, size_of
from penstock_broker.node.peers.frames import ROWS_MAX, Channel
from penstock_broker.node.peers.line import Line
from penstock_broker.node.peers.messages import Vote, pack_answers, pack_votes
from penstock_broker.node.peers.snapshots import Outgoing, fits
from penstock_broker.raft import (
    Append,
    AppendResponse,
    Beat,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
)

if TYPE_CHECKING:
    from penstock_broker.node.peers.peers import Peers
    from penstock_broker.node.session import Session

NEVER: Final = float("-inf")
ROUNDS_MAX: Final = 64
"""Rounds of heartbeats whose answer is awaited; older ones are forgotten."""
_NOT_CARRIED: Final = (Heartbeat, HeartbeatResponse)
"""Groups leave these to the rounds of all groups together."""


class Peer:
    """What is known of a node, and said to it.

    Attributes:
        listed: its address in the metadata; empty: it is not there, but was met by its hello.
        heard_at: when anything came from it last.
        life: number of the life of its process that opened the present control connection.
        refusal: why it was refused last, said once.
        rounds: number of a round of heartbeats -> the groups in it, with their terms then.
        dropped: messages that were not sent since the line was down or full.
    """

    __slots__ = ("_answers", "_append_bytes", "_appends", "_peers", "_snapshots", "_votes",
                 "address", "dropped", "heard_at", "id", "inlets", "life", "lines", "listed",
                 "queued", "refusal", "rounds")  # fmt: skip

    def __init__(self, peers: Peers, node_id: int, address: str) -> None:
        self._peers = peers
        self.id = node_id
        self.address = address
        self.listed = ""
        self.heard_at = NEVER
        self.life = 0
        self.refusal = ""
        self.lines = [Line(peers, self, channel) for channel in Channel]
        self.inlets: list[Session | None] = [None for _ in Channel]
        self.rounds: dict[int, list[Beat[int]]] = {}
        self.dropped = 0
        self.queued = False
        """Whether something waits for the end of the round."""
        self._appends: list[Sized] = []
        self._append_bytes = 0
        self._answers: list[tuple[int, AppendResponse]] = []
        self._votes: list[tuple[int, Vote]] = []
        self._snapshots: list[Outgoing] = []

    @property
    def control(self) -> Line:
        """The line for what is small and urgent."""
        return self.lines[Channel.CONTROL]

    @property
    def connected(self) -> bool:
        """Whether it hears us, and we hear it."""
        return self.control.up and self.inlets[Channel.CONTROL] is not None

    def add(self, gid: int, message: Message) -> bool:
        """Queue a message for the end of the round; False: it can't be sent."""
        match message:
            case Append():
                taken = self._add_append(gid, message)
            case AppendResponse():
                taken = self.lines[Channel.APPENDS].up and len(self._answers) < ROWS_MAX
                if taken:
                    self._answers.append((gid, message))
            case InstallSnapshot():
                taken = self.lines[Channel.BULK].up and fits(message)
                if taken:
                    self._snapshots = [one for one in self._snapshots if one.gid != gid]
                    self._snapshots.append(Outgoing(gid, message, self._peers.piece_bytes))
            case _:
                assert not isinstance(message, _NOT_CARRIED), "groups have heartbeats carried"
                taken = self.control.up and len(self._votes) < ROWS_MAX
                if taken:
                    self._votes.append((gid, message))
        self.dropped += not taken
        return taken

    def _add_append(self, gid: int, message: Append) -> bool:
        line = self.lines[Channel.APPENDS]
        if not line.up or line.unsent_bytes + self._append_bytes > line.bytes_max:
            return False
        size = size_of(message)
        self._appends.append((gid, message, size))
        self._append_bytes += size
        return True

    def flush(self) -> set[int]:
        """Send what was queued; groups of which a piece of a snapshot left.

        `sending` tells whether there are more pieces, for the next round.
        """
        self.queued = False
        appends = self.lines[Channel.APPENDS]
        if self._votes:
            votes, self._votes = self._votes, []
            self._send(self.control, ([frame] for frame in pack_votes(votes)), len(votes))
        if self._answers:
            answers, self._answers = self._answers, []
            self._send(appends, ([frame] for frame in pack_answers(answers)), len(answers))
        if self._appends:
            entries, self._appends, self._append_bytes = self._appends, [], 0
            self._send(appends, pack_appends(entries), len(entries))
        return self._send_pieces() if self._snapshots else set()

    @property
    def sending(self) -> bool:
        """Whether a snapshot is on its way."""
        return bool(self._snapshots)

    @property
    def eager(self) -> bool:
        """Whether the next piece of a snapshot can leave now."""
        room = 2 * self._peers.piece_bytes - self.lines[Channel.BULK].unsent_bytes
        return bool(self._snapshots) and room > 0

    def _send_pieces(self) -> set[int]:
        bulk = self.lines[Channel.BULK]
        moved: set[int] = set()
        if not bulk.up:
            self.dropped += len(self._snapshots)
            self._snapshots = []
        while self._snapshots and bulk.unsent_bytes < 2 * self._peers.piece_bytes:
            outgoing = self._snapshots.pop(0)
            bulk.send(outgoing.take())
            moved.add(outgoing.gid)
            if not outgoing.done:
                self._snapshots.append(outgoing)  # they take turns
        return moved

    def _send(self, line: Line, frames: Iterable[list[Buffer]], count: int) -> None:
        for buffers in frames:
            if not line.send(buffers):
                self.dropped += count

    def note_round(self, number: int, beats: list[Beat[int]]) -> None:
        """Remember who was in a round of heartbeats until it is answered."""
        if len(self.rounds) >= ROUNDS_MAX:
            del self.rounds[next(iter(self.rounds))]
        self.rounds[number] = beats

    @property
    def silent(self) -> bool:
        """Whether it counts as gone until it is heard again."""
        return self.heard_at == NEVER

    def silence(self) -> None:
        """Nothing is heard, nor can anything be said."""
        self.heard_at = NEVER
        self.rounds.clear()
        self._snapshots = []

    def figures(self, now: float) -> dict[str, object]:
        """How the links are."""
        return {
            "node": self.id,
            "address": self.address,
            "connected": [line.channel.name.lower() for line in self.lines if line.up],
            "heard_seconds_ago": None if self.silent else round(now - self.heard_at, 3),
            "unsent_bytes": sum(line.unsent_bytes for line in self.lines),
            "dropped_messages": self.dropped,
            "refused": self.refusal,
        }
