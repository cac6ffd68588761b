"""The steps of durability and consensus that failpoints lie around; see `failpoints`."""

from __future__ import annotations

from typing import Final, NamedTuple

_STORAGE: Final = "penstock_broker.storage."
_RAFT: Final = "penstock_broker.raft."
_NODE: Final = "penstock_broker.node."
_PARTITION: Final = "penstock_broker.node.partition:PartitionGroup."


class Step(NamedTuple):
    """A function of the broker, named by what it does."""

    name: str
    target: str
    """Module, colon, and the path of the function in it."""
    words: str
    message: str = ""
    """If not empty: only calls whose last argument is of this type."""


STEPS: Final = (
    # What is written
    Step("wal.append", _STORAGE + "wal:Wal.append", "entries are queued for the next flush"),
    Step("wal.take-flush", _STORAGE + "wal:Wal.take_flush", "a flush is gathered"),
    Step("wal.prepare", _STORAGE + "wal_files:WalFile.prepare", "a file of the log is made ready"),
    Step("flush.work", _STORAGE + "flush:Flush.work", "a flush is written and synced"),
    Step("flush.encode", _STORAGE + "flush:Flush._encode", "a flush gets its header and checksum"),
    Step("flush.finish", _STORAGE + "wal:Wal.flushed", "a flush is known to be durable"),
    Step("wal.relog", _STORAGE + "wal_files:RelogJob.work", "old entries move to a newer file"),
    Step("wal.remove", _STORAGE + "wal_files:RemoveFileJob.work", "a file of the log is deleted"),
    Step("segment.write", _STORAGE + "segment_jobs:Piece.work", "a segment is written"),
    Step("segment.finish", _STORAGE + "segment_jobs:Piece.finish", "a segment is taken as written"),
    Step("segment.remove", _STORAGE + "segment_jobs:RemoveSegmentsJob.work", "segments go"),
    Step("log.append", _STORAGE + "log:PartitionLog.append", "a follower appends to a partition"),
    Step("log.append-own", _STORAGE + "log:PartitionLog.append_at", "a leader appends to one"),
    Step("log.trim", _STORAGE + "log:PartitionLog.trim", "a partition is trimmed"),
    Step("log.reset", _STORAGE + "log:PartitionLog.reset", "a partition starts anew"),
    Step("checkpoint.cut", _STORAGE + "keeper:Keeper.cut", "states are cut for a checkpoint"),
    Step("checkpoint.work", _STORAGE + "checkpoint_job:CheckpointJob.work", "it is written"),
    Step("checkpoint.rewrite", _STORAGE + "checkpoint_job:CheckpointJob._rewrite", "it is renewed"),
    Step("checkpoint.finish", _STORAGE + "checkpoint_job:CheckpointJob.finish", "it counts"),
    Step("snapshot.install", _STORAGE + "keeper:Keeper.install", "a snapshot replaces a log"),
    Step("identity.write", _STORAGE + "identity:IdentityJob.work", "the node id is written"),
    Step("recovery.open", _STORAGE + "store:Store.open", "a data directory is opened"),
    Step("recovery.wal", _STORAGE + "wal_recovery:WalImage.replay", "the log is read back"),
    # What consensus does
    Step("raft.campaign", _RAFT + "node:Raft.campaign", "a node is told to stand"),
    Step("raft.stand", _RAFT + "election:_stand", "a candidate begins a term"),
    Step("raft.lead", _RAFT + "election:become_leader", "a candidate becomes leader"),
    Step("raft.propose", _RAFT + "node:Raft.propose", "a leader appends"),
    Step("raft.commit", _RAFT + "replication:advance_commit", "a leader counts what is decided"),
    Step("raft.send", _RAFT + "replication:send_appends", "a leader feeds the others"),
    Step("raft.truncate", _RAFT + "log:RaftLog.truncate", "a follower drops what lost"),
    Step("raft.persisted", _RAFT + "node:Raft.persisted", "entries are reported durable"),
    Step("raft.reconfigure", _RAFT + "membership:propose", "a leader changes members"),
    Step("raft.transfer", _RAFT + "transfer:begin", "a leader hands over"),
    Step("raft.compact", _RAFT + "node:Raft.compact", "entries leave the memory"),
    Step("step.vote-request", _RAFT + "node:Raft.step", "asked for a vote", "VoteRequest"),
    Step("step.vote", _RAFT + "node:Raft.step", "given a vote", "VoteResponse"),
    Step("step.append", _RAFT + "node:Raft.step", "given entries", "Append"),
    Step("step.answer", _RAFT + "node:Raft.step", "entries are acknowledged", "AppendResponse"),
    Step("step.snapshot", _RAFT + "node:Raft.step", "given a snapshot", "InstallSnapshot"),
    Step("step.timeout-now", _RAFT + "node:Raft.step", "told to lead", "TimeoutNow"),
    # What the node does with it
    Step("group.persist", _NODE + "group:Group._persist", "what consensus wants is queued"),
    Step("group.persisted", _NODE + "group:Group.persisted", "held messages are let go"),
    Step("group.apply", _NODE + "group:Group.apply_run", "committed entries are applied"),
    Step("group.snapshot", _NODE + "group:Group.snapshot", "a machine's state is taken"),
    Step("message.send", _NODE + "node:Node.send_message", "a message of consensus leaves"),
    Step("partition.publish", _PARTITION + "publish", "a batch is taken"),
    Step("partition.land", _PARTITION + "_land", "a leader answers"),
    Step("partition.leading", _PARTITION + "on_leading", "a leader may serve"),
    Step("partition.lost", _PARTITION + "on_lost_leadership", "it leads no longer"),
    Step("metadata.apply", _NODE + "metadata:MetadataGroup.apply", "metadata changes"),
    Step("groups.create", _NODE + "groups:Groups._create", "a replica is made"),
    Step("groups.delete", _NODE + "groups:Groups._delete", "a replica is deleted"),
    Step("coordinator.apply", _NODE + "coordinator:CoordinatorGroup.apply", "a group changes"),
    Step("membership.join", _NODE + "membership:Membership._joined", "a cluster takes the node in"),
    Step("membership.start", _NODE + "membership:Membership._start", "the node begins as a member"),
)

ON_DISK: Final = frozenset(
    f"{kind}.{what}"
    for kind, words in {
        "wal": "prepare relog remove",
        "flush": "work",
        "segment": "write remove",
        "checkpoint": "work rewrite",
        "identity": "write",
        "recovery": "open wal",
    }.items()
    for what in words.split()
)
"""Steps that work on the disk: an I/O error there is something that a broker has to bear."""
