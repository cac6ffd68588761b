"""The hello between nodes: who dials whom, for which channel, and whether they belong together."""

from __future__ import annotations

from typing import Final

from msgspec import field

from penstock.errors import (
    BadRequest,
    PenstockError,
    RemoteProtocolError,
    UnsupportedVersion,
    WrongCluster,
)
from penstock.protocol.batch import Buffer
from penstock.protocol.codec import decode_error, decode_reply, decode_request
from penstock.protocol.frames import FLAG_ERROR, FRAME_HEADER, FRAME_HEADER_BYTES
from penstock.protocol.messages import Message, reply, request
from penstock_broker.node.peers.frames import PEER_HELLO, Channel

MAGIC: Final = "penstock-peer"
VERSION_MIN: Final = 1
VERSION_MAX: Final = 1
TEXT_MAX: Final = 1000
NODE_MAX: Final = 2**63 - 1


@request(PEER_HELLO)
class PeerHello(Message, frozen=True, kw_only=True):
    """The first frame of a connection between nodes."""

    magic: str
    version_min: int
    version_max: int
    cluster: str
    """Empty: the node that dials belongs to none."""
    uuid: str
    """Of its data directory, hexadecimal."""
    node: int
    """Its id, 0 while it has none."""
    address: str
    """Where it is to be dialled."""
    host: str
    channel: int
    to_node: int
    """Whom it wants to reach; 0: whoever is there."""
    life: int = 0
    """A number of this life of its process."""
    opened: int = 0
    """The mark of its disk when this life began."""
    marks: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Other nodes -> life and mark, as far as it knows them."""


@reply(PEER_HELLO)
class PeerHelloReply(Message, frozen=True, kw_only=True):
    """The node that was dialled agrees."""

    version: int
    cluster: str
    uuid: str
    node: int
    address: str
    host: str


def decode_hello(body: Buffer) -> PeerHello:
    """Read and check what does not depend on who we are.

    Raises:
        RemoteProtocolError: it is no hello of a node.
    """
    try:
        hello = decode_request(PEER_HELLO, body)
    except BadRequest as error:
        raise RemoteProtocolError(f"the hello of a node is malformed: {error}") from error
    assert isinstance(hello, PeerHello)
    if hello.magic != MAGIC or hello.channel not in list(Channel):
        raise RemoteProtocolError("the hello of a node is malformed")
    _check_bounds(hello)
    return hello


def decode_answer(buffer: memoryview, start: int, end: int) -> PeerHelloReply:
    """Read the answer to a hello.

    Raises:
        RemoteProtocolError: it is none.
        PenstockError: the other node refuses.
    """
    _, type_, flags, _, _, _ = FRAME_HEADER.unpack_from(buffer, start)
    body = buffer[start + FRAME_HEADER_BYTES : end]
    if flags & FLAG_ERROR:
        raise decode_error(body)
    if type_ != PEER_HELLO:
        raise RemoteProtocolError(f"a frame of type 0x{type_:02x} is no answer to a hello")
    answer = decode_reply(PEER_HELLO, body)
    assert isinstance(answer, PeerHelloReply)
    _check_bounds(answer)
    return answer


def _check_bounds(said: PeerHello | PeerHelloReply) -> None:
    texts = (said.cluster, said.uuid, said.address, said.host)
    if max(map(len, texts)) > TEXT_MAX or not 0 <= said.node <= NODE_MAX:
        raise RemoteProtocolError("a field of a node's hello is out of its range")


def agree(hello: PeerHello) -> int:
    """The version to speak.

    Raises:
        UnsupportedVersion: there is none in common.
    """
    version = min(hello.version_max, VERSION_MAX)
    if version < max(hello.version_min, VERSION_MIN):
        raise UnsupportedVersion(
            f"the node speaks versions {hello.version_min} to {hello.version_max}, "
            f"this one {VERSION_MIN} to {VERSION_MAX}"
        )
    return version


def refusal(
    said: PeerHello | PeerHelloReply, *, cluster: str, uuid: str, node: int
) -> PenstockError | None:
    """Why who said this can't be a peer of the node with this identity; None: it can."""
    if said.uuid == uuid:
        return WrongCluster("the other node has the data directory of this one, or a copy of it")
    if said.cluster and cluster and said.cluster != cluster:
        return WrongCluster(
            f"the node belongs to cluster {said.cluster}, this one to {cluster}",
            cluster=cluster,
        )
    if not said.node:
        return WrongCluster("the node has no id in the cluster yet")
    if said.node == node:
        return WrongCluster(f"both nodes have the id {node}")
    return None
