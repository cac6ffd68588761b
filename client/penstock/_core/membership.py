"""Being a member of an ordered group: join, heartbeat, revocation, commit, leave.

The broker says what the member owns and what it is to let go. Letting go takes three steps: hand
out nothing more, wait until the application has finished what is in its hands (it shows by coming
back for more; at most one session), commit, and then confirm in a heartbeat. Invariants: nothing
is committed for a partition that was confirmed as released; an answer older than the newest is
ignored; after a session without any answer nothing more is handed out, since others may own it.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final

from penstock._core.naming import member_id
from penstock._core.positions import EARLIEST, exact_offset, resolvable
from penstock._core.reader import Reader
from penstock._core.requests import Requests
from penstock._core.scheduler import Bell, Operation, Process, log
from penstock.errors import (
    Fenced,
    GroupNotFound,
    MemberUnknown,
    PenstockError,
    RebalanceInProgress,
    RetriableError,
)
from penstock.protocol.messages import (
    Assignment,
    CommitOffsets,
    CommitOffsetsReply,
    GroupHeartbeat,
    GroupHeartbeatReply,
    JoinGroup,
    JoinGroupReply,
    LeaveGroup,
    LeaveGroupReply,
)

if TYPE_CHECKING:
    from penstock._core.subscription import Offsets, Subscription

LEAVE_SECONDS: Final = 2.0
EXPELLED: Final = (MemberUnknown, Fenced, GroupNotFound)


class Membership:
    """One member of an ordered group."""

    def __init__(
        self, subscription: Subscription, requests: Requests, group: str, session_timeout: float
    ) -> None:
        self._subscription = subscription
        self._scheduler = subscription.scheduler
        self._requests = requests
        self._session = session_timeout
        self.group = group
        self.member = member_id(subscription.options.name, self._scheduler.rng)
        self.generation = 0
        self._interval = session_timeout / 4
        self._heard_at = 0.0
        self._bell = Bell(self._scheduler)
        self._revoking: dict[tuple[str, int], float] = {}
        """Partition -> when it is let go even if the application does not come back."""
        self._released: set[tuple[str, int]] = set()
        self._look_again = False
        self._processes: list[Process[None]] = []

    # ----- life

    def join(self) -> Operation[None]:
        """Join and begin to heartbeat.

        Raises:
            PenstockError: the broker refused, or could not be reached in time.
        """
        yield from self._join()
        spawn = self._scheduler.spawn
        self._processes = [spawn(self._keep_alive(), essential=True)]
        if self._subscription.auto_commit:
            self._processes.append(spawn(self._commit_regularly(), essential=True))

    def leave(self) -> Operation[None]:
        """Commit what was processed if that is automatic, and leave; bounded in time."""
        self.stop()
        if self._subscription.auto_commit:
            yield from self._try_commit(self._progress())
        request = LeaveGroup(group=self.group, member=self.member, generation=self.generation)
        with suppress(PenstockError):
            yield from self._requests.call(
                request, LeaveGroupReply, home=self._home, timeout=LEAVE_SECONDS
            )

    def stop(self) -> None:
        """End the background processes."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.cancel()

    def progressed(self) -> None:
        """The application came back: what is revoked may be free now."""
        if self._revoking:
            self._look()

    # ----- committing

    def commit(self) -> Operation[None]:
        """Commit what was processed and is not committed yet.

        Raises:
            Fenced, MemberUnknown: it was lost, and will be read again by its new owner.
        """
        try:
            yield from self.commit_exactly(self._progress())
        except (Fenced, RebalanceInProgress):
            # Given anew meanwhile, by a seek or a rebalance: learn what holds now, then commit
            # the progress on that; progress on what was lost is gone.
            yield from self._beat()
            yield from self.commit_exactly(self._progress())

    def commit_exactly(self, offsets: Offsets, timeout: float | None = None) -> Operation[None]:
        """Commit these offsets."""
        if not offsets:
            return
        request = CommitOffsets(
            group=self.group, member=self.member, generation=self.generation, offsets=offsets
        )
        yield from self._requests.call(
            request, CommitOffsetsReply, home=self._home, timeout=timeout
        )
        for topic, positions in offsets.items():
            for partition, offset in positions.items():
                reader = self._subscription.readers.get((topic, partition))
                if reader is not None:
                    reader.committed = offset

    def _progress(self, *only: Reader) -> Offsets:
        found: Offsets = {}
        for reader in only or self._subscription.readers.values():
            if reader.processed >= 0 and reader.processed != reader.committed:
                found.setdefault(reader.topic, {})[reader.partition] = reader.processed
        return found

    def _try_commit(self, offsets: Offsets) -> Operation[None]:
        """Commit without an application that could be told of a failure."""
        try:
            yield from self.commit_exactly(offsets, timeout=self._session / 3)
        except PenstockError as error:
            log.warning("group %s: a commit failed: %s", self.group, error)
            self._subscription.events.add("commit_failed", group=self.group, error=str(error))

    def _commit_regularly(self) -> Operation[None]:
        while True:
            yield self._scheduler.sleep(self._subscription.commit_interval)
            self._subscription.delivery.noticed()
            yield from self._try_commit(self._progress())

    # ----- the session

    @property
    def _home(self) -> str:
        return f"group {self.group}"

    def _join(self) -> Operation[None]:
        subscription = self._subscription
        exact = exact_offset(subscription.start) is not None
        request = JoinGroup(
            group=self.group,
            member=self.member,
            topics=list(subscription.topics),
            session_timeout_ms=int(self._session * 1000),
            host=subscription.options.host,
            start=EARLIEST if exact else resolvable(subscription.start, self._scheduler.wall_us),
        )
        reply = yield from self._requests.call(request, JoinGroupReply, home=self._home)
        self._interval = min(reply.heartbeat_ms / 1000, self._session / 2)
        self._heard_at = self._scheduler.now
        self.generation = 0
        self._released.clear()
        subscription.events.add("joined", group=self.group, member=self.member)
        self._apply(reply.assignment, reply.offsets)

    def _keep_alive(self) -> Operation[None]:
        beat_at = self._scheduler.now + self._interval
        while True:
            if not self._look_again:
                yield self._bell.wait(min(beat_at, *self._revoking.values(), inf))
            self._look_again = False
            yield from self._let_go()
            if self._released or self._scheduler.now >= beat_at:
                yield from self._beat()
                beat_at = self._scheduler.now + self._interval

    def _beat(self) -> Operation[None]:
        released = _by_topic(self._released)
        request = GroupHeartbeat(
            group=self.group, member=self.member, generation=self.generation, released=released
        )
        try:
            reply = yield from self._requests.call(
                request, GroupHeartbeatReply, home=self._home, timeout=self._session / 2
            )
        except EXPELLED as error:
            yield from self._rejoin(error)
        except RetriableError as error:
            if self._scheduler.now - self._heard_at >= self._session:
                yield from self._rejoin(error)
        except PenstockError as error:
            self._subscription.fail(error)
        else:
            self._heard_at = self._scheduler.now
            self._apply(reply.assignment, reply.offsets)

    def _rejoin(self, reason: PenstockError) -> Operation[None]:
        subscription = self._subscription
        subscription.events.add("membership_lost", group=self.group, error=str(reason))
        for reader in list(subscription.readers.values()):
            subscription.drop(reader)
        self._revoking.clear()
        while True:
            try:
                yield from self._join()
            except RetriableError:
                continue
            except PenstockError as error:
                subscription.fail(error)
            return

    # ----- the assignment

    def _apply(self, assignment: Assignment, offsets: Offsets) -> None:
        if assignment.generation < self.generation:
            return
        self.generation = assignment.generation
        subscription = self._subscription
        owned = _flat(assignment.owned)
        revoked = _flat(assignment.revoked)
        for key, reader in list(subscription.readers.items()):
            if key not in owned and key not in revoked:
                self._lose(key, reader)
        self._released &= revoked
        for key in revoked:
            self._revoke(key)
        for topic, partition in sorted(owned):
            self._take(topic, partition, offsets.get(topic, {}).get(partition))
        if self._released or self._revoking:
            self._look()

    def _look(self) -> None:
        """Have the session's process look at once, even if it is in the middle of a request."""
        self._look_again = True
        self._bell.ring()

    def _take(self, topic: str, partition: int, offset: int | None) -> None:
        subscription = self._subscription
        reader = subscription.readers.get((topic, partition))
        if reader is None:
            subscription.begin(topic, partition, offset)
            subscription.events.add("assigned", topic=topic, partition=partition, offset=offset)
        elif offset is not None:
            # Given anew: somebody moved the group's position.
            reader.committed = offset
            reader.revoked = False
            subscription.reposition(reader, offset)
        elif reader.revoked:
            self._revoking.pop((topic, partition), None)
            subscription.drop(reader)
            subscription.begin(
                topic, partition, reader.processed if reader.processed >= 0 else None
            )
            subscription.readers[topic, partition].committed = None

    def _revoke(self, key: tuple[str, int]) -> None:
        reader = self._subscription.readers.get(key)
        if reader is None:
            self._released.add(key)
        elif not reader.revoked:
            self._subscription.revoke(reader)
            self._revoking[key] = self._scheduler.now + self._session
            self._subscription.events.add("revoked", topic=key[0], partition=key[1])

    def _lose(self, key: tuple[str, int], reader: Reader) -> None:
        self._revoking.pop(key, None)
        self._subscription.drop(reader)
        self._subscription.events.add("revoked", topic=key[0], partition=key[1])

    def _let_go(self) -> Operation[None]:
        """Release the revoked partitions that the application is done with."""
        subscription, now = self._subscription, self._scheduler.now
        for key, limit in list(self._revoking.items()):
            reader = subscription.readers.get(key)
            if reader is None:
                self._revoking.pop(key, None)
                continue
            if subscription.delivery.holds(reader) and now < limit:
                continue
            if subscription.auto_commit:
                yield from self._try_commit(self._progress(reader))
            if reader.revoked and self._revoking.pop(key, None) is not None:
                subscription.drop(reader)
                self._released.add(key)


def _flat(nested: dict[str, list[int]]) -> set[tuple[str, int]]:
    return {(topic, partition) for topic, numbers in nested.items() for partition in numbers}


def _by_topic(keys: set[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, partition in sorted(keys):
        found.setdefault(topic, []).append(partition)
    return found
