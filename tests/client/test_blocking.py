"""What only the blocking driver has: threads, a keeper, fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from penstock import errors, sync
from penstock._drivers.blocking import BlockingDriver
from penstock.testing import broker
from penstock.testing.plugin import fresh_name


@pytest.fixture
def client(penstock_address: str) -> sync.Client:
    with sync.connect(penstock_address) as client:
        yield client


@pytest.fixture
def topic(client: sync.Client, request: pytest.FixtureRequest) -> str:
    name = fresh_name(request.node.name)
    client.admin.create_topic(name)
    return name


def in_threads(count: int, work: object) -> None:
    errors_found: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors_found.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
        assert not thread.is_alive()
    assert not errors_found, errors_found


def test_threads_share_a_client_for_everything(client: sync.Client, topic: str) -> None:
    def work(number: int) -> None:
        if number % 4 == 0:
            client.publish_many(topic, [b"m"] * 50)
        elif number % 4 == 1:
            for _ in range(20):
                client.publish(topic, b"p")
        elif number % 4 == 2:
            for _ in range(10):
                client.admin.describe_topic(topic)
        else:
            with client.subscribe(topic, start="latest") as subscription:
                subscription.fetch(wait=0.05)

    in_threads(12, work)
    assert client.admin.list_offsets(topic) == {0: 3 * 50 + 3 * 20}


def test_one_thread_waits_while_others_publish(client: sync.Client, topic: str) -> None:
    found: list[bytes] = []

    def work(number: int) -> None:
        if number == 0:
            with client.subscribe(topic) as subscription:
                while len(found) < 60:
                    found.extend(r.value for r in subscription.fetch(wait=5.0))
        else:
            for step in range(20):
                client.publish(topic, b"%d-%d" % (number, step))

    in_threads(4, work)
    assert len(set(found)) == 60


def test_acks_arrive_while_nobody_calls(client: sync.Client, topic: str) -> None:
    pending = client.publish_nowait(topic, b"x")
    give_up = time.monotonic() + 5.0
    while not pending.done and time.monotonic() < give_up:
        time.sleep(0.005)
    assert pending.wait().offset == 0


def test_a_membership_outlives_a_busy_application(client: sync.Client, topic: str) -> None:
    client.publish_many(topic, [b"1", b"2"])
    with client.subscribe(topic, group=topic, session_timeout=0.3) as subscription:
        assert len(subscription.fetch(1)) == 1
        time.sleep(0.8)
        assert [r.value for r in subscription.fetch(1)] == [b"2"]
        subscription.commit()
    assert client.admin.describe_group(topic).partitions[0].committed == 2


def test_waiting_for_a_receipt_may_be_bounded(client: sync.Client, topic: str) -> None:
    client.publish(topic, b"x")
    pending = client.publish_nowait(topic, b"y")
    with pytest.raises(errors.TimedOut):
        pending.wait(timeout=0.0)
    assert pending.wait(timeout=60.0).offset == 1


def test_closing_ends_the_waits_of_other_threads(penstock_address: str) -> None:
    outcome: list[BaseException | object] = []
    client = sync.connect(penstock_address)
    with client:
        name = fresh_name("closing")
        client.admin.create_topic(name)
        started = threading.Event()

        def wait() -> None:
            with client.subscribe(name) as subscription:
                started.set()
                try:
                    outcome.append(subscription.fetch(wait=30.0))
                except errors.ClientClosed as error:
                    outcome.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        started.wait(60.0)
    thread.join(60.0)
    assert not thread.is_alive()
    assert isinstance(outcome[0], errors.ClientClosed)


FORKS = """
import os, sys
from penstock import errors, sync
with sync.connect(sys.argv[1]) as client:
    child = os.fork()
    if not child:
        try:
            client.publish(sys.argv[2], b"x")
        except errors.ClientClosed as error:
            os._exit(7 if "fork" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(client.publish(sys.argv[2], b"x").offset)
"""


def test_a_forked_child_is_refused(penstock_address: str, topic: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", FORKS, penstock_address, topic],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=30.0,
        check=True,
    )
    assert found.stdout.split() == ["7", "0"]


def test_events_tell_what_happened(penstock_address: str, topic: str) -> None:
    with sync.connect(penstock_address) as client:
        events = client.events()
        with client.subscribe(topic, group=topic):
            driver = client._driver
            assert isinstance(driver, BlockingDriver)
            _, found = driver.call(driver.core.events.after, 0)
            kinds = [event.kind for event in found]
        assert kinds == ["connected", "joined", "assigned"]
        client.close()
        assert "connected" not in [event.kind for event in events]


def test_a_client_that_is_not_open_refuses() -> None:
    client = sync.connect("localhost:1")
    with pytest.raises(errors.ClientClosed, match="not open"):
        client.publish("t", b"x")
    client.close()
    assert repr(client) == "<penstock.sync.Client localhost:1>"


def test_a_restarted_broker_is_found_again(tmp_path: object) -> None:
    with broker(str(tmp_path)) as first:
        address = first.address
        with sync.connect(address) as client:
            client.admin.create_topic("t")
            client.publish("t", b"before")
            first.stop()
            pending = client.publish_nowait("t", b"between")
            with broker(str(tmp_path), port=int(address.rpartition(":")[2])):
                assert pending.wait(timeout=20.0).offset == 1
                with client.subscribe("t") as subscription:
                    found = [subscription.fetch(1, wait=10.0)[0].value for _ in range(2)]
                assert found == [b"before", b"between"]
