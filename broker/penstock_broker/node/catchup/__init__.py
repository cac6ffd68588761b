"""Bringing a replica up to date that lacks what its leader keeps in memory no more.

The leader cuts its machine; the replica first copies the records below the cut from the leader's
log, then takes over the machine. Owns what is on its way, its pace and its limits. Must not know
how frames travel, nor what the machines hold.
"""
