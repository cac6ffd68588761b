"""How nodes come to belong to a cluster: once, and to one only."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import ClusterUnformed, PenstockError, PreconditionFailed
from penstock.protocol.cluster import ClusterStatus, InitCluster
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import BrokerStatus, CreateTopic, Metadata
from penstock_broker.node.membership import AWAITED_SECONDS
from penstock_broker.storage import Identity
from tests.node.joining import Joiner, World


def init(joiner: Joiner, *, force: bool = False) -> Any:
    """Ask a node to form a cluster; its reply, once there is one."""
    client = joiner.client()
    client.send(encode_message(InitCluster(force=force), 7))
    joiner.world.pump()
    for _ in range(200):
        answer = client.take()
        if answer:
            return client.decode(*answer[0])
        joiner.world.advance(0.05)
    raise AssertionError("no answer")


def identity(joiner: Joiner) -> Identity:
    assert joiner.node.store.identity is not None
    return joiner.node.store.identity


def test_a_node_that_is_told_to_join_waits_and_says_so() -> None:
    world = World("a", "b")
    world.advance(1.0)
    client = world.nodes["a"].client()
    for request in (Metadata(), CreateTopic(name="orders")):
        with pytest.raises(ClusterUnformed):
            client.ask(request)
    client.publish_nowait(5, b"x")
    world.pump()
    with pytest.raises(ClusterUnformed):
        client.publish_reply()
    assert client.ask(BrokerStatus()).node == 0
    assert world.nodes["a"].node.store.recovered == {}


def test_one_word_to_one_node_makes_a_cluster_of_all() -> None:
    world = World("a", "b", "c")
    world.advance(1.0)
    reply = init(world.nodes["b"])
    assert (reply.cluster, reply.node) == ("cluster-of-b", 1)
    world.advance(1.0)
    ids = {name: identity(joiner) for name, joiner in world.nodes.items()}
    assert {one.cluster for one in ids.values()} == {"cluster-of-b"}
    assert sorted(one.node for one in ids.values()) == [1, 2, 3]
    known = world.nodes["b"].node.groups.metadata.machine.nodes
    assert {node.address: node.host for node in known.values()} == {
        "a": "host-a", "b": "host-b", "c": "host-c",
    }  # fmt: skip


def test_a_list_that_names_the_node_itself_is_no_obstacle() -> None:
    world = World("a")
    world.advance(0.5)
    assert init(world.nodes["a"]).node == 1


def test_the_order_may_come_before_the_others_were_heard() -> None:
    world = World("a", "b")
    assert init(world.nodes["a"]).node == 1


def test_a_cluster_is_not_formed_while_a_node_to_join_may_have_one() -> None:
    world = World("a", "b", join=["a", "b", "c"])
    world.advance(1.0)
    with pytest.raises(PreconditionFailed, match="no answer from c"):
        init(world.nodes["a"])
    assert init(world.nodes["a"], force=True).node == 1


def test_a_node_is_not_made_a_cluster_beside_the_one_that_it_shall_join() -> None:
    world = World("a", "b")
    world.advance(1.0)
    init(world.nodes["a"])
    world.advance(1.0)
    for name in ("a", "b"):
        with pytest.raises(PreconditionFailed, match="already"):
            init(world.nodes[name], force=True)


def test_a_node_that_comes_later_is_taken_in() -> None:
    world = World("a", join=["a", "b"])
    world.advance(1.0)
    init(world.nodes["a"], force=True)
    late = world.start("b")
    world.advance(1.0)
    assert identity(late) == Identity("cluster-of-a", 2)


def test_a_node_keeps_its_id_over_restarts_and_a_wiped_one_gets_another() -> None:
    world = World("a", "b")
    world.advance(1.0)
    init(world.nodes["a"])
    world.advance(1.0)
    kept = world.nodes["b"]
    world.kill("b")
    world.nodes["b"] = kept
    kept.open()
    world.advance(0.5)
    assert identity(kept) == Identity("cluster-of-a", 2)
    world.kill("b")
    wiped = world.nodes["b"] = Joiner(world, "b", world.join)
    wiped.node.store.node_uuid = b"another disk...."
    world.advance(1.0)
    assert identity(wiped) == Identity("cluster-of-a", 3)


def test_a_founder_that_dies_before_it_is_one_founds_the_cluster_at_its_next_start() -> None:
    world = World("a", "b")
    world.advance(1.0)
    founder = world.nodes["a"]
    founder.client().send(encode_message(InitCluster(), 7))
    founder.jobs_left = 1  # the first bytes of group 0 reach the disk, no more
    world.advance(1.0)
    assert founder.node.membership.started
    assert not founder.node.groups.cluster_id
    founder.jobs_left = 1_000_000
    world.kill("a")
    world.nodes["a"] = founder
    founder.open()
    world.advance(1.0)
    assert identity(founder).node == 1
    assert identity(world.nodes["b"]).node == 2


def test_a_lone_node_is_its_own_cluster_at_once() -> None:
    world = World("a", join=[])
    world.pump()
    node = world.nodes["a"].node
    assert node.ready
    assert node.node_id == 1
    world.advance(0.1)
    assert identity(world.nodes["a"]) == Identity("cluster-of-a", 1)


def test_a_lone_node_can_be_told_later_to_join_what_it_founded() -> None:
    world = World("a", join=[])
    world.advance(0.5)
    first = world.nodes["a"]
    world.kill("a")
    world.nodes["a"] = first
    first.join = world.join = ["a", "b"]
    first.open()
    world.advance(0.5)
    world.start("b")
    world.advance(1.0)
    assert identity(world.nodes["b"]) == Identity("cluster-of-a", 2)


def two_clusters() -> World:
    world = World("a", join=[])
    world.join = []
    world.start("b")
    world.advance(0.5)
    return world


def test_a_node_joins_neither_of_two_clusters() -> None:
    world = two_clusters()
    world.join = ["a", "b", "c", "away"]
    confused = world.start("c")
    world.advance(3.0)
    assert confused.node.store.identity is None
    for name in ("a", "b"):
        assert len(world.nodes[name].node.groups.metadata.machine.nodes) == 1
    with pytest.raises(ClusterUnformed, match=r"different clusters: a to .*, b to ") as caught:
        confused.client().ask(Metadata())
    assert "cluster init" not in caught.value.message


def test_a_founder_knows_who_was_to_join_and_has_not() -> None:
    world = World("a", "b", "c")
    world.advance(1.0)
    founder = world.nodes["a"].node
    assert founder.membership.awaited() == []
    world.kill("c")
    init(world.nodes["a"], force=True)
    world.advance(1.0)
    client = world.nodes["a"].client()
    client.send(encode_message(ClusterStatus(), 9))
    world.advance(0.5)
    (answer,) = client.take()
    assert client.decode(*answer).awaited == ["c"]
    world.start("c")
    world.advance(1.0)
    assert founder.membership.awaited() == []


def test_a_broker_that_never_comes_is_not_awaited_for_ever() -> None:
    world = World("a", "b")
    world.advance(1.0)
    world.kill("b")
    init(world.nodes["a"], force=True)
    founder = world.nodes["a"].node.membership
    assert founder.awaited() == ["b"]
    world.advance(AWAITED_SECONDS)
    assert founder.awaited() == []


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_node_tells_after_an_upgrade_what_it_knows_by_then(name: str) -> None:
    world = World("a", "b")
    world.advance(1.0)
    init(world.nodes["a"])
    world.advance(1.0)
    upgraded = world.nodes[name]
    world.kill(name)
    world.nodes[name] = upgraded
    upgraded.feature_max = 2
    upgraded.open()
    world.advance(3.0)
    known = world.nodes["a"].node.groups.metadata.machine.nodes.values()
    assert {entry.address: entry.feature_max for entry in known} == {"a": 1, "b": 1, name: 2}


def test_a_broker_that_is_too_old_for_the_cluster_is_told_so_and_goes_on_asking() -> None:
    world = World("a", "b")
    for one in world.nodes.values():
        one.feature_max = 2
        one.node.store.close()
        one.open()
    world.advance(1.0)
    init(world.nodes["a"])
    world.advance(1.0)
    metadata = world.nodes["a"].node.groups.metadata
    assert metadata.machine.feature_level == 2
    old = world.start("c")
    world.advance(4.0)
    logged = metadata.raft.log.last_index
    world.advance(2.0)
    assert metadata.raft.log.last_index == logged, "it asks, and each answer costs no entry"
    assert "uses feature level 2, this broker knows 1: upgrade it" in str(
        old.node.membership.refusal()
    )
    world.kill("c")
    old.feature_max = 2
    world.nodes["c"] = old
    old.open()
    world.advance(2.0)
    assert old.node.membership.refusal() is None


def test_a_broker_that_answers_nonsense_is_hung_up_on() -> None:
    world = World("a", join=["b"])
    world.pump()
    node = world.nodes["a"].node
    world.advance(0.5)
    seed = next(iter(node.membership.seeds._seeds.values()))
    assert seed.session is None
    other = world.start("b")
    world.advance(0.5)
    assert seed.session is not None
    session = seed.session
    with pytest.raises(PenstockError):
        node.receive(session, memoryview(b"\x10\0\0\0\x05\0\0\0" + bytes(8)), 16, False)
    assert other.node.membership.seeds.over is False


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.1, 0.2, 0.3])
def test_two_brokers_told_to_form_a_cluster_never_form_two(pause: float) -> None:
    world = World("a", "b", "c")
    world.advance(1.0)
    for name in ("a", "b"):
        world.nodes[name].client().send(encode_message(InitCluster(), 7))
        world.advance(pause)
    world.advance(3.0)
    clusters = {one.node.groups.cluster_id for one in world.nodes.values()} - {""}
    assert len(clusters) <= 1
    if not clusters:  # both gave way: one word is enough
        init(world.nodes["a"])
        world.advance(1.0)
    assert len({identity(one).cluster for one in world.nodes.values()}) == 1
