"""Members of a shared group in processes of their own: killed, paused, hung, slow and doubled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.faults.shared_ledger import SharedLedger
from ops.faults.shared_members import Member, Members, now_us
from penstock import sync
from penstock.protocol.sharing import DescribeSharedReply
from tests.system.process import BrokerProcess, healthy, wait_until

pytestmark = pytest.mark.system

GROUP = "billing"
SECOND_US = 1_000_000
LEASE_US = SECOND_US
SLACK_US = 15 * SECOND_US
"""For a machine that has other work: counters tell why a record came back, not its time."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("shared")).start() as running:
        yield running
        healthy(running)
        assert running.stop() == 0


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[sync.Client]:
    with sync.connect(broker.address) as connected:
        yield connected


@pytest.fixture
def group(
    broker: BrokerProcess, client: sync.Client, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Members]]:
    """Makes a topic with a group; nothing that its members did may break a promise."""
    made: list[Members] = []

    def make(**settings: object) -> Members:
        words = request.node.name.replace("[", "-").replace("]", "")
        topic = f"{words[-80:]}-{len(made)}"
        client.admin.create_topic(topic)
        client.admin.create_group(
            topic, GROUP, {"lease_ms": "1s", "retry_min_ms": 0, "jitter": "none", **settings}
        )
        made.append(Members(tmp_path / topic, broker.address, topic, GROUP))
        return made[-1]

    yield make
    for members in made:
        members.end()
        ledger = SharedLedger()
        ledger.take(members.lines())
        ledger.check_grants()
        assert ledger.breaches == []
        assert "Traceback" not in members.log()


def settled(client: sync.Client, members: Members) -> bool:
    found = client.admin.describe_shared(members.topic, GROUP)
    return all(part.start == part.high_watermark for part in found.partitions)


def figures(client: sync.Client, members: Members) -> DescribeSharedReply:
    return client.admin.describe_shared(members.topic, GROUP)


def counter(client: sync.Client, members: Members, name: str) -> int:
    return sum(part.counters.get(name, 0) for part in figures(client, members).partitions)


def first_grant(member: Member) -> int:
    member.wait_for("began")
    return int(member.lines("began")[0]["t"])


# ----- members that die


def test_a_killed_member_hands_its_records_back_within_its_lease(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group()
    client.publish_many(members.topic, [b"fine/%d" % number for number in range(40)])
    victim = members.start("--stand-still", "30", "--in-flight", "200")
    assert wait_until(lambda: figures(client, members).partitions[0].leased == 40)
    heir = members.start("--in-flight", "100")
    killed_us = now_us()
    victim.kill()
    heir.wait_for("began", 40)
    took = heir.lines("began")[-1]["t"] - killed_us
    assert took < LEASE_US + SLACK_US
    assert {line["timed_out"] for line in heir.lines("began")} == {1}
    assert wait_until(lambda: settled(client, members))


def test_a_long_lease_ends_five_seconds_after_its_member_was_killed(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group(lease_ms="10m")
    client.publish(members.topic, b"fine/0")
    victim = members.start("--stand-still", "30")
    victim.wait_for("began")
    heir = members.start()
    killed_us = now_us()
    victim.kill()
    heir.wait_for("began", 1)
    assert heir.lines("began")[0]["t"] - killed_us < 5 * SECOND_US + SLACK_US


def test_a_member_that_is_interrupted_hands_back_at_once_and_uncounted(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group(lease_ms="10m")
    client.publish_many(members.topic, [b"fine/%d" % number for number in range(20)])
    leaving = members.start("--stand-still", "30")
    leaving.wait_for("began")
    heir = members.start()
    leaving.interrupt()
    heir.wait_for("began", 20)
    assert {line["timed_out"] + line["failed"] for line in heir.lines("began")} == {0}
    assert leaving.lines("left")


# ----- members that stand still


@pytest.mark.parametrize("strict", ["no", "yes"])
def test_a_member_that_stood_still_beyond_its_lease_is_too_late(
    group: Callable[..., Members], client: sync.Client, strict: str
) -> None:
    members = group(strict=strict)
    client.publish(members.topic, b"fine/0")
    still = members.start("--stand-still", "0.3")
    still.wait_for("began")
    still.pause()
    other = members.start("--stand-still", "2.5")
    other.wait_for("began", 1)
    still.resume()
    still.wait_for("confirmed", 1)
    said = still.lines("confirmed")[0]
    if strict == "yes":
        assert said["lost"] == [0, 1]
        assert not settled(client, members)
    else:
        assert (said["accepted"], said["late"], said["lost"]) == (1, 1, [])
        assert settled(client, members)
    other.wait_for("confirmed", 1)
    assert wait_until(lambda: settled(client, members))
    assert counter(client, members, "timed_out") == 1
    assert counter(client, members, "late_acks") == (strict == "no")
    assert counter(client, members, "delivered") == 2


# ----- members that hang, or are slow


def test_a_handler_that_hangs_is_timed_out_and_dies_though_its_leases_are_renewed(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group(hold_max_ms="1s", attempts_max=2)
    client.publish(members.topic, b"hangs/0")
    first = members.start("--hang", "20", "--in-flight", "1")
    first_grant(first)
    second = members.start("--hang", "20", "--in-flight", "1")
    second.wait_for("began", 1)
    assert wait_until(lambda: bool(client.admin.dead_letters(members.topic, GROUP).letters))
    (letter,) = client.admin.dead_letters(members.topic, GROUP).letters
    assert (letter.timed_out, letter.failed, letter.value) == (2, 0, b"hangs/0")
    assert [attempt.kind for attempt in letter.attempts] == ["timed_out"] * 2
    assert wait_until(lambda: settled(client, members))


def test_a_handler_longer_than_the_lease_keeps_its_record(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group()
    client.publish(members.topic, b"fine/0")
    slow = members.start("--stand-still", "2.5")
    slow.wait_for("began")
    idle = members.start()
    slow.wait_for("confirmed", 1)
    assert idle.lines("granted") == []
    assert counter(client, members, "timed_out") == 0


def test_a_slow_member_does_not_hold_up_the_others(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group()
    slow = members.start("--stand-still", "1.0", "--in-flight", "5")
    quick = members.start("--in-flight", "50")
    began = time.monotonic()
    for number in range(5):
        client.publish_many(members.topic, [b"fine/%d-%d" % (number, n) for n in range(200)])
    quick.wait(lambda: len(quick.lines("ended")) >= 990, "done most of it", 10.0)
    assert time.monotonic() - began < 5
    assert len(slow.lines("ended")) <= 6
    slow.kill()
    assert wait_until(lambda: settled(client, members))
    assert counter(client, members, "acked") == 1000


def test_two_processes_of_one_name_take_turns_and_nothing_is_stuck(
    group: Callable[..., Members], client: sync.Client
) -> None:
    members = group()
    client.publish_many(members.topic, [b"fine/%d" % number for number in range(300)])
    twins = [members.start("--member", "twin", "--busy", "0.002") for _ in range(2)]
    assert wait_until(lambda: settled(client, members)), figures(client, members)
    assert counter(client, members, "acked") == 300
    for twin in twins:
        assert twin.running
