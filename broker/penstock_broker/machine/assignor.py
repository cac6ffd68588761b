"""Which member of an ordered group should own which partition: sticky, balanced, deterministic.

Members keep what they hold; free partitions go to the least loaded member that wants their topic;
then the most loaded member gives to the least loaded one that can take, one partition at a time,
while that makes the load more even. So nothing moves without making the load more even, members
with the same topics differ by at most one partition, and the result is its own fixed point.

Members with the same topics form a class: choosing among thousands of members costs one heap per
class. No step looks at anything but names, numbers and the given order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

Key = tuple[str, int]
"""Topic and partition."""


def assign(
    members: Mapping[str, Sequence[str]],
    topics: Mapping[str, int],
    held: Mapping[Key, str],
) -> dict[Key, str]:
    """Give every partition of a wanted topic to one member that wants the topic.

    Args:
        members: member -> topics that it wants.
        topics: topic -> number of partitions.
        held: partition -> member that has it, or was to get it; may name what is gone.
    """
    work = _Assignment(members, topics)
    free: list[Key] = []
    for key in work.partitions():
        member = held.get(key)
        if member is not None and key[0] in work.wanted.get(member, ()):
            work.give(key, member)
        else:
            free.append(key)
    for key in sorted(free, key=lambda key: (work.takers(key[0]), key)):
        work.give(key, work.least_loaded(key[0]))
    work.level()
    return dict(sorted(work.owner.items()))


class _Class:
    """Members that want the same topics, the least loaded first."""

    def __init__(self, members: list[str]) -> None:
        self.size = len(members)
        self.heap = [(0, member) for member in members]


class _Assignment:
    def __init__(self, members: Mapping[str, Sequence[str]], topics: Mapping[str, int]) -> None:
        self.wanted = {
            member: tuple(sorted(dict.fromkeys(t for t in wants if topics.get(t))))
            for member, wants in sorted(members.items())
        }
        self.load = dict.fromkeys(self.wanted, 0)
        self.owner: dict[Key, str] = {}
        self._holds: dict[str, dict[str, list[int]]] = {member: {} for member in self.wanted}
        alike: dict[tuple[str, ...], list[str]] = {}
        for member, wants in self.wanted.items():
            alike.setdefault(wants, []).append(member)
        classes = {wants: _Class(found) for wants, found in alike.items()}
        self._class = {member: classes[wants] for member, wants in self.wanted.items()}
        self._classes: dict[str, list[_Class]] = {}
        for wants, class_ in classes.items():
            for topic in wants:
                self._classes.setdefault(topic, []).append(class_)
        self._topics = {topic: topics[topic] for topic in sorted(self._classes)}

    def partitions(self) -> list[Key]:
        """Every partition that somebody wants."""
        return [(topic, number) for topic, size in self._topics.items() for number in range(size)]

    def takers(self, topic: str) -> int:
        """How many members want a topic."""
        return sum(class_.size for class_ in self._classes[topic])

    def least_loaded(self, topic: str) -> str:
        """The member with the fewest partitions among those that want the topic."""
        best: tuple[int, str] | None = None
        for class_ in self._classes[topic]:
            heap = class_.heap
            while heap[0][0] != self.load[heap[0][1]]:
                heappop(heap)  # its load has changed; the entry of its present load is in too
            if best is None or heap[0] < best:
                best = heap[0]
        assert best is not None
        return best[1]

    def give(self, key: Key, member: str) -> None:
        """Give a free partition to a member."""
        self.owner[key] = member
        self._holds[member].setdefault(key[0], []).append(key[1])
        self._loaded(member, +1)

    def level(self) -> None:
        """Move partitions from the most to the least loaded while it makes the load more even."""
        moved = True
        while moved:
            moved = False
            heap = [(-load, member) for member, load in self.load.items()]
            heapify(heap)
            while heap:
                load, member = heappop(heap)
                if self._give_away(member):
                    moved = True
                    heappush(heap, (load + 1, member))

    def _give_away(self, giver: str) -> bool:
        """Move one partition of a member to the least loaded one that can take it."""
        load = self.load[giver]
        best: tuple[int, int, str, str] | None = None
        for topic, numbers in self._holds[giver].items():
            if numbers:
                taker = self.least_loaded(topic)
                choice = (self.load[taker], -len(numbers), topic, taker)
                best = choice if best is None else min(best, choice)
        if best is None or best[0] + 2 > load:
            return False
        _, _, topic, taker = best
        number = self._holds[giver][topic].pop()
        self._loaded(giver, -1)
        self.give((topic, number), taker)
        return True

    def _loaded(self, member: str, change: int) -> None:
        load = self.load[member] = self.load[member] + change
        heappush(self._class[member].heap, (load, member))
