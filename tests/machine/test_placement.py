from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.machine.placement import Placer

HOSTS = {1: "x", 2: "x", 3: "y", 4: "y", 5: "z"}


def test_replicas_do_not_share_a_host_while_there_are_enough() -> None:
    placer = Placer(HOSTS, [])
    for partition in range(50):
        replicas = placer.place("id", partition, 3)
        assert sorted(HOSTS[node] for node in replicas) == ["x", "y", "z"]


def test_nodes_without_a_host_label_are_hosts_of_their_own() -> None:
    assert sorted(Placer({1: "", 2: ""}, []).place("id", 0, 2)) == [1, 2]


def test_what_is_placed_already_counts() -> None:
    placer = Placer({1: "a", 2: "b"}, [[1], [1], [1]])
    assert [placer.place("id", partition, 1) for partition in range(3)] == [[2], [2], [2]]


@given(nodes=st.integers(1, 6), replication=st.integers(1, 4), partitions=st.integers(1, 30))
def test_load_and_leads_are_even(nodes: int, replication: int, partitions: int) -> None:
    replication = min(replication, nodes)
    placer = Placer(dict.fromkeys(range(1, nodes + 1), ""), [])
    placed = [placer.place("id", partition, replication) for partition in range(partitions)]
    held = [sum(node in replicas for replicas in placed) for node in range(1, nodes + 1)]
    assert max(held) - min(held) <= 1
    assert all(len(set(replicas)) == replication for replicas in placed)
    led = [sum(node == replicas[0] for replicas in placed) for node in range(1, nodes + 1)]
    assert max(led) - min(led) <= 2


def test_topics_are_spread_differently() -> None:
    nodes = dict.fromkeys(range(1, 10), "")
    firsts = [Placer(nodes, []).place(f"id-{topic}", 0, 1) for topic in range(20)]
    assert any(one != other for one, other in pairwise(firsts))
