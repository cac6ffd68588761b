"""Large logs without the bytes, for measurements."""

from __future__ import annotations

import os
from pathlib import Path

from ops.bench import sparse
from penstock import sync
from penstock_broker.runtime import embed
from penstock_broker.runtime.files import RealFiles
from penstock_broker.storage.scan import Hole, walk


def test_a_grown_log_is_taken_up_and_all_of_it_is_valid(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with embed.start(data=str(data)) as broker, sync.connect(broker.address) as client:
        client.admin.create_topic("orders")
        client.publish("orders", b"first")
    sparse.grow(data, 9, 8 << 20)
    with embed.start(data=str(data)) as broker, sync.connect(broker.address) as client:
        assert client.admin.list_offsets("orders", "latest")[0] == 9001
        assert client.publish("orders", b"last").offset == 9001
    path = "partitions/9/00000000000000000000.log"
    file = RealFiles(data).open(path)
    assert not [one for one in walk(file, 0, file.size(), 0) if isinstance(one, Hole)]
    assert os.stat(data / path).st_blocks * 512 < file.size() // 8
