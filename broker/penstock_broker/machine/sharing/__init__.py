"""The replicated state of shared groups: what has become of each record, in each partition.

A group keeps a window over offsets, the leases under which members hold records, what went wrong
with records so far (`troubles`), and the moves to other partitions that are under way. All of it is
written by `apply` alone, and lies in the partition's own Raft group. This part decides nothing
about who gets which record and knows no clock, no connection and no other partition; the
dispatcher that does (`node.sharing`) is rebuilt from this state whenever the lead is gained.

 - `state`: the states of a record and the one table of transitions between them.
 - `window`: states, owners and ready times of a range of offsets, as arrays.
 - `ops`: what a leader proposes; `replies`: what comes back.
 - `settings`: the settings of a group, and the retry policy made of them.
 - `lease`, `trouble`, `moves`: the tables beside the window.
 - `group`: one group; `sharing`: all groups of a partition.
"""
