"""The simulated network carries bytes in order, holds them back while a way is cut, and breaks."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from penstock_broker.simulation.cluster_network import End, Network


class Later:
    """A clock that runs when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, len(self._events), action))

    def run(self, seconds: float = 60.0) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end


class Side:
    """Who is at an end: notes what comes."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = 0

    def arrived(self, end: End) -> None:
        self.got += bytes(end.inbox)
        end.inbox.clear()

    def hung_up(self, end: End) -> None:
        self.ended += 1


class Scene:
    """A connection between places 1 and 2."""

    def __init__(self) -> None:
        self.clock, self.near, self.far = Later(), Side(), Side()
        self.network = Network(self.clock, Random(1))
        self.end = self.network.connect(1, self.near, 2, self.far)


def test_bytes_arrive_in_order_and_not_at_once() -> None:
    scene = Scene()
    for number in range(100):
        scene.network.send(scene.end, b"%d," % number)
    assert not scene.far.got
    scene.clock.run()
    assert scene.far.got == b"".join(b"%d," % number for number in range(100))


def test_a_cut_holds_one_way_back_until_it_is_over() -> None:
    scene = Scene()
    scene.network.send(scene.end, b"under way, ")
    scene.network.cut(1, 2)
    scene.network.send(scene.end, b"later, ")
    scene.network.send(scene.end.other, b"back")
    scene.clock.run()
    assert (scene.far.got, scene.near.got) == (b"", b"back")
    scene.network.restore([(1, 2)])
    scene.network.send(scene.end, b"last")
    scene.clock.run()
    assert scene.far.got == b"under way, later, last"


def test_a_close_is_heard_after_the_bytes_before_it() -> None:
    scene = Scene()
    scene.network.send(scene.end, b"bye")
    scene.network.close(scene.end)
    scene.network.close(scene.end)
    scene.clock.run()
    assert (scene.far.got, scene.far.ended, scene.near.ended) == (b"bye", 1, 0)


def test_a_broken_connection_loses_what_is_under_way() -> None:
    scene = Scene()
    scene.network.send(scene.end, b"gone")
    scene.network.break_one(scene.end)
    scene.clock.run()
    assert (scene.far.got, scene.far.ended, scene.near.ended) == (b"", 1, 1)
    assert not scene.network.ends_at(1)


def test_nothing_connects_over_a_cut() -> None:
    scene = Scene()
    scene.network.cut(1, 2)
    assert scene.network.is_cut(2, 1)
    scene.network.heal()
    assert not scene.network.is_cut(2, 1)
