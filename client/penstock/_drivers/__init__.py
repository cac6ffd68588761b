"""Thin I/O around the core: one driver each for trio, asyncio and blocking sockets.

Drivers move bytes, tell the time and wake waiters. They hold no rule: what to connect to, when to
resend and what a reply means is decided in `penstock._core`.
"""
