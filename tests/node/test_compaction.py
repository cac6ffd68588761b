"""A topic as a table: the node compacts it, and fetches go on as if nothing had happened."""

from __future__ import annotations

from penstock.protocol import frames
from penstock.protocol.batch import iterate, next_offset
from penstock.protocol.messages import AlterTopic, DescribeTopic
from penstock.protocol.records import Record, read_batches
from tests.node.harness import Client, Harness

SMALL = {
    "wal_file_bytes": 64 * 1024,
    "segment_bytes": 8 * 1024,
    "tail_bytes_max": 4 * 1024,
    "write_bytes": 1024,
    "index_interval_bytes": 512,
    "reserve_bytes": 0,
}


def table_node(**config: object) -> tuple[Harness, int, Client]:
    node = Harness(**SMALL)
    (group,) = node.topic("table", cleanup="compact", **config)
    return node, group, node.client()


def write(client: Client, group: int, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        client.publish(group, b"%d" % number + b"x" * 100, keys=[b"k%d" % (number % 4)])


def read(client: Client, group: int, offset: int = 0, max_bytes: int = 2000) -> list[Record]:
    """Follow a partition as a client does: on from the end of the last batch."""
    found: list[Record] = []
    while True:
        client.fetch_nowait(group, offset, max_bytes=max_bytes)
        client.harness.pump()
        ((frame, data),) = client.take()
        assert not frame.flags & frames.FLAG_ERROR
        run = memoryview(data)[frames.REPLY_BYTES :]
        if not run:
            return found
        for batch in read_batches(run, from_offset=offset):
            found += batch.records()
        before = offset
        for at, header in iterate(run):
            offset = next_offset(run[at : at + header.length], header)
        assert offset > before


def compact(node: Harness, seconds: float = 20.0) -> None:
    """A checkpoint, and time for what can wait."""
    node.node.checkpoints.request()
    node.pump()
    node.advance(seconds)


def test_a_reader_of_a_compacted_topic_gets_the_newest_record_of_each_key() -> None:
    node, group, client = table_node()
    write(client, group, 300)
    compact(node)
    records = read(client, group)
    assert len(records) < 150
    table = {record.key: record.value for record in records}
    assert table == {
        b"k%d" % (number % 4): b"%d" % number + b"x" * 100 for number in range(296, 300)
    }
    for record in records:
        assert (record.value or b"").rstrip(b"x") == b"%d" % record.offset


def test_every_offset_of_a_compacted_topic_can_be_fetched_from() -> None:
    node, group, client = table_node()
    write(client, group, 200)
    compact(node)
    records = read(client, group)
    for offset in range(0, 200, 7):
        expected = [record for record in records if record.offset >= offset]
        assert read(client, group, offset) == expected


def test_a_compacted_topic_is_written_and_compacted_further_over_restarts() -> None:
    node, group, client = table_node()
    for start in range(0, 600, 150):
        write(client, group, 150, start)
        compact(node)
        node.restart()
        client = node.client()
    table = {record.key: record.offset for record in read(client, group)}
    assert sorted(table.values()) == [596, 597, 598, 599]
    node.advance(20.0)
    records = read(client, group)
    assert {record.key: record.offset for record in records} == table
    assert len(records) < 100


def test_a_deleted_key_is_gone_for_good() -> None:
    node, group, client = table_node(delete_retention_ms=1000)
    client.publish(group, b"value", keys=[b"gone"])
    write(client, group, 100)
    client.publish(group, None, keys=[b"gone"])  # type: ignore[arg-type]  # a tombstone
    node.advance(5.0)
    write(client, group, 200, 100)
    compact(node)
    assert b"gone" not in {record.key for record in read(client, group)}


def test_a_topic_becomes_a_table_when_its_configuration_changes() -> None:
    node = Harness(**SMALL)
    (group,) = node.topic("table")
    client = node.client()
    write(client, group, 300)
    compact(node)
    assert len(read(client, group)) == 300
    client.ask(AlterTopic(name="table", config={"cleanup": "compact"}))
    node.advance(20.0)
    assert len(read(client, group)) < 150


def test_damage_of_old_records_is_found_logged_and_named_in_figures(caplog) -> None:
    node = Harness(**SMALL)
    (group,) = node.topic("events")
    client = node.client()
    write(client, group, 300)
    compact(node, 0.0)
    path = f"partitions/{group}/{0:020d}.log"
    file = node.files.open(path)
    file.pwrite([b"!"], 150)
    node.advance(20.0)
    assert path in [getattr(record, "file", "") for record in caplog.records]
    reply = client.ask(DescribeTopic(name="events"))
    ((first, end),) = reply.partitions[0].damaged
    assert first == 0
    assert 0 < end < 10
