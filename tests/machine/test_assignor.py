from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.machine.assignor import Key, assign

TOPICS = ["a", "b", "c"]
members_alike = st.integers(1, 8)
sizes = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 12), min_size=1)
subscriptions = st.dictionaries(
    st.sampled_from([f"m{number}" for number in range(7)]),
    st.lists(st.sampled_from(TOPICS), max_size=4),
    min_size=1,
)
holders = st.dictionaries(
    st.tuples(st.sampled_from([*TOPICS, "gone"]), st.integers(0, 14)),
    st.sampled_from([f"m{number}" for number in range(9)]),
)


def loads(owner: dict[Key, str], members: dict[str, list[str]]) -> dict[str, int]:
    counted = Counter(owner.values())
    return {member: counted[member] for member in members}


@given(subscriptions, sizes, holders)
def test_every_wanted_partition_has_one_owner_that_wants_it(
    members: dict[str, list[str]], topics: dict[str, int], held: dict[Key, str]
) -> None:
    owner = assign(members, topics, held)
    wanted = {topic for wants in members.values() for topic in wants}
    assert set(owner) == {
        (topic, number)
        for topic, size in topics.items()
        for number in range(size)
        if topic in wanted
    }
    assert all(key[0] in members[member] for key, member in owner.items())


@given(subscriptions, sizes, holders)
def test_no_move_would_make_the_load_more_even(
    members: dict[str, list[str]], topics: dict[str, int], held: dict[Key, str]
) -> None:
    owner = assign(members, topics, held)
    load = loads(owner, members)
    for (topic, _), member in owner.items():
        takers = [load[other] for other, wants in members.items() if topic in wants]
        assert load[member] <= min(takers) + 1


@given(subscriptions, sizes, holders)
def test_members_with_the_same_topics_differ_by_one_at_most(
    members: dict[str, list[str]], topics: dict[str, int], held: dict[Key, str]
) -> None:
    load = loads(assign(members, topics, held), members)
    alike: dict[frozenset[str], list[int]] = {}
    for member, wants in members.items():
        alike.setdefault(frozenset(t for t in wants if topics.get(t)), []).append(load[member])
    assert all(max(counts) - min(counts) <= 1 for counts in alike.values())


@given(subscriptions, sizes, holders)
def test_the_result_is_its_own_fixed_point(
    members: dict[str, list[str]], topics: dict[str, int], held: dict[Key, str]
) -> None:
    owner = assign(members, topics, held)
    assert assign(members, topics, owner) == owner


@given(subscriptions, sizes, holders)
def test_the_order_of_the_input_does_not_matter(
    members: dict[str, list[str]], topics: dict[str, int], held: dict[Key, str]
) -> None:
    turned = {member: wants[::-1] for member, wants in reversed(members.items())}
    again = assign(turned, dict(reversed(topics.items())), dict(reversed(held.items())))
    assert again == assign(members, topics, held)
    assert list(again) == sorted(again)


@given(members_alike, sizes, holders)
def test_no_more_moves_than_evenness_needs(
    count: int, topics: dict[str, int], held: dict[Key, str]
) -> None:
    members = {f"m{number}": list(topics) for number in range(count)}
    owner = assign(members, topics, held)
    kept = {key: held[key] for key in owner if held.get(key) in members}
    moved = sum(owner[key] != member for key, member in kept.items())
    low, extra = divmod(len(owner), count)
    before = sorted(loads(kept, members).values(), reverse=True)
    fair = [low + 1] * extra + [low] * (count - extra)
    assert moved == sum(max(0, have - may) for have, may in zip(before, fair, strict=True))


def test_each_topic_is_spread_over_the_members() -> None:
    owner = assign({"x": ["a", "b"], "y": ["a", "b"]}, {"a": 2, "b": 2}, {})
    for topic in ("a", "b"):
        assert {owner[(topic, 0)], owner[(topic, 1)]} == {"x", "y"}


def test_a_leaver_moves_only_its_own_partitions() -> None:
    members = {f"m{number}": ["a"] for number in range(4)}
    before = assign(members, {"a": 12}, {})
    del members["m2"]
    after = assign(members, {"a": 12}, before)
    assert all(after[key] == member for key, member in before.items() if member != "m2")


def test_nobody_and_nothing_are_fine() -> None:
    assert assign({}, {"a": 3}, {}) == {}
    assert assign({"m": ["a"]}, {}, {}) == {}
