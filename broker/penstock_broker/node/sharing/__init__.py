"""Shared groups on a partition's leader: who gets which record when, and until when.

The replicated state (`machine.sharing`) is changed by applied commands only. What lives here is
the leader's soft state beside it: attached members, acquires that wait, cursors, timers. It is made
anew from the replicated state when this broker begins to lead, and dropped when it ends; nothing
here needs to be rolled back. It knows frames and sessions, and no other partition's state.
"""
