"""What happens in a cluster all day, in a few seconds: so that every step of the brokers is taken.

Topics come and go, leads and replicas move, brokers are drained, logs are filled and trimmed. Each
is done by a thread of its own that asks again and again; while brokers are hurt many of these
requests fail, and nobody minds.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

from penstock import sync
from penstock.errors import PenstockError

ASK_SECONDS: Final = 5.0
MUCH_SECONDS: Final = 15.0
FILLED: Final = "filled"
PARTITIONS: Final = 2
RECORD_BYTES: Final = 32 * 1024
MUCH_RECORDS: Final = 400
"""More than a leader keeps in memory for who is away."""
DRAINED_SECONDS: Final = 1.5


class Stirring:
    """The threads; `moving` is the topic whose replicas move, `leading` those whose leads do."""

    def __init__(
        self, address: str, moving: str, leading: list[str], chance: random.Random
    ) -> None:
        self._address = address
        self._moving = moving
        self._leading = leading
        self._chance = chance
        self._busy: list[threading.Lock] = []
        """One for each job: held while something is under way."""
        self._end = threading.Event()
        self.errors: list[str] = []
        """What was not the brokers' fault, or should never be said by one."""
        self._made = 0

    def __enter__(self) -> Stirring:
        jobs: list[tuple[Callable[[sync.Client], None], float]] = [
            (self._transfer, 0.3),
            (self._move, 0.7),
            (self._make_topic, 1.5),
            (self._fill, 0.7),
            (self._drain, 8.0),
        ]
        self._busy = [threading.Lock() for _ in jobs]
        self._threads = [
            threading.Thread(target=self._run, args=(*job, busy), daemon=True)
            for job, busy in zip(jobs, self._busy, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(4 * ASK_SECONDS)
        with suppress(PenstockError), sync.connect(self._address) as client:
            for node in client.admin.cluster_status().nodes:
                if node.state == "draining":
                    self.undrain(client, node.id)
            self._delete_topics(client, ("brief-", FILLED))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """What is under way ends, and nothing new is begun for a while."""
        with ExitStack() as stack:
            for busy in self._busy:
                stack.enter_context(busy)
            yield

    def _run(self, job: Callable[[sync.Client], None], every: float, busy: threading.Lock) -> None:
        waits: dict[str, Any] = {"request_timeout": ASK_SECONDS, "delivery_timeout": ASK_SECONDS}
        try:
            with sync.connect(self._address, **waits) as client:
                while not self._end.wait(every):
                    with busy, suppress(PenstockError):
                        job(client)
        except Exception as error:
            self.errors.append(f"{job.__name__}: {error!r}")

    # ----- what is done

    def _transfer(self, client: sync.Client) -> None:
        state = self._chance.choice(
            client.admin.list_partitions(self._chance.choice(self._leading))
        )
        others = [node for node in state.replicas if node != state.leader]
        if others:
            client.admin.transfer_leader(state.topic, state.partition, self._chance.choice(others))

    def _move(self, client: sync.Client) -> None:
        state = self._chance.choice(client.admin.list_partitions(self._moving))
        nodes = [node.id for node in client.admin.metadata().nodes]
        if not state.moving:
            wanted = self._chance.sample(nodes, len(state.replicas))
            client.admin.move_partition(state.topic, state.partition, wanted)

    def _make_topic(self, client: sync.Client) -> None:
        """One that is there for a moment."""
        self._made += 1
        client.admin.create_topic(f"brief-{self._made}", PARTITIONS, 3)
        client.publish(f"brief-{self._made}", b"a few words")
        self._delete_topics(client, ("brief-",))

    @staticmethod
    def _delete_topics(client: sync.Client, beginnings: tuple[str, ...]) -> None:
        for topic in client.admin.list_topics():
            if topic.name.startswith(beginnings):
                client.admin.delete_topic(topic.name)

    def _fill(
        self, client: sync.Client, records: int = 40, partition: int = 0, *, trim: bool = True
    ) -> None:
        """Fill files of the log, and free them."""
        client.admin.create_topic(FILLED, PARTITIONS, 3, if_not_exists=True)
        # Different ones: a batch of equal records would be hardly larger than one of them.
        sent = [
            client.publish_nowait(FILLED, self._chance.randbytes(RECORD_BYTES), partition=partition)
            for _ in range(records)
        ]
        for pending in sent:
            pending.wait()
        if trim:
            ends = client.admin.list_offsets(FILLED, "latest")
            client.admin.trim(FILLED, partition, ends[partition])

    def fill_much(self) -> str:
        """So much that who is away gets snapshots: copies one log, and begins the other anew.

        Returns why it was not done, if it was not.
        """
        try:
            with sync.connect(self._address, request_timeout=MUCH_SECONDS) as client:
                for partition in range(PARTITIONS):
                    self._fill(client, MUCH_RECORDS, partition, trim=partition > 0)
        except PenstockError as error:
            return repr(error)
        return ""

    def spare(self, address: str) -> bool:
        """Have the others keep what has two copies; whether nothing of it is on this broker now.

        With one of two lost for ever, nobody could decide anything about a partition. That is
        what moves, and the dead letters of it.
        """
        with (
            suppress(PenstockError),
            sync.connect(self._address, request_timeout=ASK_SECONDS) as client,
        ):
            nodes = {node.address: node.id for node in client.admin.metadata().nodes}
            lost = nodes.pop(address, 0)
            clear = True
            for state in client.admin.list_partitions(internal=True):
                if len(state.replicas) > len(nodes):
                    continue
                if lost in (*state.replicas, *state.members, *state.learners):
                    clear = False
                    others = list(nodes.values())[: len(state.replicas)]
                    client.admin.move_partition(state.topic, state.partition, others)
                clear = clear and not state.moving
            return clear
        return False

    def _drain(self, client: sync.Client) -> None:
        node = self._chance.choice(client.admin.metadata().nodes).id
        try:
            client.admin.drain_node(node)
            time.sleep(DRAINED_SECONDS)
        finally:
            self.undrain(client, node)

    @staticmethod
    def undrain(client: sync.Client, node: int) -> None:
        """Have it take part again, however often one has to ask."""
        for _ in range(10):
            with suppress(PenstockError):
                client.admin.undrain_node(node)
                return
