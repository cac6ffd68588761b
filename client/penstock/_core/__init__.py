"""The client without I/O: what trio, asyncio and blocking drivers run.

Owns connection state, retries, metadata, batching, sequences, subscriptions and group membership.
It is handed bytes, time and randomness, and gives back bytes to send, connections to open and
waiters to wake. It must not know sockets, clocks, threads, trio or asyncio.

Work that needs several round trips is a generator that yields `Ticket`s (`scheduler`), written once
and run here, so a driver only has to wait for one ticket. State changes never wait.
"""
