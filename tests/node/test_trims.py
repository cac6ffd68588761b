"""Records that are deleted on purpose are no damage."""

from __future__ import annotations

import pytest

from penstock.protocol.messages import TrimLog
from tests.node.harness import Harness


def test_a_trim_that_is_replayed_at_the_start_is_not_logged_as_damage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Harness(
        wal_file_bytes=64 << 10, segment_bytes=8 << 10, tail_bytes_max=8 << 10, write_bytes=1024
    )
    (group,) = node.topic()
    client = node.client()
    for _ in range(300):
        client.publish(group, b"x" * 500)
    end = node.node.partitions[group].log.end_offset
    client.ask(TrimLog(topic="orders", partition=0, offset=end - 5))
    node.pump()
    node.restart()
    node.advance(2.0)
    assert node.node.partitions[group].log.start_offset == end - 5
    assert node.node.store.logs[group].damages == []
    assert caplog.records == []
