from __future__ import annotations

from itertools import pairwise

import pytest

from penstock.errors import PenstockError, RemoteProtocolError, WrongCluster
from penstock.protocol.codec import decode_error, encode_message
from penstock.protocol.frames import FLAG_ERROR, FRAME_HEADER, FRAME_HEADER_BYTES
from penstock.protocol.messages import BrokerStatus
from penstock_broker.node.peers.frames import HEARTBEAT_TABLE, Channel
from penstock_broker.node.peers.hello import MAGIC, PeerHello
from penstock_broker.node.peers.inlet import Inlet
from penstock_broker.node.peers.line import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN
from penstock_broker.node.peers.peers import ALIVE_SECONDS, SILENT_SECONDS_MAX
from penstock_broker.node.session import Session
from penstock_broker.raft import VoteRequest
from tests.node.cluster import Cluster, Member


@pytest.fixture(scope="module")
def formed() -> Cluster:
    """For tests that change nothing that lasts."""
    return Cluster(3)


def hello(**said: object) -> PeerHello:
    usual: dict[str, object] = {
        "magic": MAGIC, "version_min": 1, "version_max": 1, "cluster": "cluster", "uuid": "ab" * 16,
        "node": 9, "address": "n9:7400", "host": "h", "channel": 0, "to_node": 1,
    }  # fmt: skip
    return PeerHello(**{**usual, **said})  # type: ignore[arg-type]  # a test says wrong things too


def greet(member: Member, said: PeerHello) -> tuple[Session, int, bytes]:
    """Say hello as a node; returns the session, the flags of the answer, and its body."""
    session = member.session("stranger")
    data = encode_message(said, 5)
    used, _ = member.node.receive(session, memoryview(data), len(data), False)
    assert used == len(data)
    answer = b"".join(session.out)
    length, type_, flags, _, correlation, _ = FRAME_HEADER.unpack_from(answer)
    assert (length, type_, correlation) == (len(answer), 0x70, 5)
    return session, flags, answer[FRAME_HEADER_BYTES:]


def refusal(member: Member, said: PeerHello) -> PenstockError:
    session, flags, body = greet(member, said)
    assert flags & FLAG_ERROR
    assert session.closing
    assert session.link is None
    member.node.disconnected(session)
    return decode_error(body)


def test_every_node_is_connected_to_every_other_one(formed: Cluster) -> None:
    for number, member in formed.members.items():
        peers = member.node.peers.all()

        assert set(peers) == {1, 2, 3} - {number}
        for peer in peers.values():
            assert peer.connected
            assert all(line.up for line in peer.lines)
            assert all(isinstance(inlet.link, Inlet) for inlet in peer.inlets if inlet)
            assert all(peer.inlets)
    assert not formed.errors


def test_a_node_of_another_cluster_is_refused(formed: Cluster) -> None:
    error = refusal(formed.members[1], hello(cluster="other"))

    assert isinstance(error, WrongCluster)
    assert error.detail["cluster"] == "cluster"


def test_a_copy_of_the_directory_of_a_node_that_is_alive_is_refused() -> None:
    cluster = Cluster(3)
    member = cluster.members[1]
    peer = member.node.peers.all()[2]
    uuid, address = cluster.members[2].node.store.node_uuid.hex(), peer.address
    copy = hello(uuid=uuid, node=2, address="copy:7400")

    error = refusal(member, copy)

    assert isinstance(error, WrongCluster)
    assert address in str(error)
    assert peer.address == address
    assert peer.connected
    cluster.kill(2)
    _, flags, _ = greet(member, copy)
    assert not flags & FLAG_ERROR
    assert peer.address == "copy:7400"


def test_a_copy_of_our_data_directory_is_refused(formed: Cluster) -> None:
    uuid = formed.members[1].node.store.node_uuid.hex()

    assert isinstance(refusal(formed.members[1], hello(uuid=uuid)), WrongCluster)


@pytest.mark.parametrize("said", [{"to_node": 2}, {"node": 0}, {"node": 1}])
def test_a_node_that_wants_somebody_else_is_refused(
    formed: Cluster, said: dict[str, object]
) -> None:
    assert isinstance(refusal(formed.members[1], hello(**said)), WrongCluster)


def test_a_node_of_another_version_is_told_so(formed: Cluster) -> None:
    error = refusal(formed.members[1], hello(version_min=2, version_max=3))

    assert error.code == 35


@pytest.mark.parametrize(
    "said",
    [{"magic": "penstock"}, {"channel": 3}, {"channel": -1}, {"node": -1}, {"address": "x" * 1001}],
)
def test_what_is_no_hello_closes_the_connection(formed: Cluster, said: dict[str, object]) -> None:
    data = encode_message(hello(**said), 5)
    member = formed.members[1]

    with pytest.raises(RemoteProtocolError):
        member.node.receive(member.session("x"), memoryview(data), len(data), False)


def test_a_node_that_the_metadata_does_not_name_yet_is_dialled_where_it_says() -> None:
    cluster = Cluster(1)
    member = cluster.members[1]

    _, flags, _ = greet(member, hello())

    assert not flags & FLAG_ERROR
    assert [(dial.key, dial.address) for dial in member.node.dials()] == [(9, "n9:7400")]


def test_frames_of_a_peer_are_known_to_come_from_it_whatever_they_say(formed: Cluster) -> None:
    member = formed.members[1]
    peer = member.node.peers.all()[2]
    session = peer.inlets[Channel.CONTROL]
    assert session is not None
    damaged = bytearray(HEARTBEAT_TABLE.pack((1, 0), ((), (), ())))
    damaged[20] ^= 1

    for data in (bytes(damaged), FRAME_HEADER.pack(16, 0x6F, 0, 0, 0, 0)):
        with pytest.raises(RemoteProtocolError):
            member.node.receive(session, memoryview(data), len(data), False)


def test_a_client_may_not_say_what_nodes_say(formed: Cluster) -> None:
    client = formed.members[1].client()
    frame = HEARTBEAT_TABLE.pack((1, 0), ((), (), ()))

    client.send(frame)
    client.send(encode_message(hello(), 7))

    found = [frame.flags & FLAG_ERROR for frame, _ in client.take()]
    assert found == [FLAG_ERROR, FLAG_ERROR]


def test_a_malformed_frame_costs_the_connection_and_no_more() -> None:
    cluster = Cluster(3)
    peer = cluster.members[2].node.peers.all()[1]
    session = peer.control.session
    assert session is not None

    cluster.members[2].node.peers.emit(session, [FRAME_HEADER.pack(16, 0x73, 0, 0, 0, 0)])
    cluster.advance(0.5)

    assert len(cluster.errors) == 1
    assert cluster.members[1].node.peers.alive(2)
    assert peer.connected
    assert peer.control.session is not session


def test_a_process_that_ends_is_known_to_be_gone_at_once() -> None:
    cluster = Cluster(3)
    seen: list[int] = []
    cluster.members[1].node.peers.watchers.append(seen.append)
    assert cluster.members[1].node.peers.alive(3)

    cluster.kill(3)

    assert set(seen) == {3}
    assert not cluster.members[1].node.peers.alive(3)
    assert cluster.members[1].node.peers.alive(1)
    assert not cluster.members[1].node.peers.alive(99)


def test_groups_that_a_dead_process_led_have_another_leader_soon() -> None:
    cluster = Cluster(3)
    gids = cluster.topic(partitions=6)
    cluster.advance(1.0)
    dead = cluster.leader(gids[0]).number

    cluster.kill(dead)
    began = cluster.clock
    leaders = {cluster.leader(gid).number for gid in gids}

    assert dead not in leaders
    assert cluster.clock - began < 0.8


def test_a_node_that_is_cut_off_is_not_alive_and_its_connections_are_given_up() -> None:
    cluster = Cluster(3)
    peers = cluster.members[1].node.peers
    session = peers.all()[3].control.session

    cluster.isolate(3)
    cluster.advance(ALIVE_SECONDS + 0.2)
    assert not peers.alive(3)
    assert peers.all()[3].control.session is session

    cluster.advance(SILENT_SECONDS_MAX)
    assert peers.all()[3].control.session is not session
    assert peers.alive(2)

    cluster.heal()
    cluster.advance(PAUSE_SECONDS_MAX + 0.5)
    assert peers.alive(3)
    assert all(peer.connected for peer in peers.all().values())


def test_who_can_not_be_reached_is_dialled_less_and_less_often() -> None:
    cluster = Cluster(3)
    cluster.kill(3)
    node = cluster.members[1].node
    at: list[float] = []

    while len(at) < 12:
        cluster.clock += 0.01
        node.now(cluster.wall_us, cluster.clock)
        for dial in node.peers.dials():
            assert (dial.key, dial.channel) == (3, Channel.CONTROL)
            at.append(cluster.clock)
            node.peers.dial_failed(dial)

    pauses = [later - before for before, later in pairwise(at)]
    assert pauses[0] <= PAUSE_SECONDS_MIN * 4 + 0.02
    assert pauses[-1] > 0.9
    assert max(pauses) <= PAUSE_SECONDS_MAX + 0.02


def test_a_node_that_comes_back_is_dialled_at_once() -> None:
    cluster = Cluster(3)
    cluster.kill(3)
    cluster.advance(20.0)

    cluster.restart(3)
    cluster.advance(0.1)

    assert cluster.members[1].node.peers.all()[3].control.up


def test_a_newer_connection_of_a_node_replaces_the_older_one(formed: Cluster) -> None:
    member = formed.members[1]
    peer = member.node.peers.all()[2]
    before = peer.inlets[Channel.BULK]
    uuid = formed.members[2].node.store.node_uuid.hex()

    session, flags, _ = greet(
        member, hello(node=2, uuid=uuid, address="n2:7400", channel=Channel.BULK)
    )

    assert not flags & FLAG_ERROR
    assert before is not None
    assert before.closing
    assert peer.inlets[Channel.BULK] is session
    member.node.disconnected(before)
    assert peer.inlets[Channel.BULK] is session


def test_a_control_connection_of_a_new_life_tells_that_the_earlier_one_is_over() -> None:
    cluster = Cluster(3)
    cluster.advance(1.0)
    leader = cluster.leader(0)
    number, other = next((one.number, one) for one in cluster.alive if one is not leader)
    raft, seen = leader.group(0).raft, list[int]()
    leader.node.peers.watchers.append(seen.append)
    said = {
        "node": number, "uuid": other.node.store.node_uuid.hex(), "address": other.address,
        "to_node": leader.number,
    }  # fmt: skip
    present = leader.node.peers.all()[number].life
    assert raft.progress[number].acked_round

    greet(leader, hello(**said, life=present))
    assert not seen
    greet(leader, hello(**said, life=present + 2, opened=1 << 40))
    assert seen == [number]
    assert not raft.progress[number].acked_round


def test_everybody_knows_who_leads_what() -> None:
    cluster = Cluster(3)
    gids = cluster.topic(partitions=6, replication=1)
    cluster.advance(0.5)

    for gid in gids:
        leader = cluster.leader(gid)
        term = leader.group(gid).raft.term
        for member in cluster.alive:
            known = member.node.peers.leaders.get(gid)
            assert known == (None if member is leader else (term, leader.number))

    gone = cluster.leader(gids[0]).number
    cluster.restart(gone)
    cluster.advance(1.0)
    for gid in gids:
        leader = cluster.leader(gid)
        for member in cluster.alive:
            if member is not leader:
                assert member.node.peers.leaders[gid][1] == leader.number


def test_what_can_not_be_sent_is_dropped_and_counted() -> None:
    cluster = Cluster(3)
    cluster.kill(3)
    peers = cluster.members[1].node.peers
    before = peers.all()[3].dropped

    assert not peers.send(0, VoteRequest(1, 3, 1, 1, 1))
    assert not peers.send(0, VoteRequest(1, 42, 1, 1, 1))
    assert not peers.post(3, Channel.BULK, [b"x"])
    assert peers.all()[3].dropped == before + 1


def test_a_peer_that_takes_nothing_gets_no_more_than_the_limit() -> None:
    cluster = Cluster(2)
    peers = cluster.members[1].node.peers
    line = peers.all()[2].lines[Channel.BULK]
    piece = bytes(1 << 20)
    sent = 0
    while peers.post(2, Channel.BULK, [piece]):
        sent += 1
        assert sent < 1000

    assert line.unsent_bytes <= line.bytes_max + len(piece)
    assert peers.post(2, Channel.CONTROL, [HEARTBEAT_TABLE.pack((1, 0), ((), (), ()))])


def test_other_parts_send_and_take_frames_of_their_own() -> None:
    cluster = Cluster(2)
    taken: list[tuple[int, bytes]] = []

    def take(sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        taken.append((sender, bytes(buffer[start + FRAME_HEADER_BYTES : end])))

    cluster.members[2].node.peers.receivers[0x7E] = take
    frame = FRAME_HEADER.pack(FRAME_HEADER_BYTES + 5, 0x7E, 0, 0, 0, 0)
    assert cluster.members[1].node.peers.post(2, Channel.CONTROL, [frame, b"hello"])
    cluster.pump()

    assert taken == [(1, b"hello")]


def test_a_node_that_was_removed_is_not_talked_to() -> None:
    cluster = Cluster(3)
    peers = cluster.members[1].node.peers

    peers.introduce({1: "n1:7400", 2: "n2:7400"}, gone=[3])
    cluster.pump()

    assert set(peers.all()) == {2}
    said = hello(node=3, uuid=cluster.members[3].node.store.node_uuid.hex())
    assert isinstance(refusal(cluster.members[1], said), WrongCluster)


def test_a_lone_broker_dials_nobody_and_says_nothing() -> None:
    cluster = Cluster(1)
    member = cluster.members[1]
    cluster.topic()
    cluster.advance(1.0)

    assert not member.node.peers.all()
    assert not member.node.dials()
    assert not member.ends


def test_nodes_that_all_have_new_addresses_find_each_other_by_those_they_join() -> None:
    cluster = Cluster(3)
    for number in cluster.members:
        cluster.kill(number)
    for member in cluster.members.values():
        member.address = f"new{member.number}:7400"
    for member in cluster.members.values():
        member.start()

    cluster.run_until(cluster.connected)

    (gid,) = cluster.topic()
    assert cluster.leader(gid)


def test_after_a_pause_of_its_own_a_node_gives_nobody_up() -> None:
    cluster = Cluster(3)
    member = cluster.members[1]
    before = [peer.control.session for peer in member.node.peers.all().values()]

    cluster.clock += 30.0
    member.node.tick(cluster.wall_us, cluster.clock)
    cluster.pump()
    cluster.advance(1.0)

    assert [peer.control.session for peer in member.node.peers.all().values()] == before


def test_the_status_tells_how_the_links_are() -> None:
    cluster = Cluster(3)
    cluster.kill(3)
    reply = cluster.ask(cluster.members[1].client(), BrokerStatus())

    two, three = reply.figures["peers"]

    assert (two["node"], two["connected"]) == (2, ["control", "appends", "bulk"])
    assert two["heard_seconds_ago"] < 1.0
    assert (three["node"], three["connected"], three["heard_seconds_ago"]) == (3, [], None)


def test_the_rounds_of_a_lone_broker_look_at_nothing_that_concerns_others() -> None:
    cluster = Cluster(1)
    node = cluster.members[1].node
    answers: list[object] = []

    assert not node.outward
    node.ask(1, BrokerStatus(), answers.append)
    assert node.outward, "what it asks itself takes the same way"
    cluster.pump()

    assert len(answers) == 1
    assert not node.outward
    assert Cluster(2).members[1].node.outward
