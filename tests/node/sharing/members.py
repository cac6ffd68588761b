"""Members of shared groups for tests: they speak the frames of one connection each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.protocol import frames, leases
from penstock.protocol.batch import iterate, next_offset
from penstock.protocol.codec import decode_error
from penstock.protocol.leases import ACK, Acquire, Acquired, Settled, Verdict
from penstock.protocol.sharing import (
    AlterGroup,
    AttachGroup,
    AttachGroupReply,
    CreateGroup,
    DetachGroup,
    RenewLeases,
)
from tests.node.harness import Client, Harness

GROUP = "billing"


def create(node: Harness, topic: str = "orders", start: int = -2, **settings: Any) -> Any:
    """Create the group on a topic."""
    asked = CreateGroup(topic=topic, group=GROUP, settings=settings, start=start)
    return node.client().ask(asked).group


def alter(node: Harness, topic: str = "orders", **settings: object) -> Any:
    """Change settings of the group."""
    return node.client().ask(AlterGroup(topic=topic, group=GROUP, settings=settings)).group


class Member:
    """One member, attached to one partition."""

    def __init__(
        self,
        node: Harness,
        name: str = "m1",
        *,
        topic: str = "orders",
        held: Sequence[int] = (),
        in_flight: int = 100,
        client: Client | None = None,
    ) -> None:
        self.node = node
        self.name = name
        self.topic = topic
        self.client = client or node.client()
        self.attached: AttachGroupReply = self.attach(held, in_flight)

    def attach(
        self, held: Sequence[int] = (), in_flight: int = 100, epoch: int = 0
    ) -> AttachGroupReply:
        """Attach, or attach again."""
        reply = self.client.ask(
            AttachGroup(
                topic=self.topic, partition=0, group=GROUP, member=self.name, host="here",
                max_in_flight=in_flight, leases=list(held), epoch=epoch,
            )
        )  # fmt: skip
        assert isinstance(reply, AttachGroupReply)
        self.gid, self.handle = reply.group_id, reply.handle
        return reply

    def ask(self, records: int = 100, wait_ms: int = 0, **limits: Any) -> None:
        """Send an acquire without letting the round end."""
        self.client.correlation += 1
        wanted = Acquire(
            self.handle, records, limits.get("max_bytes", 1 << 20), wait_ms, limits.get("have", ())
        )
        self.client.send(leases.acquire_request(self.client.correlation, self.gid, wanted))

    def acquire(self, records: int = 100, wait_ms: int = 0, **limits: Any) -> Acquired:
        """Acquire and take the answer."""
        self.ask(records, wait_ms, **limits)
        self.node.pump()
        return self.acquired()

    def acquired(self) -> Acquired:
        """The answer to the acquire that waits."""
        ((frame, data),) = self.client.take()
        assert frame.type == leases.ACQUIRE
        if frame.flags & frames.FLAG_ERROR:
            raise decode_error(data[16:])
        return leases.read_acquired(data, 0, len(data))

    def tell(
        self, lease: int, spans: Sequence[tuple[int, int]], verdict: int = ACK, **more: Any
    ) -> None:
        """Send a settle without letting the round end."""
        self.client.correlation += 1
        said = [Verdict(lease, first, count, verdict, **more) for first, count in spans]
        self.client.send(
            leases.settle_request(self.client.correlation, self.gid, self.handle, said)
        )

    def settle(
        self, lease: int, spans: Sequence[tuple[int, int]], verdict: int = ACK, **more: Any
    ) -> Settled:
        """Settle and take the answer."""
        self.tell(lease, spans, verdict, **more)
        self.node.pump()
        return self.settled()

    def settled(self) -> Settled:
        """The answer to the settle that waits."""
        ((frame, data),) = self.client.take()
        assert frame.type == leases.SETTLE
        if frame.flags & frames.FLAG_ERROR:
            raise decode_error(data[16:])
        return leases.read_settled(data, 0, len(data))

    def ack_all(self, got: Acquired) -> Settled:
        """Acknowledge all of a lease."""
        return self.settle(got.lease, runs(got))

    def renew(self, *held: int, extend_ms: int = 0) -> list[int]:
        """Renew leases over another connection; returns those that are lost."""
        lost = self.node.client().ask(
            RenewLeases(
                topic=self.topic, partition=0, group=GROUP, member=self.name, leases=list(held),
                extend_ms=extend_ms,
            )
        ).lost  # fmt: skip
        assert isinstance(lost, list)
        return lost

    def leave(self) -> None:
        """Detach."""
        asked = DetachGroup(topic=self.topic, partition=0, group=GROUP, member=self.name)
        self.client.ask(asked)

    def disconnect(self) -> None:
        """The connection breaks."""
        self.node.node.disconnected(self.client.session)
        self.node.pump()


def runs(got: Acquired) -> list[tuple[int, int]]:
    """The spans of an answer, without counters."""
    return [(span.first, span.records) for span in got.spans]


def offsets(got: Acquired) -> list[int]:
    """The offsets of an answer."""
    return [offset for first, count in runs(got) for offset in range(first, first + count)]


def batches(got: Acquired) -> list[tuple[int, int]]:
    """Base offset and next offset of each batch in an answer."""
    run = bytes(got.run)
    return [
        (header.base_offset, next_offset(run[at : at + header.length], header))
        for at, header in iterate(run)
    ]


def counters(got: Acquired) -> list[tuple[int, ...]]:
    """Delivered, failed, timed out and redriven of each span."""
    return [span[2:] for span in got.spans]
