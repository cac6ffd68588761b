"""The planner of moves: what is needed first, then what is nicer, and an end to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_broker.machine.moves import (
    BALANCING_MAX,
    UNDER_WAY_MAX,
    Move,
    Place,
    Plan,
    Spot,
    Standing,
)

TAKES, KEEPS, LEAVES, LOST = Standing
Spots = Mapping[int, Spot]


def spots(hosts: str, **standings: Standing) -> dict[int, Spot]:
    """Nodes 1, 2, ... on these hosts; `n3=LOST` says otherwise of node 3."""
    return {
        node: Spot(host, standings.get(f"n{node}", TAKES)) for node, host in enumerate(hosts, 1)
    }


def place(group: int, *replicas: int, wanted: int = 0, moving: bool = False) -> Place:
    return Place(group, "t", replicas, tuple(sorted(replicas)), moving, wanted or len(replicas))


def settled(places: Iterable[Place], moves: Iterable[Move]) -> list[Place]:
    to = {move.group: tuple(move.replicas) for move in moves}
    return [
        p._replace(replicas=to[p.group], members=tuple(sorted(to[p.group])), moving=False)
        if p.group in to
        else p
        for p in places
    ]


def shared(cluster: Spots, replicas: Iterable[int]) -> int:
    hosts = [cluster[node].host for node in replicas]
    return len(hosts) - len(set(hosts))


def live(cluster: Spots, replicas: Iterable[int]) -> int:
    return sum(cluster[node].standing is not LOST for node in replicas)


def one(cluster: Spots, *places: Place) -> Move:
    (move,) = Plan(cluster, places).next_moves()
    return move


def test_a_lost_replica_is_made_anew_on_another_host() -> None:
    move = one(spots("aabbcc", n3=LOST), place(1, 1, 3, 5))
    assert (move.replicas, move.reason) == ([1, 5, 4], "repair")


def test_the_fewest_live_copies_come_first_and_not_all_at_once() -> None:
    places = [place(group, 1, 2, 3) for group in range(1, UNDER_WAY_MAX + 10)]
    places.append(place(999, 2, 3, 4, 5, 1))
    places.append(place(998, 1, 4, 5))
    cluster = spots("abcdef", n3=LOST, n4=LOST)
    moves = Plan(cluster, places).next_moves()
    assert len(moves) == UNDER_WAY_MAX
    assert 998 not in [move.group for move in moves]  # nobody can decide there
    assert moves[0].group == 1
    assert moves[-1].group != 999


def test_moves_under_way_count() -> None:
    places = [place(group, 1, 2, 3, moving=True) for group in range(1, UNDER_WAY_MAX)]
    places += [place(group, 1, 2, 4) for group in range(UNDER_WAY_MAX, UNDER_WAY_MAX + 12)]
    moves = Plan(spots("abcde", n4=LOST), places).next_moves()
    assert len(moves) == 1


def test_a_move_towards_a_lost_node_is_planned_anew() -> None:
    moving = place(1, 1, 2, 4, moving=True)._replace(members=(1, 2, 3))
    move = one(spots("abcde", n4=LOST, n5=TAKES), moving)
    assert set(move.replicas) == {1, 2, 3} or set(move.replicas) == {1, 2, 5}


def test_a_draining_node_is_left_only_for_another() -> None:
    assert one(spots("abc", n1=LEAVES), place(1, 1)).replicas == [2]
    assert not Plan(spots("ab", n1=LEAVES), [place(1, 1, 2)]).next_moves()


def test_with_one_node_to_spare_the_lost_replica_is_replaced_not_the_draining_one() -> None:
    move = one(spots("abcd", n2=LEAVES, n3=LOST), place(1, 1, 2, 3))
    assert set(move.replicas) == {1, 2, 4}


def test_who_is_away_for_a_moment_keeps_its_replicas() -> None:
    assert not Plan(spots("abcd", n2=KEEPS), [place(1, 2, 3)]).next_moves()


def test_more_or_fewer_replicas_are_made() -> None:
    assert one(spots("abc"), place(1, 1, wanted=3)).replicas == [1, 2, 3]
    move = one(spots("abb"), place(1, 2, 1, 3, wanted=2))
    assert (move.replicas, move.reason) == ([2, 1], "replication")


def test_replicas_on_one_host_are_spread() -> None:
    move = one(spots("aab"), place(1, 1, 2))
    assert (move.replicas, move.reason) == ([1, 3], "spread")


def test_a_node_that_joins_gets_its_part_step_by_step() -> None:
    cluster = spots("abcd")
    places = [place(group, 1, 2, 3) for group in range(1, 13)]
    moves = Plan(cluster, places).next_moves()
    assert len(moves) == BALANCING_MAX
    assert all(move.reason == "balance" and 4 in move.replicas for move in moves)
    under_way = [place(99, 1, 2, 3, moving=True)] * BALANCING_MAX
    later = Plan(cluster, places + under_way).next_moves()
    assert {move.reason for move in later} == {"leads"}


def test_where_balance_is_off_only_what_is_needed_moves() -> None:
    cluster = spots("abcd", n3=LEAVES)
    even = [place(group, 1, 2, 4) for group in range(1, 13)]
    assert Plan(cluster, even).next_moves()
    assert not Plan(cluster, even, balancing=False).next_moves()
    drained = Plan(cluster, [*even, place(99, 1, 2, 3)], balancing=False).next_moves()
    assert [(move.group, move.reason) for move in drained] == [(99, "drain")]


def test_preferred_leads_are_spread() -> None:
    places = [place(group, 1, 2, 3) for group in range(1, 7)]
    moves = Plan(spots("abc"), places).next_moves()
    assert {move.reason for move in moves} == {"leads"}
    firsts = [p.replicas[0] for p in settled(places, moves)]
    assert sorted(map(firsts.count, (1, 2, 3))) == [2, 2, 2]


clusters = st.integers(1, 7).flatmap(
    lambda count: st.builds(
        lambda hosts, standings: {
            node: Spot(host, standing)
            for node, (host, standing) in enumerate(zip(hosts, standings, strict=True), 1)
        },
        st.lists(st.sampled_from("abcd"), min_size=count, max_size=count),
        st.lists(st.sampled_from([TAKES] * 4 + [KEEPS, LEAVES, LOST]), min_size=count,
                 max_size=count),
    )
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(clusters, st.data())
def test_any_cluster_becomes_as_it_should_be_and_then_rests(
    cluster: dict[int, Spot], data: st.DataObject
) -> None:
    nodes = st.lists(st.sampled_from(sorted(cluster)), min_size=1, max_size=4, unique=True)
    places = [
        place(group, *data.draw(nodes), wanted=data.draw(st.integers(1, 4)))
        for group in range(1, data.draw(st.integers(1, 12)) + 1)
    ]
    takers = [node for node, spot in cluster.items() if spot.standing is TAKES]
    most = sum(p.wanted + len(p.replicas) for p in places) * (len(cluster) + 2) + len(places) ** 2
    for _ in range(most):
        moves = Plan(cluster, places).next_moves()
        if not moves:
            break
        before = {p.group: p for p in places}
        for move in moves:
            old = before[move.group]
            assert move.expected == list(old.replicas)
            assert len(set(move.replicas)) == len(move.replicas)
            assert {*move.replicas} - {*old.replicas} <= {*takers}
            assert live(cluster, move.replicas) >= min(old.wanted, live(cluster, old.replicas))
            if move.reason in ("balance", "spread", "leads"):
                assert shared(cluster, move.replicas) <= shared(cluster, old.replicas)
        places = settled(places, moves)
    else:
        raise AssertionError("the planner does not come to an end")
    for p in places:
        if live(cluster, p.members) * 2 <= len(p.members):
            continue
        rest = [node for node in takers if node not in p.replicas]
        assert len(p.replicas) <= p.wanted
        if rest:
            assert len(p.replicas) == p.wanted
            assert all(cluster[node].standing in (TAKES, KEEPS) for node in p.replicas)
            hosts = {cluster[node].host for node in p.replicas}
            assert not shared(cluster, p.replicas) or {cluster[n].host for n in rest} <= hosts
