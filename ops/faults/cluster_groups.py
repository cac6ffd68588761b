"""Groups that consume the topic of a cluster's load: what they were told goes into the history.

Two members of a shared group settle every record, two of an ordered group commit how far they are.
Leases are noted as the client hears of them, before the program does, and verdicts when they are
sent and confirmed.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from ops.history.form import Writer
from penstock import sync
from penstock._core.sharing import share as shares
from penstock._core.sharing.share import Share
from penstock._core.sharing.verdicts import Run
from penstock.errors import PenstockError
from penstock.protocol.leases import ACK, NACK, REJECT, RELEASE, Acquired, Settled, Verdict

SHARED: Final = "shared"
ORDERED: Final = "ordered"
NAMES: Final = {ACK: "ack", NACK: "nack", REJECT: "reject", RELEASE: "release"}
SETTINGS: Final = {"attempts_max": 100, "retry_min_ms": 20, "retry_max_ms": 200}
DRAIN_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 60.0
GRANTED_WITHIN: Final = 10.0
"""No lease was granted longer before somebody heard of it, in seconds."""

Said = tuple[int, int, int, int, int]
"""A verdict: the partition's group id, lease, first offset, count, what it is."""


def name_of(lease: int) -> str:
    """A lease as the history has it: the term of its leader, and its number."""
    return f"{lease >> 32}.{lease & 0xFFFFFFFF}"


def lost_of(sent: Iterable[Run], spans: Sequence[int]) -> set[tuple[int, int]]:
    """The lease and offset of each verdict that came too late.

    The answer names offsets alone. Of several leases of one record the older ones have lost it.
    """
    lost: set[tuple[int, int]] = set()
    counts = Counter(
        offset
        for low, size in zip(spans[::2], spans[1::2], strict=True)
        for offset in range(low, low + size)
    )
    for run in sorted(sent, key=lambda run: run.grant.lease):
        for offset in counts.keys() & range(run.first, run.end):
            if counts[offset]:
                counts[offset] -= 1
                lost.add((run.grant.lease, offset))
    return lost


class GroupLoad:
    """Members, each in a thread of its own."""

    def __init__(
        self, address: str, topic: str, history: Writer, stopping: threading.Event
    ) -> None:
        self._address = address
        self._topic = topic
        self._history = history
        self._stopping = stopping
        self._drained = threading.Event()
        self.clocks_differ = False
        """Nobody can tell by a deadline when a lease began, or when it runs out."""
        self.delivered = self.committed = 0
        self.again = 0
        """Records that came once more though their lease held and nobody had given it up."""
        self._attached: dict[Share, tuple[object, int, str]] = {}
        """The connection and handle with which a grant came last, and the leader that gave it."""
        self._leased: dict[tuple[int, int], tuple[int, float]] = {}
        """(partition, offset) -> the lease that holds it as far as is known, until when.

        Who gives a record back may hear of it after another has it: it is let go when that is said.
        """
        self._said: dict[Said, float] = {}
        """Verdicts under way, and when they were sent first."""
        self._holders: dict[tuple[int, int], tuple[str, tuple[str, int]]] = {}
        """(group id of the partition, lease) -> its member, and where it is."""
        self.settled: dict[int, set[int]] = {}
        """Partition -> offsets whose ack was confirmed."""

    def begin(self, run: Callable[[Callable[[], None]], None]) -> None:
        """Start everybody."""
        for number in range(2):
            for name, program in ((f"s{number}", self._share), (f"o{number}", self._consume)):
                run(partial(self._as_long_as_it_takes, program, name))

    @staticmethod
    def _as_long_as_it_takes(program: Callable[[str], None], name: str) -> None:
        """Begin anew what could not be done in time: whether all is done in the end is judged."""
        while True:
            try:
                program(name)
                return
            except PenstockError as error:
                if not error.retriable:
                    raise

    # ----- the shared group

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what clients of this process hear and say about leases."""
        taken, confirmed = Share._take, Share._confirmed
        settle: Callable[..., bytes] = vars(shares)["settle_request"]

        def take(share: Share, acquired: Acquired, asked: int) -> None:
            if share.topic == self._topic:
                self._granted(share, acquired)
            taken(share, acquired, asked)

        def say(correlation: int, gid: int, handle: int, verdicts: Sequence[Verdict]) -> bytes:
            for said in verdicts:
                if (gid, said.lease) in self._holders:
                    self._say(gid, said)
            return settle(correlation, gid, handle, verdicts)

        def confirm(share: Share, settled: Settled) -> None:
            lost = lost_of(share.ledger.sent, settled.lost)
            for run in share.ledger.sent:
                lease, count = run.grant.lease, run.end - run.first
                key = (share._group_id, lease, run.first, count, run.verdict)
                self._verdict(key, lost, self._leader_of(share))
            confirmed(share, settled)

        with (
            patch.object(Share, "_take", take),
            patch.object(Share, "_confirmed", confirm),
            patch.object(shares, "settle_request", say),
        ):
            yield

    def _say(self, gid: int, said: Verdict) -> None:
        key = (gid, said.lease, said.first, said.count, said.verdict)
        self._said.setdefault(key, time.monotonic())
        if said.verdict in (NACK, RELEASE):
            _, (_, partition) = self._holders[gid, said.lease]
            for offset in range(said.first, said.first + said.count):
                if self._leased.get((partition, offset), (0, 0.0))[0] == said.lease:
                    self._leased.pop((partition, offset), None)

    def _granted(self, share: Share, acquired: Acquired) -> None:
        now = time.monotonic()
        wall_off = now - time.time()
        granted = acquired.deadline_us / 1e6 - acquired.lease_ms / 1e3 + wall_off
        until = acquired.deadline_us / 1e6 + wall_off
        if self.clocks_differ:
            granted = until = now - GRANTED_WITHIN
        place = (share.topic, share.partition)
        leader = name_of(acquired.lease).rpartition(".")[0]
        self._attached[share] = (share._wire, share._handle, leader)
        self._holders[share._group_id, acquired.lease] = (share.member, place)
        for span in acquired.spans:
            for offset in range(span.first, span.first + span.records):
                self.delivered += 1
                self._lease(place[1], offset, acquired.lease, now, until)
                self._history.note(
                    "deliver",
                    share.member,
                    place,
                    (min(granted, now), now),
                    group=SHARED,
                    offset=offset,
                    lease=name_of(acquired.lease),
                    attempt=span.failed + span.timed_out,
                    until=until,
                )

    def _lease(self, partition: int, offset: int, lease: int, now: float, until: float) -> None:
        known, ends = self._leased.get((partition, offset), (lease, 0.0))
        self.again += known != lease and now < ends
        self._leased[partition, offset] = (lease, until)

    def _leader_of(self, share: Share) -> str:
        """Who answers, if the share is attached as it was when it got its last grant."""
        wire, handle, leader = self._attached.get(share, (None, 0, ""))
        return leader if (share._wire, share._handle) == (wire, handle) else ""

    def _verdict(self, key: Said, lost: set[tuple[int, int]] | None, leader: str = "") -> None:
        """Note a verdict, confirmed but for what was lost; None: nobody knows what became of it."""
        gid, lease, first, count, verdict = key
        start = self._said.pop(key, None)
        if start is None:
            return
        member, place = self._holders[gid, lease]
        for offset in range(first, first + count):
            gone = lost is None or (lease, offset) in lost
            if self._leased.get((place[1], offset), (0, 0.0))[0] == lease:
                self._leased.pop((place[1], offset), None)
            if verdict in (ACK, REJECT) and not gone:
                self.settled.setdefault(place[1], set()).add(offset)
            self._history.note(
                "settle",
                member,
                place,
                (start, None if lost is None else time.monotonic()),
                "unknown" if gone else "ok",
                group=SHARED,
                offset=offset,
                lease=name_of(lease),
                verdict=NAMES[verdict],
                by=leader,
            )

    def _share(self, name: str) -> None:
        chance = random.Random(name)
        options: dict[str, Any] = {"name": name, "request_timeout": PATIENCE_SECONDS}
        with (
            sync.connect(self._address, **options) as client,
            client.subscribe(self._topic, group=SHARED, mode="shared", create=SETTINGS) as records,
        ):
            while not self._drained.is_set():
                for record in self._patiently(lambda: records.fetch(200, 0.2)):
                    fate = chance.random()
                    if fate < 0.02:
                        record.nack(reason="Flaky")
                    elif fate < 0.03:
                        record.release()
                    else:
                        record.ack()

    @staticmethod
    def _patiently(ask: Callable[[], list[Any]]) -> list[Any]:
        try:
            return ask()
        except PenstockError as error:
            if not error.retriable:
                raise
            return []

    def drain(self, ends: dict[int, int]) -> str:
        """Wait until all is settled; returns what is not.

        Args:
            ends: partition -> where its log ends.
        """
        give_up = time.monotonic() + DRAIN_SECONDS
        missing = "?"
        while missing and time.monotonic() < give_up:
            time.sleep(0.05)
            counts = {at: end - len(self.settled.get(at, ())) for at, end in ends.items()}
            missing = ", ".join(f"{n} of partition {at}" for at, n in counts.items() if n)
        self._drained.set()
        if missing:
            return f"the shared group has not settled {missing}"
        now = time.monotonic()
        for partition in ends:
            place = (self._topic, partition)
            self._history.note("drained", "auditor", place, (now, now), group=SHARED)
        return ""

    def give_up(self) -> None:
        """Let the members leave though not all is settled."""
        self._drained.set()

    def end(self) -> None:
        """Everybody has ended: what is open now stays so."""
        for key in list(self._said):
            self._verdict(key, None)

    # ----- the ordered group

    def _consume(self, name: str) -> None:
        options: dict[str, Any] = {"name": name, "request_timeout": PATIENCE_SECONDS}
        with (
            sync.connect(self._address, **options) as client,
            client.subscribe(self._topic, group=ORDERED, commit="manual") as records,
        ):
            while not self._stopping.is_set():
                found = self._patiently(lambda: records.fetch(2000, 0.2))
                ends = {record.partition: record.offset + 1 for record in found}
                if ends:
                    self._commit(name, records, ends)

    def _commit(self, name: str, records: sync.Subscription, ends: dict[int, int]) -> None:
        start, outcome = time.monotonic(), "ok"
        try:
            records.commit({self._topic: ends})
        except PenstockError:
            outcome = "unknown"
        end = time.monotonic()
        for partition, offset in ends.items():
            self.committed += 1
            place = (self._topic, partition)
            more: dict[str, Any] = {"group": ORDERED, "offset": offset}
            self._history.note("commit", name, place, (start, end), outcome, **more)

    def ask_positions(self, client: sync.Client) -> None:
        """Note where the ordered group stands when all is well and one broker leads it."""
        start = time.monotonic()
        with suppress(PenstockError):
            reply = client.admin.describe_group(ORDERED)
            end = time.monotonic()
            for lag in reply.partitions:
                if lag.topic == self._topic and lag.committed >= 0:
                    place = (self._topic, lag.partition)
                    more: dict[str, Any] = {"group": ORDERED, "offset": lag.committed}
                    more["linearizable"] = True
                    self._history.note("position", "auditor", place, (start, end), **more)
