"""Links to the other nodes of the cluster: who is there, what is said, and what was heard.

Each node dials every other node and sends only over the connections that it dialled; what the
others say comes over those that they dialled. Three channels per pair keep small and urgent
messages apart from bulk. The cost is per pair of nodes and round, not per group: everything for one
peer leaves in one frame per kind. The part knows Raft's messages but not what a group does with
them; it opens no sockets and reads no clocks. Byte by byte: `broker/PEERS.md`.
"""
