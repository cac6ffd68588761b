"""The replicated state: every rule about topics, ordered groups and producers.

A machine is `apply(command, at) -> (reply, effects)`. Time travels inside the stamp, refusals are
replies that carry an error code, and replicas that apply the same commands hold the same bytes
(`snapshot`). A machine knows nothing of consensus, disks, sockets or clocks, and iterates over no
set: nothing may depend on hash order.

 - `metadata` (group 0): nodes, topics, the Raft group of each partition, configuration.
 - `groups` (the internal topic `__groups`): members, assignments and committed offsets.
 - `partition` (each data partition): lineage epoch, log start, duplicates.
"""
