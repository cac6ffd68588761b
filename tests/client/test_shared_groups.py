"""Shared subscriptions in virtual time: groups that are there, are made, or are missing."""

import pytest

from penstock.errors import GroupNotFound, TopicNotFound
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def world() -> World:
    """A connected world with some records in topic `t`."""
    made = World(FakeCluster(t=1)).connect()
    for number in range(3):
        made.publish(b"%d" % number)
    made.advance(0.01)
    return made


def test_a_group_must_exist_unless_it_is_created():
    there = world()
    with pytest.raises(GroupNotFound):
        there.share(create=False)
    with pytest.raises(TopicNotFound):
        there.share("nothing")
    there.share(create={"attempts_max": 3})
    there.share(create=False)


def test_a_group_that_is_not_to_be_made_is_missed_before_the_request_is_out_of_time():
    there = world()
    began = there.now
    with pytest.raises(GroupNotFound):
        there.share(create=False)
    assert there.now - began < 5.0


def test_a_deleted_group_ends_the_subscription():
    there = world()
    shared = there.share()
    there.take(shared)
    del there.cluster.shared[("t", "g", 0)]
    there.cut_all()
    there.advance(2.0)
    with pytest.raises(GroupNotFound):
        there.take(shared)
