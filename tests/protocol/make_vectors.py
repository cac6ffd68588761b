"""The committed test vectors: bytes that all versions and implementations must agree on.

`python -m tests.protocol.make_vectors` writes them anew from the code; that is right only for an
addition, since bytes once published never change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from penstock import errors
from penstock.protocol.batch import CODEC_BITS, CODEC_ZSTD, parse_header
from penstock.protocol.codec import encode_error, encode_message
from penstock.protocol.frames import (
    FETCH_REPLY,
    FLAG_DUPLICATE,
    FLAG_RESPONSE,
    PUBLISH_REPLY,
    fetch_request,
    publish_head,
)
from penstock.protocol.messages import REPLIES, REQUESTS
from penstock.protocol.partitioning import key_slot, partition_for_key
from penstock.protocol.records import RecordBatch, encode_batch, encode_compacted
from tests.protocol.samples import example, stamped

FOLDER = Path(__file__).parent / "vectors"
KEYS = (b"", b"a", b"customer-7", b"order-12345", b"\0", bytes(7) + b"\1", "Grüße".encode())

BATCHES: dict[str, dict[str, Any]] = {
    "one_value": {"values": [b"hello"], "base_ts_us": 1_700_000_000_000_000},
    "tombstone": {"values": [None], "keys": [b"customer-7"]},
    "seventeen_values": {"values": [b"%d" % number for number in range(17)]},
    "keys": {"values": [b"1", b"", b"3"], "keys": [b"a", None, b""]},
    "timestamps": {"values": [b"1", b"2"], "timestamps_ms": [1_700_000_000_500, 1_700_000_000_000]},
    "headers": {"values": [b"1", b"2"], "headers": [{"source": b"web", "n": b""}, None]},
    "idempotent": {
        "values": [b"1", b"2"],
        "producer_id": 2**63 + 5,
        "producer_epoch": 7,
        "base_sequence": 2**33,
    },
    "extensions": {
        "values": [b"1"],
        "dedup_id": b"order-1",
        "deliver_at_us": 1_800_000_000_000_000,
        "trace_id": bytes(range(16)),
    },
    "key_slots": {"values": [b"1", b"2"], "keys": [b"a", b"b"], "key_slots": [1, 0xABCD]},
    "tenant_slots": {"values": [b"1", b"2"], "tenant_slots": [0, 0x1234]},
    "slots": {"values": [b"1", b"2"], "key_slots": [7, 8], "tenant_slots": [9, 65_535]},
    "schedule": {"values": [b"1"], "schedule": ["nightly", 1_800_000_000_000_000]},
    "compressed": {
        "values": [b"the same words again"] * 30,
        "keys": [b"k"] * 30,
        "codec": CODEC_ZSTD,
    },
}


def plain(value: Any) -> Any:
    """A value for JSON: bytes as hexadecimal text."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def contents(batch: bytes) -> dict[str, Any]:
    """What a reader must find in a batch."""
    read = RecordBatch(batch)
    return {
        "header": read.header._asdict(),
        "next_offset": read.next_offset,
        "extensions": plain(read.extensions),
        "values": plain(read.values),
        "keys": plain(read.keys),
        "timestamps_us": list(read.timestamps_us),
        "headers": [plain(dict(each)) for each in read.headers],
        "offsets": list(read.offsets),
        "key_slots": None if read.key_slots is None else list(read.key_slots),
        "tenant_slots": None if read.tenant_slots is None else list(read.tenant_slots),
    }


def batch_vectors() -> list[dict[str, Any]]:
    found = []
    for name, arguments in BATCHES.items():
        batch = encode_batch(**arguments)
        entry = {
            "name": name,
            "arguments": plain(arguments),
            "exact": not parse_header(batch).codec & CODEC_BITS,
            "unstamped": batch.hex(),
            "stored": stamped(batch).hex(),
        }
        found.append({**entry, **contents(bytes(batch))})
    compacted = encode_compacted(RecordBatch(bytes.fromhex(found[3]["stored"])), [0, 2])
    found.append({"name": "compacted", "stored": compacted.hex(), **contents(bytes(compacted))})
    return found


def message_vectors() -> list[dict[str, Any]]:
    found = []
    for direction, registry in (("request", REQUESTS), ("reply", REPLIES)):
        for number, cls in registry.items():
            message = example(cls)
            found.append(
                {
                    "name": cls.__name__,
                    "direction": direction,
                    "type": number,
                    "correlation": 258,
                    "fields": json.loads(json.dumps(_fields(message))),
                    "frame": encode_message(message, 258).hex(),
                }
            )
    return found


def _fields(message: Any) -> Any:
    return msgspec.to_builtins(message, str_keys=True)


def frame_vectors() -> list[dict[str, Any]]:
    batch = bytes(encode_batch([b"hello"]))
    run = bytes(stamped(bytearray(batch)))
    publish = {"correlation": 258, "group": 5, "acks": 2, "timeout_ms": 30_000}
    fetch = {
        "correlation": 259,
        "group": 5,
        "offset": 2**40,
        "max_bytes": 1 << 20,
        "min_bytes": 1,
        "max_wait_ms": 500,
    }
    published = {"correlation": 258, "group": 5, "base_offset": 2**40, "append_ts_us": 2**50}
    fetched = {"correlation": 259, "group": 5, "high_watermark": 2**41, "log_start_offset": 7}
    return [
        {
            "name": "publish_request",
            **publish,
            "batch": batch.hex(),
            "frame": (publish_head(258, 5, 2, 30_000, len(batch)) + batch).hex(),
        },
        {
            "name": "publish_reply",
            **published,
            "duplicate": False,
            "frame": PUBLISH_REPLY.pack(32, 0x10, FLAG_RESPONSE, 0, 258, 5, 2**40, 2**50).hex(),
        },
        {
            "name": "publish_reply_duplicate",
            **published,
            "duplicate": True,
            "frame": PUBLISH_REPLY.pack(
                32, 0x10, FLAG_RESPONSE | FLAG_DUPLICATE, 0, 258, 5, 2**40, 2**50
            ).hex(),
        },
        {
            "name": "fetch_request",
            **fetch,
            "frame": fetch_request(259, 5, 2**40, 1 << 20, 1, 500).hex(),
        },
        {
            "name": "fetch_reply",
            **fetched,
            "batches": run.hex(),
            "frame": (
                FETCH_REPLY.pack(32 + len(run), 0x11, FLAG_RESPONSE, 0, 259, 5, 2**41, 7) + run
            ).hex(),
        },
    ]


def error_vectors() -> list[dict[str, Any]]:
    return [
        {
            "name": cls.__name__,
            "type": 0x10,
            "correlation": 258,
            "code": code,
            "message": "why",
            "detail": {"leader": 3},
            "frame": encode_error(258, 0x10, cls("why", leader=3)).hex(),
        }
        for code, cls in sorted(errors.BY_CODE.items())
        if cls is not errors.UnknownError
    ]


def partitioning_vectors() -> list[dict[str, Any]]:
    counts = (1, 2, 3, 12, 64, 1000)
    return [
        {
            "key": key.hex(),
            "slot": key_slot(key),
            "partitions": {str(count): partition_for_key(key, count) for count in counts},
        }
        for key in KEYS
    ]


VECTORS = {
    "batches": batch_vectors,
    "frames": frame_vectors,
    "messages": message_vectors,
    "errors": error_vectors,
    "partitioning": partitioning_vectors,
}


def load(name: str) -> list[dict[str, Any]]:
    """The committed vectors of a kind."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def main() -> None:
    for name, make in VECTORS.items():
        lines = ",\n".join(json.dumps(entry) for entry in make())
        (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
