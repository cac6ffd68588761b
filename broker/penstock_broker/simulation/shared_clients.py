"""Members of a shared group of the simulated broker: quick, slow, forgetful, sometimes late.

A member keeps to the protocol: it settles under the leases that it was given, says the same again
when a connection broke, and names what it holds when it attaches again. What it does with a record
is drawn from the seed; `SharedTruth` hears of all that it was told and all that it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock.protocol import frames, leases
from penstock.protocol.codec import decode_error
from penstock.protocol.leases import ACK, NACK, REJECT, RELEASE, Acquire, Verdict
from penstock.protocol.sharing import (
    AttachGroup,
    AttachGroupReply,
    Redrive,
    RedriveReply,
    RenewLeases,
    RenewLeasesReply,
)

if TYPE_CHECKING:
    from penstock_broker.simulation.shared_truth import SharedLink, SharedScene

GROUP: Final = "s"
PAUSE: Final = 0.05
FATES: Final = (
    ("ack", 60), ("nack", 8), ("nack_later", 4), ("reject", 3), ("release", 4), ("forget", 3),
    ("late", 3), ("long", 3),
)  # fmt: skip
_NAMES: Final = [name for name, _ in FATES]
_WEIGHTS: Final = [weight for _, weight in FATES]


@dataclass(eq=False)
class Place:
    """A partition as one member sees it."""

    topic: str
    partition: int
    gid: int
    handle: int = 0
    attaching: bool = False
    acquiring: bool = False
    held: dict[int, set[int]] = field(default_factory=dict)
    """Lease -> offsets without a verdict."""
    said: list[Verdict] = field(default_factory=list)
    """Verdicts that are not confirmed."""
    renewing: set[int] = field(default_factory=set)

    @property
    def leases(self) -> list[int]:
        """Those that it needs: records to judge, or verdicts that may have to be said again."""
        return sorted({*self.held, *(verdict.lease for verdict in self.said)})


class SharedMember:
    """One consumer, attached to every partition of the topic and of its dead-letter topic."""

    link: SharedLink

    def __init__(self, world: SharedScene, number: int) -> None:
        self.world = world
        self.name = f"s{number}"
        self.max_in_flight = world.random.choice((1, 5, 30))
        self.places: list[Place] = []
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether nothing is in its hands and nothing that it said is unconfirmed."""
        return not any(place.held or place.said for place in self.places)

    def begin(self) -> None:
        """Start."""
        self.places = [Place(*place) for place in self.world.places]
        self.link = self.world.link_of(self._again)
        self._again()
        self._beat()

    def stop(self) -> None:
        """Be quick and kind to every record from now on."""
        self._stopped = True

    def _refused(self, what: str, error: PenstockError, again: Callable[[], None]) -> None:
        """Try again what was refused."""
        assert error.retriable, f"{self.name} {what}: {error!r}"
        self.world.after(PAUSE, again)

    # ----- attaching

    def _again(self) -> None:
        for place in self.places:
            place.handle = 0
            place.attaching = place.acquiring = False
            self._attach(place)

    def _attach(self, place: Place) -> None:
        if place.attaching or place.handle:
            return
        place.attaching = True
        leases, asked = place.leases, self.world.now
        self.world.shared_truth.left(self.name, place.topic, place.partition, leases)
        ask = AttachGroup(
            topic=place.topic,
            partition=place.partition,
            group=GROUP,
            member=self.name,
            max_in_flight=self.max_in_flight,
            leases=leases,
        )
        self.link.ask(ask, lambda reply: self._attached(place, leases, asked, reply))

    def _attached(
        self,
        place: Place,
        leases: list[int],
        asked: float,
        reply: AttachGroupReply | PenstockError,
    ) -> None:
        place.attaching = False
        if isinstance(reply, PenstockError):
            self._refused("attaches", reply, lambda: self._attach(place))
            return
        place.handle = reply.handle
        truth = self.world.shared_truth
        truth.renewed(place.topic, place.partition, asked, leases, reply.lost)
        for lease in reply.lost:
            place.held.pop(lease, None)
        self._acquire(place)
        self._say_again(place)

    # ----- acquiring

    def _acquire(self, place: Place) -> None:
        free = self.max_in_flight - sum(map(len, place.held.values()))
        if place.acquiring or not place.handle or free < 1:
            return
        place.acquiring = True
        random = self.world.random
        wanted = Acquire(place.handle, random.randint(1, free), random.choice((1, 1 << 16)), 500)
        asked = self.world.now
        self.link.send(
            lambda correlation: leases.acquire_request(correlation, place.gid, wanted),
            lambda flags, reply: self._acquired(place, wanted, asked, flags, reply),
        )

    def _acquired(
        self, place: Place, wanted: Acquire, asked: float, flags: int, reply: bytes
    ) -> None:
        place.acquiring = False
        if flags & frames.FLAG_ERROR:
            self._refused("acquires", decode_error(reply[16:]), lambda: self._acquire(place))
            return
        found = leases.read_acquired(reply, 0, len(reply))
        if found.spans:
            truth = self.world.shared_truth
            told = truth.granted(self.name, place.topic, place.partition, found, asked)
            assert len(told) <= wanted.max_records, "more records came than were asked for"
            place.held[found.lease] = set(told)
            for offset in told:
                self._decide(place, found.lease, offset, found.lease_ms / 1000)
        self.world.after(self.world.random.random() * 0.01, lambda: self._acquire(place))

    def _decide(self, place: Place, lease: int, offset: int, lease_seconds: float) -> None:
        random = self.world.random
        [fate] = random.choices(_NAMES, _WEIGHTS)
        if self._stopped:
            fate = "ack"
        work = random.expovariate(50)
        if fate == "forget":
            self.world.after(lease_seconds * 3, lambda: self._forget(place, lease, offset))
            return
        if fate == "late":
            work = lease_seconds * 1.3
        elif fate == "long":
            work = lease_seconds * 2.5
            place.renewing.add(lease)
        self.world.after(work, lambda: self._say(place, lease, offset, fate))

    def _forget(self, place: Place, lease: int, offset: int) -> None:
        self._drop(place, lease, offset)
        self._acquire(place)

    @staticmethod
    def _drop(place: Place, lease: int, offset: int) -> bool:
        left = place.held.get(lease)
        if left is None or offset not in left:
            return False
        left.discard(offset)
        if not left:
            del place.held[lease]
            place.renewing.discard(lease)
        return True

    # ----- verdicts

    def _say(self, place: Place, lease: int, offset: int, fate: str) -> None:
        if not self._drop(place, lease, offset):
            return
        kind = {"nack": NACK, "nack_later": NACK, "reject": REJECT, "release": RELEASE}.get(
            fate, ACK
        )
        ready_at = self.world.wall_us + 300_000 if fate == "nack_later" else 0
        verdict = Verdict(lease, offset, 1, kind, ready_at, "" if kind == ACK else fate)
        self.world.shared_truth.said(place.topic, place.partition, verdict)
        place.said.append(verdict)
        self._settle(place, verdict)
        self._acquire(place)

    def _say_again(self, place: Place) -> None:
        """One by one, so that each answer says what became of it."""
        for verdict in place.said:
            self._settle(place, verdict)

    def _settle(self, place: Place, verdict: Verdict) -> None:
        if not place.handle:
            return
        handle = place.handle
        self.link.send(
            lambda correlation: leases.settle_request(correlation, place.gid, handle, [verdict]),
            lambda flags, reply: self._settled(place, verdict, flags, reply),
        )

    def _settled(self, place: Place, verdict: Verdict, flags: int, reply: bytes) -> None:
        if flags & frames.FLAG_ERROR:
            self._refused("settles", decode_error(reply[16:]), lambda: self._say_again(place))
            return
        answer = leases.read_settled(reply, 0, len(reply))
        if verdict in place.said:
            place.said.remove(verdict)
            self.world.shared_truth.confirmed(place.topic, place.partition, verdict, answer)

    # ----- now and then

    def _beat(self) -> None:
        random = self.world.random
        self.world.after(self.world.lease_seconds / 4, self._beat)
        for place in self.places:
            if place.handle and place.renewing:
                self._renew(place)
            elif random.random() < 0.05 and place.topic != self.world.topic:
                self._redrive(place)

    def _renew(self, place: Place) -> None:
        ask = RenewLeases(
            topic=place.topic,
            partition=place.partition,
            group=GROUP,
            member=self.name,
            leases=list(place.renewing),
        )

        asked, truth = self.world.now, self.world.shared_truth

        def answered(reply: RenewLeasesReply | PenstockError) -> None:
            if isinstance(reply, RenewLeasesReply):
                place.renewing.difference_update(reply.lost)
                truth.renewed(place.topic, place.partition, asked, ask.leases, reply.lost)

        self.link.ask(ask, answered)

    def _redrive(self, place: Place) -> None:
        found = self.world.held_runs(place.partition)
        if not found or self._stopped:
            return
        first = self.world.random.choice(found[::2])
        self.world.shared_truth.redriven(place.topic, place.partition, first)
        ask = Redrive(topic=place.topic, partition=place.partition, group=GROUP, spans=[first, 1])

        def answered(reply: RedriveReply | PenstockError) -> None:
            assert isinstance(reply, RedriveReply) or reply.retriable, f"redrive: {reply!r}"

        self.link.ask(ask, answered)
