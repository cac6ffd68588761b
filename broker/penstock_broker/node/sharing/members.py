"""Members of a shared group in one partition: who is attached, and how much each one holds.

What a member holds is derived from its leases in the replicated state, looked at again whenever one
of them was touched; beside it stands only what was handed out and is not applied yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_broker.node.sharing.spans import Spans

if TYPE_CHECKING:
    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.dispatch import Dispatcher


class Member:
    """One member.

    Attributes:
        claimed: records handed out to it, or being read for it, without an applied grant.
        epoch: of its last attach; a lower one was sent before, and comes late.
        flying: lease -> spans of grants that are proposed and not applied.
    """

    __slots__ = ("_held", "attachment", "claimed", "epoch", "flying", "held", "host",
                 "in_flight_max", "name")  # fmt: skip

    def __init__(self, name: str, host: str, in_flight_max: int) -> None:
        self.name = name
        self.host = host
        self.in_flight_max = in_flight_max
        self.attachment: Attachment | None = None
        self.claimed = 0
        self.epoch = 0
        self.flying: dict[int, Spans] = {}
        self.held = 0
        """Records under its applied leases."""
        self._held: dict[int, int] = {}

    @property
    def leases(self) -> list[int]:
        """Its leases, those included whose grant is not applied."""
        return [*self._held, *self.flying]

    def hold(self, lease: int, left: int) -> None:
        """A lease holds so many records now; 0: it is over."""
        before = self._held.pop(lease, 0)
        if left:
            self._held[lease] = left
        self.held += left - before

    @property
    def idle(self) -> bool:
        """Whether nothing needs to be known of it any more."""
        return self.attachment is None and not self._held and not self.claimed


class Attachment:
    """A member's right to acquire over one connection, named by a handle."""

    __slots__ = ("dispatcher", "gid", "handle", "member", "session")

    def __init__(self, dispatcher: Dispatcher, session: Session, member: Member) -> None:
        self.dispatcher = dispatcher
        self.gid = dispatcher.shared.partition.gid
        self.session = session
        self.member = member
        session.handles += 1
        self.handle = session.handles
        session.attachments[self.handle] = self
        member.attachment = self

    def end(self) -> None:
        """It may acquire no more; what it holds stays as it is."""
        self.session.attachments.pop(self.handle, None)
        if self.member.attachment is self:
            self.member.attachment = None

    def disconnected(self) -> None:
        """The connection is gone."""
        self.end()
        self.dispatcher.lost(self.member)
