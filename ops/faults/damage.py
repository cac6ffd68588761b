"""Bytes of a stopped broker's data directory changed behind its back, and what it makes of them.

Either everything that was acknowledged is served, or the damage is named: at the start, or by the
reads that it concerns. Wrong bytes are never served, and nothing ends in a fault of its own.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from penstock import sync
from penstock.errors import CorruptData, PenstockError
from penstock_broker.runtime.broker import BrokerOptions
from penstock_broker.runtime.embed import EmbeddedBroker
from penstock_broker.runtime.inspect import inspect

TOPIC: Final = "orders"
GROUP: Final = "billing"
PARTITIONS: Final = 2
WAL_FILE_BYTES: Final = 256 * 1024
SEGMENT_BYTES: Final = 64 * 1024
SEAL_SECONDS: Final = 2.5


@dataclass
class Original:
    """A data directory and what it holds."""

    directory: Path
    values: dict[int, list[bytes]] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)


def open_broker(directory: Path) -> EmbeddedBroker:
    """A broker with small files, so that few bytes are padding."""
    return EmbeddedBroker(
        BrokerOptions(
            data=str(directory),
            port=0,
            wal_file_bytes=WAL_FILE_BYTES,
            segment_bytes=SEGMENT_BYTES,
        )
    ).start()


def make_original(
    directory: Path, *, records: int = 400, seed: int = 0, killed: bool = False
) -> Original:
    """Fill a data directory: records, a group's offsets, segments.

    The broker is stopped in order, or the directory is as after a kill some seconds later: then
    the last flush is sealed by one that follows it, and damage to it is no torn tail.
    """
    chance = random.Random(seed)
    original = Original(directory)
    living = directory.with_name(f"{directory.name}.living") if killed else directory
    with open_broker(living) as broker, sync.connect(broker.address) as client:
        client.admin.create_topic(TOPIC, partitions=PARTITIONS)
        for partition in range(PARTITIONS):
            values = [chance.randbytes(chance.randint(1, 2000)) for _ in range(records)]
            original.values[partition] = values
            for start in range(0, records, 10):
                batch = values[start : start + 10]
                client.publish_many(TOPIC, batch, partition=partition)
        with client.subscribe(TOPIC, group=GROUP, commit="manual") as subscription:
            for _ in range(5):
                subscription.fetch(20, wait=5.0)
                subscription.commit()
        for row in client.admin.describe_group(GROUP).partitions:
            original.committed[row.partition] = row.committed
        if killed:
            time.sleep(SEAL_SECONDS)
            shutil.copytree(living, directory)
    return original


def used_files(directory: Path) -> Iterator[tuple[Path, int]]:
    """The files with the bytes up to their last one that is not zero."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != "lock":
            used = len(path.read_bytes().rstrip(b"\0"))
            if used:
                yield path, used


@dataclass
class Flip:
    """One bit that was changed."""

    path: Path
    position: int
    bit: int


def flip(directory: Path, chance: random.Random) -> Flip:
    """Change one bit of a random file, within what is used of it."""
    path, used = chance.choice(list(used_files(directory)))
    change = Flip(path, chance.randrange(used), chance.randrange(8))
    with path.open("r+b") as file:
        file.seek(change.position)
        old = file.read(1)[0]
        file.seek(change.position)
        file.write(bytes([old ^ 1 << change.bit]))
    return change


@dataclass
class Outcome:
    """What a broker made of a directory."""

    kind: str
    """"served", "start refused" or "reads refused"."""
    breaches: list[str]
    message: str = ""


def judge(original: Original, copy: Path) -> Outcome:
    """Start a broker on a changed copy and compare all that it serves with the original."""
    try:
        broker = open_broker(copy)
    except CorruptData as error:
        return Outcome("start refused", [], str(error))
    except Exception as error:
        return Outcome("start refused", [f"a fault of its own: {error!r}"], repr(error))
    breaches: list[str] = []
    refused: list[str] = []
    with broker, sync.connect(broker.address, request_timeout=5.0) as client:
        for partition, values in original.values.items():
            try:
                _compare(client, partition, values, breaches, refused)
            except PenstockError as error:
                breaches.append(f"partition {partition}: {error!r}")
        rows = client.admin.describe_group(GROUP).partitions
        committed = {row.partition: row.committed for row in rows}
        if committed != original.committed:
            breaches.append(f"committed {committed}, was {original.committed}")
    return Outcome("reads refused" if refused else "served", breaches, "; ".join(refused))


def _compare(
    client: sync.Client,
    partition: int,
    values: list[bytes],
    breaches: list[str],
    refused: list[str],
) -> None:
    at = client.admin.list_offsets(TOPIC, {partition: "earliest"})[partition]
    end = client.admin.list_offsets(TOPIC, {partition: "latest"})[partition]
    if (at, end) != (0, len(values)):
        breaches.append(f"partition {partition} holds {at} to {end}, held 0 to {len(values)}")
    while at < end:
        try:
            with client.subscribe(TOPIC, partitions=[partition], start=at) as subscription:
                found = subscription.fetch(1000, wait=5.0)
        except CorruptData as error:
            refused.append(str(error))
            at = _behind(client, partition, at)
            continue
        if not found:
            breaches.append(f"partition {partition} gives nothing at {at}")
            return
        for record in found:
            if record.offset != at or record.value != values[at]:
                breaches.append(f"partition {partition}, offset {at}: WRONG BYTES")
            at = record.offset + 1


def _behind(client: sync.Client, partition: int, at: int) -> int:
    """The first offset behind the damaged range with `at`, as the broker reports it."""
    figures = client.admin.describe_topic(TOPIC).partitions[partition]
    ends = [end for start, end in figures.damaged if start <= at < end]
    return max(ends, default=at + 1)


def verified_damage(directory: Path) -> list[str]:
    """The files that an offline verification finds damaged."""
    return [report.file for report in inspect(str(directory), bodies=True) if report.damage]


def try_flip(original: Original, copy: Path, chance: random.Random) -> tuple[Flip, Outcome]:
    """Copy the original, flip a bit, judge; verification must find what the broker refuses."""
    shutil.copytree(original.directory, copy)
    try:
        change = flip(copy, chance)
        name = str(change.path.relative_to(copy))
        damaged = verified_damage(copy)
        outcome = judge(original, copy)
        if outcome.kind != "served":
            if name not in damaged:
                outcome.breaches.append(f"verification finds {damaged}")
            if name not in outcome.message:
                outcome.breaches.append(f"{name} is not named in {outcome.message!r}")
        return change, outcome
    finally:
        shutil.rmtree(copy)
