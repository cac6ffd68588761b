"""Requests about the cluster itself: forming it, joining it.

They follow the rules of `penstock.protocol.messages`, whose registries they are in.
"""

from __future__ import annotations

from msgspec import field

from penstock.protocol.messages import Message, reply, request


@request(0x60)
class InitCluster(Message, frozen=True, kw_only=True):
    """Forms a cluster of this broker; those that were started to join it follow by themselves."""

    force: bool = False
    """Also while a broker that is to join can't be reached: it may belong to a cluster already."""


@reply(0x60)
class InitClusterReply(Message, frozen=True, kw_only=True):
    """The cluster is formed."""

    cluster: str
    node: int
    """This broker's id in it."""


@request(0x61)
class JoinCluster(Message, frozen=True, kw_only=True):
    """A broker without a cluster asks another one to take it in; harmless to repeat."""

    uuid: str
    """Of its data directory, hexadecimal: a wiped directory is another node."""
    address: str
    """Where it is to be reached."""
    host: str = ""
    """Label of its machine."""


@reply(0x61)
class JoinClusterReply(Message, frozen=True, kw_only=True):
    """What the broker that asked is from now on."""

    cluster: str
    """Empty: the broker that answers belongs to no cluster itself."""
    uuid: str
    """Of the broker that answers: a list of brokers to join may name the asking one too."""
    node: int = 0
    """The id for the broker that asked."""
    nodes: dict[int, str] = field(default_factory=dict)
    """Addresses of all nodes."""
