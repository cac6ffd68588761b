"""Faults on real broker processes: killed, paused, cut off from their disk, while programs work.

`python -m ops.faults` runs a campaign and compares what was acknowledged with what is stored. The
system tests use the same process, load and ledger.
"""
