"""Plays the commands of a recorded trace on a group, and writes down all that happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from penstock_broker.raft import (
    CONFIG,
    NOOP,
    Append,
    AppendResponse,
    Configuration,
    Entry,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    NotLeader,
    Options,
    Ready,
    Refused,
    VoteRequest,
    VoteResponse,
)
from tests.raft.group import RECORD, Group, entries_of, lone

INDENT = "  "


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def of_entry(entry: Entry) -> str:
    if entry.kind == NOOP:
        return f"{entry.index}/{entry.term} noop"
    if entry.kind == CONFIG:
        return f"{entry.index}/{entry.term} {of_configuration(Configuration.decode(entry.data))}"
    return f"{entry.index}/{entry.term} {bytes(entry.data).decode()}"


def of_entries(entries: Iterable[Entry]) -> str:
    return "[" + ", ".join(map(of_entry, entries)) + "]"


def of_configuration(configuration: Configuration) -> str:
    parts = [f"voters {list(configuration.voters)}"]
    for name in ("outgoing", "learners", "learners_next"):
        members = list(getattr(configuration, name))
        parts += [f"{name} {members}"] * bool(members)
    return "(" + " ".join(parts) + ")"


def of_message(message: Message) -> str:
    """One line, the interesting parts only."""
    words = [f"{message.sender}>{message.to} {type(message).__name__} term {message.term}"]
    match message:
        case Append():
            words.append(f"after {message.prev_index}/{message.prev_term}")
            words.append(of_entries(message.entries))
            words.append(f"commit {message.commit}")
        case AppendResponse(rejected=True):
            words.append(f"rejects {message.index}, try {message.hint_index}/{message.hint_term}")
        case AppendResponse():
            words.append(f"has {message.index}")
        case VoteRequest():
            words.append(f"log ends {message.last_index}/{message.last_term}")
            words += [name for name in ("pre", "transfer") if getattr(message, name)]
        case VoteResponse():
            words.append("granted" if message.granted else "refused")
            words += ["pre"] * message.pre
        case Heartbeat():
            words.append(f"commit {message.commit} round {message.round}")
        case HeartbeatResponse():
            words.append(f"round {message.round}")
        case InstallSnapshot():
            snapshot = message.snapshot
            words.append(f"state at {snapshot.index}/{snapshot.term}")
            words.append(of_configuration(snapshot.configuration))
    return " ".join(words)


class Scribe(Group):
    """A group that writes down what its nodes want done."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lines: list[str] = []

    def flush(self, node: int, rounds: int | None = None) -> None:
        if node in self.stalled and self.held[node]:
            self.lines.append(f"disk of {node} answers")
        super().flush(node, rounds)

    def take(self, node: int, ready: Ready) -> None:
        self._write_down(node, ready)
        super().take(node, ready)

    def _write_down(self, node: int, ready: Ready) -> None:
        say = self.lines.append
        if ready.soft_state:
            leader = ready.soft_state.leader or "nobody"
            say(f"{node} {ready.soft_state.role.name.lower()}, leader {leader}")
        if ready.hard_state:
            term, vote, commit = ready.hard_state
            say(f"{node} keeps term {term} vote {vote} commit {commit}")
        if ready.snapshot:
            say(f"{node} installs {ready.snapshot.data} at {ready.snapshot.index}")
        if ready.entries:
            say(f"{node} persists {of_entries(ready.entries)}")
        if ready.committed:
            say(f"{node} applies {of_entries(ready.committed)}")
        for read in ready.read_states:
            say(f"{node} may read {read.context} at {read.index}")
        for member in ready.snapshot_requests:
            say(f"{node} needs a snapshot for {member}")
        for message in ready.messages:
            say(INDENT + of_message(message))
        for message in ready.messages_after_persist:
            say(INDENT + of_message(message) + " (after persist)")


class Play:
    """The commands."""

    def __init__(self) -> None:
        self.group = Scribe()
        self.commands: dict[str, Callable[..., None]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if "do_" in name
        }

    def handle(self, text: str) -> str:
        """Run one block: a command per line, `name words...`; return what happened."""
        self.group.lines = []
        for line in text.splitlines():
            name, *words = line.split()
            try:
                self.commands[name](*words)
            except (NotLeader, Refused) as error:
                self.group.lines.append(f"{type(error).__name__}: {error}")
        return "\n".join(self.group.lines) or "ok"

    def do_group(self, voters: str, *words: str) -> None:
        """`group 1,2,3 learners=4 strangers=5 pre_vote=0 ...`"""
        values = dict(word.split("=") for word in words)
        members = {name: numbers(values.pop(name, "")) for name in ("learners", "strangers")}
        chosen: dict[str, Any] = {name: int(value) for name, value in values.items()}
        options = replace(Options(), **chosen)
        self.group = Scribe(numbers(voters), options=options, **members)

    def do_node(self, node: str, term: str, log: str = "", vote: str = "0") -> None:
        """`node 1 5 1,1,3`: restart a node at a term, with a log of these terms."""
        group, options = self.group, self.group.options
        entries = entries_of(*numbers(log))
        first = group.first
        group.nodes[int(node)] = lone(
            int(node), voters=first.voters, learners=first.learners, term=int(term),
            vote=int(vote), entries=entries, options=options,
        )  # fmt: skip
        group.disks[int(node)] = (group.disks[int(node)][0]._replace(term=int(term)), entries)

    def do_campaign(self, node: str) -> None:
        self.group[int(node)].campaign()
        self.group.work(int(node))

    def do_propose(self, node: str, *data: str) -> None:
        self.group[int(node)].propose([(RECORD, item.encode()) for item in data])
        self.group.work(int(node))

    def do_members(self, node: str, voters: str, learners: str = "") -> None:
        self.group[int(node)].propose_configuration(numbers(voters), numbers(learners))
        self.group.work(int(node))

    def do_transfer(self, node: str, to: str) -> None:
        self.group[int(node)].transfer(int(to))
        self.group.work(int(node))

    def do_read(self, node: str, context: str) -> None:
        self.group[int(node)].read_index(context)
        self.group.work(int(node))

    def do_tick(self, nodes: str, count: str = "1") -> None:
        for _ in range(int(count)):
            for node in numbers(nodes):
                self.group[node].tick()
                self.group.work(node)

    def do_step(self, count: str = "1") -> None:
        for _ in range(int(count)):
            self.group.step()

    def do_settle(self) -> None:
        self.group.settle()

    def do_quietly(self, *words: str) -> None:
        """Run a command and settle, without writing anything down."""
        lines = list(self.group.lines)
        self.commands[words[0]](*words[1:])
        self.group.settle()
        self.group.lines = lines

    def do_drop(self) -> None:
        self.group.lines += [f"lost {of_message(message)}" for message in self.group.wire]
        self.group.wire.clear()

    def do_isolate(self, nodes: str) -> None:
        self.group.isolate(*numbers(nodes))

    def do_cut(self, *links: str) -> None:
        """`cut 1>2`: one way."""
        pairs = [link.split(">") for link in links]
        self.group.cut(*[(int(one), int(other)) for one, other in pairs])

    def do_heal(self) -> None:
        self.group.heal()

    def do_stall(self, node: str) -> None:
        self.group.stalled.add(int(node))

    def do_flush(self, node: str) -> None:
        self.group.flush(int(node))
        self.group.work(int(node))

    def do_restart(self, node: str) -> None:
        """Crash: what the disk has not answered for is lost."""
        self.group.restart(int(node))
        self.group.work(int(node))

    def do_compact(self, node: str, index: str) -> None:
        self.group[int(node)].compact(int(index))

    def do_snapshot(self, node: str, to: str) -> None:
        raft = self.group[int(node)]
        raft.send_snapshot(int(to), raft.log.handed, f"state-{raft.log.handed}")
        self.group.work(int(node))

    def do_status(self) -> None:
        for node, raft in self.group.nodes.items():
            at = raft.status()
            self.group.lines.append(
                f"{node}: {at.role.name.lower()} term {at.term} leader {at.leader} commit "
                f"{at.commit_index} last {at.last_index} {of_configuration(at.configuration)}"
            )
            for member in at.members:
                self.group.lines.append(
                    f"{INDENT}{member.id}: {member.flow.value} match {member.match} "
                    f"next {member.next}" + ("" if member.active else " silent")
                )

    def do_log(self, *nodes: str) -> None:
        for node in nodes:
            log = self.group[int(node)].log
            entries = of_entries(log.slice(log.base_index + 1, log.last_index))
            self.group.lines.append(f"{node}: base {log.base_index}/{log.base_term} {entries}")
