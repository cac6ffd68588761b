"""Records and batches of records: the names to import.

Building is in `encoding`, reading in `record_batch`, rewriting for compaction in `compacted`.
"""

from penstock.protocol.compacted import encode_compacted, encode_gap
from penstock.protocol.encoding import encode_batch
from penstock.protocol.record import NO_HEADERS, Record
from penstock.protocol.record_batch import RecordBatch, read_batches

__all__ = [
    "NO_HEADERS",
    "Record",
    "RecordBatch",
    "encode_batch",
    "encode_compacted",
    "encode_gap",
    "read_batches",
]
