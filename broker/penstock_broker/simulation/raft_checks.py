"""What must hold after every event of a simulated Raft group.

The checker sees all nodes and all disks at once. It keeps the one committed sequence, and every
entry ever made, so that each check costs no more than what has changed.
"""

from collections.abc import Mapping
from typing import Protocol
from zlib import crc32

from penstock_broker.raft import (
    CONFIG,
    AppendResponse,
    Configuration,
    Entry,
    Message,
    Raft,
    Role,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.simulation.raft_disk import Disk


class InvariantBroken(AssertionError):
    """A promise of Raft does not hold."""


class Host(Protocol):
    """What the checker looks at in a simulated node."""

    raft: Raft | None
    disk: Disk


def require(holds: bool, text: str) -> None:
    """Raise InvariantBroken unless it holds."""
    if not holds:
        raise InvariantBroken(text)


def after(machine: int, entry: Entry) -> int:
    """Return the machine's state after an entry: a digest of all entries so far."""
    return crc32(b"%d %d %d " % entry[:3] + bytes(entry.data), machine)


class Checker:
    """The promises, and what is needed to see one broken."""

    def __init__(self, hosts: Mapping[int, Host]) -> None:
        self._hosts = hosts
        self.committed: list[Entry] = []
        self.machines = [0]  # state after each committed entry
        self._committed_in: list[int] = []  # term of the node that committed it first
        self._made: dict[tuple[int, int], tuple[int, bytes, int]] = {}
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._seen: dict[int, tuple[int, Role, int]] = {}

    @property
    def elections(self) -> int:
        """Terms that had a leader."""
        return len(self._leaders)

    def forget(self, node: int) -> None:
        """The node crashed: its term, role and commit may go back to what is durable."""
        self._seen.pop(node, None)

    def check(self, node: int, raft: Raft, deciding: Configuration) -> None:
        """Check what the last event may have changed on a node.

        `deciding` is the configuration that was in force when it was asked for its work.
        """
        term, role, commit = self._seen.get(node, (0, Role.FOLLOWER, 0))
        require(raft.term >= term, f"term of {node} fell from {term} to {raft.term}")
        if raft.role is Role.LEADER and (role is not Role.LEADER or raft.term != term):
            self._check_leader(node, raft)
        if raft.log.commit != commit:
            require(raft.log.commit > commit, f"commit of {node} fell to {raft.log.commit}")
            self._check_commit(node, raft, commit, deciding)
        self._seen[node] = (raft.term, raft.role, raft.log.commit)

    def _check_leader(self, node: int, raft: Raft) -> None:
        """Election safety (5.2), leader completeness (5.4.3)."""
        other = self._leaders.setdefault(raft.term, node)
        require(other == node, f"{other} and {node} both lead term {raft.term}")
        for position in range(len(self.committed), 0, -1):
            if self._committed_in[position - 1] < raft.term:
                self._check_complete(node, raft, self.committed[position - 1])
                break

    def _check_complete(self, node: int, raft: Raft, entry: Entry) -> None:
        found = raft.log.term_at(entry.index)
        holds = entry.index <= raft.log.base_index or found == entry.term
        require(
            holds,
            f"leader {node} of term {raft.term} lacks committed entry {entry.index} of term "
            f"{entry.term}; it has term {found} there",
        )

    def _check_commit(self, node: int, raft: Raft, before: int, deciding: Configuration) -> None:
        """State machine safety (5.4.3): what is committed never differs, on any node."""
        log = raft.log
        first = max(before, log.base_index) + 1
        fresh = False
        for entry in log.slice(first, log.commit):
            if entry.index <= len(self.committed):
                known = self.committed[entry.index - 1]
                require(
                    known == entry,
                    f"{node} committed {entry[:3]} in term {raft.term}, but {known[:3]} is "
                    f"committed there since term {self._committed_in[entry.index - 1]}",
                )
            else:
                require(entry.index == len(self.committed) + 1, f"{node} committed past a gap")
                self.committed.append(entry)
                self._committed_in.append(raft.term)
                self.machines.append(after(self.machines[-1], entry))
                fresh = True
        if fresh:
            self._check_held(node, raft, deciding)

    def _check_held(self, node: int, raft: Raft, deciding: Configuration) -> None:
        """What is newly committed is durable on a quorum, and in every later leader's log."""
        entry = self.committed[-1]
        for voters in filter(None, (deciding.voters, deciding.outgoing)):
            holders = [n for n in voters if self._hosts[n].disk.holds(entry.index, entry.term)]
            require(
                2 * len(holders) > len(voters),
                f"{node} committed {entry[:3]} in term {raft.term}; of {voters} only {holders} "
                "have it on disk",
            )
        for other, host in self._hosts.items():
            leads = host.raft is not None and host.raft.role is Role.LEADER
            if leads and host.raft is not None and host.raft.term > raft.term:
                self._check_complete(other, host.raft, entry)

    def check_entries(self, node: int, raft: Raft, entries: list[Entry]) -> None:
        """Log matching (5.3): same index and term, same entry and same predecessor."""
        previous = raft.log.term_at(entries[0].index - 1)
        for entry in entries:
            made = (entry.kind, bytes(entry.data), previous)
            known = self._made.setdefault((entry.index, entry.term), made)
            require(
                known == made or previous < 0,
                f"{node} has {made} at {entry[:2]}, another node {known}",
            )
            previous = entry.term
        if raft.role is Role.LEADER and any(entry.kind == CONFIG for entry in entries):
            open_changes = [
                entry.index
                for entry in raft.log.slice(raft.log.commit + 1, raft.log.last_index)
                if entry.kind == CONFIG
            ]
            require(len(open_changes) <= 1, f"{node} changes members at {open_changes} at once")

    def check_applied(self, node: int, index: int, machine: int) -> None:
        """All machines go through the same states, and never past what their disk can repeat."""
        require(self.machines[index] == machine, f"machine of {node} differs at {index}")
        disk = self._hosts[node].disk
        pending = any(write.snapshot and write.snapshot.index >= index for write in disk.pending)
        require(
            pending or index <= disk.last_index,
            f"{node} applied {index}, its disk ends at {disk.last_index}",
        )

    def check_departure(self, message: Message) -> None:
        """No promise leaves before what it promises is durable."""
        disk = self._hosts[message.sender].disk
        term = disk.hard_state.term
        match message:
            case VoteRequest(pre=False):
                voted = term > message.term or disk.hard_state.vote == message.sender
                require(
                    term >= message.term and voted,
                    f"{message} left, on disk is only {disk.hard_state}",
                )
            case VoteResponse(pre=False, granted=True):
                voted = term > message.term or disk.hard_state.vote == message.to
                require(
                    term >= message.term and voted,
                    f"{message} left, on disk is only {disk.hard_state}",
                )
                cast = self._votes.setdefault((message.sender, message.term), message.to)
                require(
                    cast == message.to,
                    f"{message.sender} voted for {cast} and {message.to} in {message.term}",
                )
            case AppendResponse(rejected=False):
                durable = term > message.term or disk.last_index >= message.index
                require(durable, f"{message} left, the disk ends at {disk.last_index}")

    def check_read(self, index: int, floor: int) -> None:
        """Linearizable reads: all that was committed before the question is in the answer."""
        require(index >= floor, f"read at {index}, though {floor} was committed before")

    def check_settled(self, configuration: Configuration, index: int) -> bool:
        """Have all members applied everything?"""
        return all(
            (raft := self._hosts[node].raft) is not None and raft.log.handed == index
            for node in configuration.members
        )
