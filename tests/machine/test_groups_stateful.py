"""Random histories of an ordered group, against clients that believe what they were told.

A client consumes what it was given until it is told to stop. An instance that joined again, left or
expired without knowing it lives on as a zombie and goes on committing. Replies get lost.
"""

from __future__ import annotations

from itertools import combinations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock_broker.machine.commands import (
    Commit,
    Expire,
    Join,
    Leave,
    Refused,
    Release,
    Seek,
    TopicChanged,
    TopicRef,
)
from penstock_broker.machine.group_views import MemberView
from penstock_broker.machine.groups import GroupsMachine
from tests.machine.replicas import Replicas

Key = tuple[str, int]

GROUP = "billing"
TOPICS = ["s", "t", "u"]
PARTITIONS_MAX = 5

members = st.sampled_from(["a", "b", "c"])
topics = st.sampled_from(TOPICS)
offsets = st.integers(0, 100)


EVERY = [(topic, number) for topic in TOPICS for number in range(PARTITIONS_MAX)]


class Client:
    """One instance of a member, and all that it knows."""

    def __init__(self, member: str, wants: list[str], view: MemberView) -> None:
        self.member = member
        self.wants = wants
        self.joined = view.generation
        self.sent: list[Release] = []
        self.allowed: set[Key] = set()
        """What it may commit: what it was given and neither released nor lost by a seek."""
        self.learn(view)

    def learn(self, view: MemberView) -> None:
        self.generation = view.generation
        self.consuming = set(keys_of(view.owned))
        self.must_release = set(keys_of(view.revoked))
        self.allowed = self.consuming | self.must_release

    def stop_revoked(self) -> dict[str, list[int]]:
        released: dict[str, list[int]] = {}
        for topic, number in sorted(self.must_release):
            released.setdefault(topic, []).append(number)
        self.allowed -= self.must_release
        return released

    def forget(self, keys: set[Key]) -> None:
        self.consuming -= keys
        self.must_release -= keys
        self.allowed -= keys

    def commit_of(self, keys: set[Key], offset: int) -> Commit:
        found: dict[str, dict[int, int]] = {}
        for topic, number in sorted(keys):
            found.setdefault(topic, {})[number] = offset
        return Commit(group=GROUP, member=self.member, generation=self.generation, offsets=found)


def keys_of(partitions: dict[str, list[int]]) -> list[Key]:
    return [(topic, number) for topic, numbers in partitions.items() for number in numbers]


class GroupHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.replicas = Replicas(GroupsMachine)
        self.live: dict[str, Client] = {}
        self.zombies: list[Client] = []
        self.positions: dict[Key, int] = {}
        self.revision = 1
        self.generation = 0
        self.refs = {
            topic: TopicRef(name=topic, id=f"{topic}-0", partitions=size, revision=1)
            for topic, size in zip(TOPICS, (1, 3, 4), strict=True)
        }

    @initialize()
    def begin_with_two(self) -> None:
        self.join("a", ["t", "u"])
        self.join("b", ["t", "u"])

    def draw(self, data: st.DataObject) -> Client:
        return self.live[data.draw(st.sampled_from(sorted(self.live)))]

    # ----- membership

    @rule(member=members, wants=st.lists(topics, min_size=1, max_size=3, unique=True))
    def join(self, member: str, wants: list[str]) -> None:
        self.bury(member)
        refs = [self.refs[topic] for topic in wants]
        command = Join(
            group=GROUP, member=member, topics=wants, session_timeout_ms=1_000, refs=refs
        )
        view = self.replicas.apply(command)
        self.check_told(view, set())
        self.live[member] = Client(member, wants, view)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), polite=st.booleans())
    def leave(self, data: st.DataObject, polite: bool) -> None:
        client = self.draw(data)
        member = client.member
        if polite:
            self.replicas.apply(Leave(group=GROUP, member=member, generation=client.generation))
        else:
            self.replicas.apply(Expire(group=GROUP, member=member, joined=client.joined))
        self.bury(member)

    def bury(self, member: str) -> None:
        client = self.live.pop(member, None)
        if client is not None:
            self.zombies.append(client)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        self.beat(self.draw(data))

    def beat(self, client: Client) -> None:
        view = self.replicas.machine.heartbeat(GROUP, client.member, client.generation)
        assert isinstance(view, MemberView)
        self.check_told(view, client.allowed)
        client.learn(view)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), lost=st.booleans())
    def release(self, data: st.DataObject, lost: bool) -> None:
        self.confirm(self.draw(data), lost)

    def confirm(self, client: Client, lost: bool) -> None:
        view = self.send_release(client)
        assert isinstance(view, MemberView)
        if not lost:
            # What it released may be given to it again at once: then it is new to it.
            self.check_told(view, client.allowed)
            client.learn(view)

    def send_release(self, client: Client) -> object:
        command = Release(
            group=GROUP,
            member=client.member,
            generation=client.generation,
            partitions=client.stop_revoked(),
        )
        client.sent.append(command)
        return self.replicas.apply(command)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release_arrives_again(self, data: st.DataObject) -> None:
        client = self.draw(data)
        if client.sent:
            self.replicas.apply(data.draw(st.sampled_from(client.sent)))

    def check_told(self, view: MemberView, known: set[Key]) -> None:
        """A member learns the positions of what is new to it: knowing others it would go back."""
        told = {(t, p): offset for t, its in view.offsets.items() for p, offset in its.items()}
        new = [key for key in keys_of(view.owned) if key not in known]
        assert told == {key: self.positions[key] for key in new if key in self.positions}

    # ----- offsets

    @precondition(lambda self: self.live)
    @rule(data=st.data(), offset=offsets)
    def commit(self, data: st.DataObject, offset: int) -> None:
        client = self.draw(data)
        keys = data.draw(st.sets(st.sampled_from(sorted(client.allowed or EVERY)), min_size=1))
        keys |= data.draw(st.just(set()) | st.sets(st.sampled_from(EVERY), max_size=1))
        reply = self.replicas.apply(client.commit_of(keys, offset))
        assert isinstance(reply, Refused) == (not keys <= client.allowed), reply
        if keys <= client.allowed:
            self.positions |= dict.fromkeys(keys, offset)

    @precondition(lambda self: self.zombies)
    @rule(data=st.data(), offset=offsets)
    def zombie_acts(self, data: st.DataObject, offset: int) -> None:
        client = data.draw(st.sampled_from(self.zombies))
        before = self.replicas.machine.snapshot()
        keys = client.consuming | client.must_release | {("t", 0)}
        assert isinstance(self.replicas.apply(client.commit_of(keys, offset)), Refused)
        assert isinstance(self.send_release(client), Refused)
        assert self.replicas.machine.snapshot() == before

    @rule(topic=topics, number=st.integers(0, PARTITIONS_MAX), offset=offsets)
    def seek(self, topic: str, number: int, offset: int) -> None:
        ref, key = self.refs[topic], (topic, number)
        reply = self.replicas.apply(Seek(group=GROUP, topic=ref, positions={number: offset}))
        if number >= ref.partitions:
            assert isinstance(reply, Refused)
            return
        assert reply.plan == {number: [self.positions.get(key, -1), offset]}
        self.positions[key] = offset
        for client in self.live.values():
            client.allowed.discard(key)

    # ----- topics

    @rule(topic=topics)
    def grow(self, topic: str) -> None:
        ref = self.refs[topic]
        if 0 < ref.partitions < PARTITIONS_MAX:
            self.change(topic, ref.id, ref.partitions + 1)

    @rule(topic=topics, both=st.booleans())
    def delete_or_make_anew(self, topic: str, both: bool) -> None:
        """Of both at once the coordinator learns only the last."""
        old = self.refs[topic]
        if old.partitions:
            self.change(topic, f"{topic}-{self.revision}" if both else old.id, 2 * both)
            self.positions = {key: at for key, at in self.positions.items() if key[0] != topic}
            keys = {(topic, number) for number in range(PARTITIONS_MAX)}
            for client in self.live.values():
                client.forget(keys)
        else:
            self.change(topic, f"{topic}-{self.revision}", 2)

    def change(self, topic: str, id_: str, partitions: int) -> None:
        self.revision += 1
        ref = TopicRef(name=topic, id=id_, partitions=partitions, revision=self.revision)
        self.refs[topic] = ref
        self.replicas.apply(TopicChanged(topic=ref))

    # ----- what always holds

    @invariant()
    def nobody_consumes_what_another_may_commit(self) -> None:
        for one, other in combinations(self.live.values(), 2):
            assert not (one.consuming | one.allowed) & (other.consuming | other.allowed)

    @invariant()
    def offsets_move_by_owners_and_seeks_alone(self) -> None:
        described = self.replicas.machine.describe(GROUP)
        found = described.positions if described else {}
        flat = {(t, p): offset for t, its in found.items() for p, (offset, _) in its.items()}
        assert flat == self.positions

    @invariant()
    def generations_never_fall(self) -> None:
        described = self.replicas.machine.describe(GROUP)
        generation = described.generation if described else 0
        assert generation >= self.generation
        self.generation = generation

    @rule()
    def settle(self) -> None:
        """When nothing else happens, all is assigned, evenly, after two rounds of heartbeats."""
        for _ in range(3):
            for client in self.live.values():
                self.beat(client)
                self.confirm(client, lost=False)
        for client in self.live.values():
            self.beat(client)
        wanted = {topic for client in self.live.values() for topic in client.wants}
        every = [(t, p) for t in wanted for p in range(self.refs[t].partitions)]
        owned = [key for client in self.live.values() for key in client.consuming]
        assert sorted(owned) == sorted(every)
        assert not any(client.must_release for client in self.live.values())
        for one, other in combinations(self.live.values(), 2):
            if sorted(one.wants) == sorted(other.wants):
                assert abs(len(one.consuming) - len(other.consuming)) <= 1


TestGroupHistory = GroupHistory.TestCase
TestGroupHistory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
