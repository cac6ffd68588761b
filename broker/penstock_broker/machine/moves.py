"""The best next moves of replicas: repair, drains, spreading over hosts, and balance.

The plan is a pure function of who is there and of what lies where, made anew after every change, so
it is never carried out blindly. Moves that somebody needs come first, those with the fewest live
copies before all; balance is made only while nothing else is to do, a move or two at a time, and
not at all if a person has stopped it.

Invariants: a move never leaves fewer live replicas than before, unless there are more than wanted;
replicas come onto one host only when no other node can take them; whoever carries out the moves
comes to an end, since each one lowers (replicas on nodes that they have to leave, missing or
superfluous replicas, replicas that share a host, unevenness of replicas, unevenness of preferred
leads), compared in this order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

UNDER_WAY_MAX: Final = 128
"""Partitions on their way at a time; who copies limits the bytes."""
BALANCING_MAX: Final = 2
"""Of these, such as only make things more even."""
REORDERED_MAX: Final = 16
"""Preferred leads changed in one step: nothing is copied for these."""

PAIRS_MAX: Final = 32
"""Pairs of nodes between which a move is looked for."""


class Standing(Enum):
    """What may be done with a node's replicas."""

    TAKES = "takes"
    """It is there and takes new ones."""
    KEEPS = "keeps"
    """It is away for a moment: it keeps what it has, and takes no new ones."""
    LEAVES = "leaves"
    """It is draining: what it has goes elsewhere, and counts until then."""
    LOST = "lost"
    """It is dead, removed or replaced: what it had is to be made anew."""


class Spot(NamedTuple):
    """A node that may hold replicas."""

    host: str
    standing: Standing


class Place(NamedTuple):
    """A partition, and where it is."""

    group: int
    topic: str
    replicas: tuple[int, ...]
    """Wanted ones, preferred leader first."""
    members: tuple[int, ...]
    """Those that it was settled on."""
    moving: bool
    wanted: int
    """How many replicas there should be."""
    revision: int = 0
    """Higher: changed later."""


class Move(NamedTuple):
    """Other replicas for a partition."""

    group: int
    replicas: list[int]
    expected: list[int]
    """What they were."""
    reason: str
    """`repair`, `drain`, `replication`, `spread`, `balance` or `leads`."""


class Plan:
    """Counts what each node has; moves are counted as if they were done."""

    def __init__(
        self, spots: Mapping[int, Spot], places: Sequence[Place], *, balancing: bool = True
    ) -> None:
        self._spots = spots
        self._balancing_allowed = balancing
        self._hosts = {node: spot.host or f"node {node}" for node, spot in spots.items()}
        self._places = places
        self._held = dict.fromkeys(spots, 0)
        self._led = dict.fromkeys(spots, 0)
        for place in places:
            self._count(place.replicas, 1)
        self._takers = [n for n, spot in spots.items() if spot.standing is Standing.TAKES]
        kept = (Standing.TAKES, Standing.KEEPS)
        self._stay = {node for node, spot in spots.items() if spot.standing in kept}

    def next_moves(self) -> list[Move]:
        """What to do now; empty: nothing, or enough is under way."""
        under_way = sum(place.moving and self._can_move(place) for place in self._places)
        needy = [place for place in self._places if self._is_off(place) and self._can_move(place)]
        needy.sort(key=lambda place: (self._live_copies(place), not self._has_lost(place)))
        moves: list[Move] = []
        for place in needy:
            if not place.moving and under_way >= UNDER_WAY_MAX:
                continue
            move = self._needed(place)
            if move is not None:
                under_way += not place.moving
                self._take(place, move)
                moves.append(move)
        if moves or not self._balancing_allowed:
            return moves
        while under_way < BALANCING_MAX:
            move = self._balancing({move.group for move in moves})
            if move is None:
                break
            under_way += 1
            moves.append(move)
        return moves or self._leads()

    # ----- what is needed

    def _standing(self, node: int) -> Standing:
        spot = self._spots.get(node)
        return Standing.LOST if spot is None else spot.standing

    def _live_copies(self, place: Place) -> int:
        return sum(self._standing(node) is not Standing.LOST for node in place.members)

    def _can_move(self, place: Place) -> bool:
        """Whether enough members are there to decide anything."""
        return self._live_copies(place) * 2 > len(place.members)

    def _has_lost(self, place: Place) -> bool:
        return any(self._standing(node) is Standing.LOST for node in place.replicas)

    def _is_off(self, place: Place) -> bool:
        """Whether a look at the partition may find something to do."""
        replicas = place.replicas
        if not self._stay.issuperset(replicas):
            return True
        if place.moving:
            return False
        return len(replicas) != place.wanted or self._shared(replicas) > 0

    def _needed(self, place: Place) -> Move | None:
        """Replicas as they should be, if that is not so."""
        stay = [node for node in place.replicas if node in self._stay]
        leaving = [node for node in place.replicas if node not in self._stay]
        leaving.sort(key=lambda node: self._standing(node) is not Standing.LOST)
        lost = any(self._standing(node) is Standing.LOST for node in leaving)
        reason = "repair" if lost else "drain" if leaving else ""
        room = len(place.replicas) if place.moving else max(place.wanted, 1)
        replicas = self._substituted(stay, leaving, room)
        if not place.moving and len(replicas) != place.wanted:
            self._resize(replicas, place.wanted)
            reason = reason or "replication"
        if not place.moving and self._spread(replicas):
            reason = reason or "spread"
        if set(replicas) == set(place.replicas):
            return None
        return Move(place.group, replicas, list(place.replicas), reason)

    def _substituted(self, stay: list[int], leaving: list[int], room: int) -> list[int]:
        """Others for those that leave, the lost ones first; whom nobody replaces is kept."""
        replicas = list(stay)
        while leaving and len(replicas) < room:
            found = self._best(replicas)
            if found is None:
                break
            replicas.append(found)
            leaving = leaving[1:]
        return replicas + leaving[::-1][: max(0, room - len(replicas))]

    def _resize(self, replicas: list[int], wanted: int) -> None:
        while len(replicas) < wanted:
            found = self._best(replicas)
            if found is None:
                return
            replicas.append(found)
        while len(replicas) > max(wanted, 1):
            crowds, first = self._crowds(replicas), replicas[0]
            worst = max(
                replicas,
                key=lambda node: (self._standing(node) is Standing.LOST, node not in self._stay,
                                  crowds[self._host(node)], node != first,
                                  self._held.get(node, 0), node),
            )  # fmt: skip
            replicas.remove(worst)

    def _spread(self, replicas: list[int]) -> bool:
        """Put one replica that shares its host with another onto a host of its own."""
        crowds = self._crowds(replicas)
        if len(crowds) == len(replicas):
            return False
        free = [node for node in self._takers if self._host(node) not in crowds]
        if not free:
            return False
        shared = [node for node in replicas if crowds[self._host(node)] > 1]
        worst = max(shared, key=lambda node: (self._held.get(node, 0), replicas.index(node)))
        replicas[replicas.index(worst)] = min(free, key=lambda node: (self._held[node], node))
        return True

    def _host(self, node: int) -> str:
        return self._hosts.get(node) or f"node {node}"

    def _shared(self, replicas: Sequence[int]) -> int:
        """How many replicas share their host with an earlier one."""
        return len(replicas) - len(set(map(self._hosts.get, replicas)))

    def _crowds(self, replicas: Iterable[int]) -> dict[str, int]:
        crowds: dict[str, int] = {}
        for node in replicas:
            host = self._host(node)
            crowds[host] = crowds.get(host, 0) + 1
        return crowds

    def _best(self, replicas: Sequence[int]) -> int | None:
        """The node that should take another replica: hosts first, then the least filled."""
        crowds = self._crowds(replicas)
        free = [node for node in self._takers if node not in replicas]
        return min(
            free,
            key=lambda node: (crowds.get(self._host(node), 0), self._held[node], node),
            default=None,
        )

    # ----- what is nicer

    def _balancing(self, taken: set[int]) -> Move | None:
        """Move one replica from a node that has many to one that has at least two fewer."""
        for source, target in islice(self._uneven(), PAIRS_MAX):
            place = self._movable(source, target, taken)
            if place is not None:
                replicas = [target if node == source else node for node in place.replicas]
                move = Move(place.group, replicas, list(place.replicas), "balance")
                self._take(place, move)
                return move
        return None

    def _uneven(self) -> Iterator[tuple[int, int]]:
        """Pairs of nodes, the most uneven ones first."""
        held = self._held
        order = sorted(self._takers, key=lambda node: (held[node], node))
        for source in reversed(order):
            for target in order:
                if held[source] - held[target] < 2:
                    break
                yield source, target

    def _movable(self, source: int, target: int, taken: set[int]) -> Place | None:
        """The partition whose move does most for its topic; changed long ago rather than lately."""
        found = [
            place
            for place in self._places
            if source in place.replicas
            and target not in place.replicas
            and not place.moving
            and place.group not in taken
            and self._can_move(place)
            and self._stays_spread(place, source, target)
        ]
        topics: dict[str, int] = {}
        for place in self._places:
            there = (source in place.replicas) - (target in place.replicas)
            topics[place.topic] = topics.get(place.topic, 0) + there
        leads = self._led[source] - self._led[target] > 1
        return min(
            found,
            key=lambda place: (-topics[place.topic], (place.replicas[0] == source) is not leads,
                               place.revision, place.group),
            default=None,
        )  # fmt: skip

    def _stays_spread(self, place: Place, source: int, target: int) -> bool:
        after = [target if node == source else node for node in place.replicas]
        return self._shared(after) <= self._shared(place.replicas)

    def _leads(self) -> list[Move]:
        """Let other replicas be the preferred leaders, where that is more even."""
        moves: list[Move] = []
        for place in self._places:
            if len(moves) == REORDERED_MAX:
                break
            first = place.replicas[0]
            if place.moving or self._standing(first) is not Standing.TAKES:
                continue
            others = [n for n in place.replicas[1:] if self._standing(n) is Standing.TAKES]
            best = min(others, key=lambda node: (self._led[node], node), default=None)
            if best is None or self._led[first] - self._led[best] < 2:
                continue
            rest = [node for node in place.replicas if node != best]
            move = Move(place.group, [best, *rest], list(place.replicas), "leads")
            self._take(place, move)
            moves.append(move)
        return moves

    # ----- counting

    def _take(self, place: Place, move: Move) -> None:
        self._count(place.replicas, -1)
        self._count(move.replicas, 1)

    def _count(self, replicas: Sequence[int], sign: int) -> None:
        for node in replicas:
            if node in self._held:
                self._held[node] += sign
        if replicas[0] in self._led:
            self._led[replicas[0]] += sign
