"""Keeping leases alive while handlers work, however long the application keeps its own loop busy.

`Renewals` is shared by two threads: the application's, which adds and removes subscriptions, and a
second one that runs `keep` on a core of its own. The second thread only reads the ids of leases (a
copy of a dict's keys is one step of the interpreter) and only appends to a deque; what it found is
taken over when the application comes back for records. Invariant: a lease is renewed several times
before it can run out, or reported as lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from penstock._core.scheduler import Bell, Operation
from penstock.errors import PenstockError
from penstock.protocol.sharing import RenewLeases, RenewLeasesReply

if TYPE_CHECKING:
    from penstock._core.client import ClientCore
    from penstock._core.sharing.share import Share
    from penstock._core.sharing.shared_subscription import SharedSubscription

RENEW_PARTS: Final = 3
"""A lease is renewed when such a part of its time has passed."""
LOOKS: Final = 4
"""How often the leases are looked at in that time."""
LOOK_SECONDS_MIN: Final = 0.02
LOOK_SECONDS_MAX: Final = 5.0
LEASES_PER_REQUEST: Final = 10_000


class Renewals:
    """The leases of all shared subscriptions of a client."""

    def __init__(self) -> None:
        self._subscriptions: dict[SharedSubscription, None] = {}
        self._lost: deque[tuple[Share, list[int]]] = deque()
        self._alive: dict[Share, float] = {}
        """When the leases of a partition were last known to be good, in the other core's time."""
        self._running: set[Share] = set()
        self._bell: Bell | None = None

    # ----- in the application's thread

    def add(self, subscription: SharedSubscription) -> None:
        """Keep the leases of a subscription alive."""
        self._subscriptions[subscription] = None

    def remove(self, subscription: SharedSubscription) -> None:
        """Its leases may run out."""
        self._subscriptions.pop(subscription, None)

    def tell(self, subscription: SharedSubscription) -> None:
        """Take over which leases were found to be lost."""
        while self._lost:
            share, leases = self._lost.popleft()
            share.lose(leases)

    # ----- in the renewing thread

    def keep(self, core: ClientCore) -> Operation[None]:
        """Renew leases for ever, over the connections of a core that is used for nothing else."""
        core.pool.start()
        self._bell = Bell(core.scheduler)
        while True:
            pause = LOOK_SECONDS_MAX
            shares = self._shares()
            for share in shares:
                lifetime = share.lease_ms / 1000
                pause = min(pause, lifetime / RENEW_PARTS / LOOKS)
                self._look(core, share, lifetime)
            for share in self._alive.keys() - set(shares):
                del self._alive[share]
            yield self._bell.wait(core.scheduler.now + max(LOOK_SECONDS_MIN, pause))

    def look(self) -> None:
        """Have it look now: there is a subscription whose leases may be short."""
        if self._bell is not None:
            self._bell.ring()

    def _shares(self) -> list[Share]:
        return [
            share
            for subscription in list(self._subscriptions)
            for share in list(subscription.shares.values())
        ]

    def _look(self, core: ClientCore, share: Share, lifetime: float) -> None:
        leases = list(share.grants)
        now = core.scheduler.now
        if not leases:
            self._alive.pop(share, None)
            return
        since = self._alive.setdefault(share, now)
        if now - since >= lifetime:
            self._found_lost(share, leases)
            self._alive[share] = now
        elif now - since >= lifetime / RENEW_PARTS and share not in self._running:
            self._running.add(share)
            core.scheduler.spawn(self._renew(core, share, leases, lifetime))

    def _renew(
        self, core: ClientCore, share: Share, leases: list[int], lifetime: float
    ) -> Operation[None]:
        began = core.scheduler.now
        try:
            yield from core.metadata.ensure(share.topic)
            for start in range(0, len(leases), LEASES_PER_REQUEST):
                request = RenewLeases(
                    topic=share.topic,
                    partition=share.partition,
                    group=share.group,
                    member=share.member,
                    leases=leases[start : start + LEASES_PER_REQUEST],
                )
                leader = core.metadata.leader(share.topic, share.partition)
                reply = yield from core.requests.call(
                    request, RenewLeasesReply, node=leader, timeout=lifetime / RENEW_PARTS
                )
                if reply.lost:
                    self._found_lost(share, reply.lost)
            self._alive[share] = began
        except PenstockError:
            core.metadata.refresh(share.topic)
        finally:
            self._running.discard(share)

    def _found_lost(self, share: Share, leases: list[int]) -> None:
        self._lost.append((share, leases))
        # The loop asks for more before it hands out another record, and learns of it then.
        share.interrupt()
