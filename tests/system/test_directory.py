"""Who may use a data directory, and who can read it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from crc32c import crc32c

from tests.system.process import BrokerProcess, StartError, healthy

pytestmark = pytest.mark.system


def test_a_second_broker_on_a_directory_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "one").start() as first:
        with BrokerProcess(tmp_path / "two", data=first.data) as second:
            with pytest.raises(StartError, match="another broker uses the data directory"):
                second.start()
            assert second.wait() == 1
            assert "Traceback" not in second.log()
        healthy(first)


def test_the_directory_is_free_when_its_broker_was_killed(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "one").start() as first:
        first.kill()
        with BrokerProcess(tmp_path / "two", data=first.data).start() as second:
            healthy(second)


def test_a_newer_format_is_refused_by_its_number_and_left_alone(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        broker.kill()
        place = broker.data / "format"
        old = place.read_bytes()
        body = struct.pack("<8sI16s", old[:8], 7, old[12:28])
        place.write_bytes(body + struct.pack("<I", crc32c(body)))
        files = {path: path.read_bytes() for path in broker.data.rglob("*") if path.is_file()}
        with pytest.raises(StartError, match="has format 7; this version reads up to 1"):
            broker.start()
        assert broker.wait() == 1
        assert {path: path.read_bytes() for path in files} == files
        place.write_bytes(old)
        healthy(broker.start())


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "one").start() as first:
        second = BrokerProcess(tmp_path / "two")
        second.address = first.address
        with pytest.raises(StartError, match=f"can't listen on {first.address}"):
            second.start()
        assert second.wait() == 1


def test_a_directory_that_goes_away_is_a_disk_that_failed(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path).start() as broker:
        healthy(broker)
        broker.data.rename(broker.data.with_name("elsewhere"))
        assert broker.wait() == 70
        assert "No such file or directory" in broker.log()
        assert "Traceback" not in broker.log()
        broker.data.with_name("elsewhere").rename(broker.data)
        broker.start()
