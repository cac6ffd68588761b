"""Storage: the WAL of all Raft groups, the partitions' segments, the control checkpoint.

Owns every byte on the disk and what is durable of it. Pure over the `Files` seam: it knows no
operating system, clock, socket or thread. It must not know Raft's rules (entries are opaque and
arrive in the order they are to be kept), machines (their state is a blob) or topics (a group id is
all there is). What the disk says wrongly is refused by name, never served and never guessed.
"""

from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.entries import RecoveredGroup, StoredEntry
from penstock_broker.storage.flush import Flush
from penstock_broker.storage.identity import Identity
from penstock_broker.storage.jobs import Job
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.reads import Cold, Damage, Memory
from penstock_broker.storage.store import Store

__all__ = [
    "Cold",
    "Damage",
    "Flush",
    "Identity",
    "Job",
    "Memory",
    "PartitionLog",
    "RecoveredGroup",
    "StorageConfig",
    "Store",
    "StoredEntry",
]
