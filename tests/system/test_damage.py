"""Torn tails and changed bits: all is served, or the damage is named; never wrong bytes."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.faults import damage
from ops.faults.damage import Original
from ops.faults.ledger import read_partition
from penstock import sync
from tests.system.process import ENVIRONMENT, BrokerProcess, StartError

pytestmark = pytest.mark.system

FLIPS = 10
CUTS = 6
BLOCK = 4096


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return damage.make_original(tmp_path_factory.mktemp("stopped") / "data")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return damage.make_original(tmp_path_factory.mktemp("killed") / "data", killed=True)


@pytest.mark.parametrize("original", ["stopped", "killed"])
def test_a_flipped_bit_is_without_effect_or_named(
    request: pytest.FixtureRequest, tmp_path: Path, original: str
) -> None:
    chance = random.Random(17)
    for _ in range(FLIPS):
        made = request.getfixturevalue(original)
        change, outcome = damage.try_flip(made, tmp_path / "copy", chance)
        assert outcome.breaches == [], change


def test_an_untouched_copy_is_whole(killed: Original, tmp_path: Path) -> None:
    shutil.copytree(killed.directory, tmp_path / "copy")
    assert damage.verified_damage(tmp_path / "copy") == []
    assert damage.judge(killed, tmp_path / "copy") == damage.Outcome("served", [])


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_segment_that_was_cut_off_is_named(
    stopped: Original, tmp_path: Path, keep: float
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stopped.directory, copy)
    segment = sorted(copy.rglob("*.log"))[1]
    with segment.open("r+b") as file:
        file.truncate(int(segment.stat().st_size * keep))
    name = str(segment.relative_to(copy))
    assert damage.verified_damage(copy) == [name]
    outcome = damage.judge(stopped, copy)
    assert outcome.breaches == []
    assert outcome.kind in ("reads refused", "start refused")
    assert name in outcome.message


@pytest.mark.parametrize("kind", ["*.log", "*.ckpt", "format"])
def test_a_file_that_is_gone_is_noticed(stopped: Original, tmp_path: Path, kind: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stopped.directory, copy)
    min(copy.rglob(kind)).unlink()
    outcome = damage.judge(stopped, copy)
    assert outcome.breaches == []
    assert outcome.kind != "served"


def test_a_log_cut_within_its_last_flush_loses_that_flush_alone(tmp_path: Path) -> None:
    chance = random.Random(5)
    with BrokerProcess(tmp_path / "broker").start() as broker:
        with sync.connect(broker.address, compression="none") as client:
            client.admin.create_topic("orders")
            for number in range(20):
                client.publish("orders", b"%d" % number)
            before = last_block(broker.data)
            last = chance.randbytes(20_000)
            client.publish("orders", last)
        broker.kill()
    end = last_block(broker.data)
    assert end > before
    for cut in [before, *(chance.randrange(before, end - BLOCK) for _ in range(CUTS))]:
        copy = tmp_path / "copy"
        shutil.copytree(broker.data, copy)
        (wal,) = (copy / "wal").iterdir()
        content = wal.read_bytes()
        wal.write_bytes(content[:cut] + bytes(len(content) - cut))
        with damage.open_broker(copy) as running, sync.connect(running.address) as client:
            found = [value for _, value in read_partition(client, "orders", 0)]
            # A cut behind the last record's flush hits one that the broker made for itself.
            kept = cut != before and found[20:] == [last]
            assert found[: 20 if kept else None] == [b"%d" % number for number in range(20)], cut
            assert client.publish("orders", b"more").offset == len(found)
        shutil.rmtree(copy)


def last_block(data: Path) -> int:
    """Where the blocks end that the WAL has used."""
    (wal,) = (data / "wal").glob("*.wal")
    return -(-len(wal.read_bytes().rstrip(b"\0")) // BLOCK) * BLOCK


def hurt_log(data: Path) -> Path:
    """Change a byte of the WAL that is still needed."""
    for wal in sorted((data / "wal").glob("*.wal")):
        before = wal.read_bytes()
        wal.write_bytes(flipped(before, BLOCK * 2 + 9))
        if damage.verified_damage(data):
            return wal
        wal.write_bytes(before)
    raise AssertionError("no byte of the log is needed")


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def test_a_damaged_directory_ends_the_process_with_one_and_names_the_file(
    stopped: Original, tmp_path: Path
) -> None:
    shutil.copytree(stopped.directory, tmp_path / "data")
    wal = hurt_log(tmp_path / "data")
    with BrokerProcess(tmp_path) as broker:
        with pytest.raises(StartError, match=f"wal/{wal.name}.*damaged"):
            broker.start()
        assert broker.wait() == 1
        assert "Traceback" not in broker.log()
    command = [sys.executable, "-m", "penstock.cli", "log", "verify", str(broker.data)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert verified.returncode == 10
    assert wal.name in verified.stdout
