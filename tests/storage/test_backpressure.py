"""A disk that can't keep up: first publishers wait, and only after long they are refused."""

from __future__ import annotations

from penstock_broker.storage.store import BEHIND_TICKS_MAX
from tests.node.harness import Harness


def behind() -> Harness:
    """A node whose segment writes never come to an end."""
    node = Harness(tail_bytes_max=4096)
    (group,) = node.topic()
    client = node.client()
    for _ in range(20):
        client.publish_nowait(group, b"x" * 1000)
        node.pump(background=False)
        client.take()
    return node


def test_a_store_with_too_much_unwritten_is_behind_and_still_accepts() -> None:
    store = behind().node.store
    assert store.behind
    assert store.accepting


def test_a_store_that_stays_behind_refuses_like_a_full_one() -> None:
    store = behind().node.store
    for _ in range(BEHIND_TICKS_MAX + 1):
        store.tick()
    assert not store.accepting
    assert not store.behind


def test_a_store_that_has_caught_up_accepts_at_once() -> None:
    node = behind()
    for _ in range(BEHIND_TICKS_MAX + 1):
        node.node.store.tick()
    node.pump()
    node.node.store.tick()
    assert node.node.store.accepting
    assert not node.node.store.behind
