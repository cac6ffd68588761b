"""What the node knows of one client connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.protocol.batch import Buffer

if TYPE_CHECKING:
    from penstock_broker.node.link import Link
    from penstock_broker.node.polls import Poll
    from penstock_broker.node.sharing.members import Attachment
    from penstock_broker.node.sharing.waiting import Asked

CREDIT_BYTES: Final = 16 * 1024 * 1024
"""Unanswered published bytes per connection after which it is not read any more."""

OUTPUT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Unsent reply bytes per connection after which its requests wait."""

OUTPUT_BYTES_PER_ROUND: Final = 32 * 1024 * 1024
"""Reply bytes after which further requests wait for the next round."""

OUTPUT_BYTES_TOTAL_MAX: Final = 256 * 1024 * 1024
"""Unsent reply bytes of all connections; beyond it the slowest readers are disconnected."""


class Session:
    """One connection: the output queue and the limits that apply to it."""

    __slots__ = (
        "acquires",
        "attachments",
        "closing",
        "fd",
        "handles",
        "id",
        "link",
        "name",
        "out",
        "peer",
        "polls",
        "publishes",
        "queued",
        "reading_bytes",
        "ready",
        "relayed",
        "reserved",
        "since",
        "unanswered_bytes",
        "unsent_bytes",
    )

    def __init__(self, id_: int, fd: int, peer: str, since: float) -> None:
        self.id = id_
        self.fd = fd
        """The runtime's handle of the connection; the node only passes it back."""
        self.peer = peer
        self.name = ""
        self.since = since
        self.ready = False
        """The hello was exchanged."""
        self.link: Link | None = None
        """What it is for, if the other end is no client."""
        self.reserved = False
        """Whether it is beyond the limit of connections: only another broker may have it."""
        self.relayed = False
        """Whether another node sends requests on it: they are not passed on a second time."""
        self.closing = False
        """Nothing more is read; closed once the output is sent."""
        self.out: list[Buffer] = []
        self.queued = False
        self.publishes = False
        """Whether it has published: only such a connection waits for a slow disk."""
        self.unanswered_bytes = 0
        self.unsent_bytes = 0
        """Reply bytes that the peer has not taken, and those that cold reads will bring."""
        self.reading_bytes = 0
        """Of these, what cold reads in a thread will bring."""
        self.polls: dict[Poll, None] = {}
        """Its fetches that wait for records."""
        self.acquires: dict[Asked, None] = {}
        """Its acquires that wait for records."""
        self.handles = 0
        """The last handle that was given out."""
        self.attachments: dict[int, Attachment] = {}
        """Members of shared groups that acquire over it, by handle."""

    @property
    def readable(self) -> bool:
        """Whether the runtime should go on reading this connection."""
        if self.link is not None:
            return not self.closing
        return (
            not self.closing
            and self.unanswered_bytes < CREDIT_BYTES
            and self.unsent_bytes < OUTPUT_BYTES_MAX
        )
