"""What runs where group 0 leads, a step at a time: it keeps the cluster as it should be.

Nodes that joined take part in group 0; its voters are those who are there; replicas leave nodes
that are dead, draining or removed; replicas and preferred leads are even. The controller only
proposes: the machine of group 0 has the rules, and the leader of each partition carries out what
it is told (`node/reconfigure.py`). It keeps nothing that a new leader would miss.
"""
