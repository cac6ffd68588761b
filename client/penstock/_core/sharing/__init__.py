"""Shared groups without I/O: records under leases, what became of them, and keeping leases alive.

Owns a member's part in each partition (attach, acquire, settle), the credit that partitions share,
and the records in the application's hands. It must not know sockets, clocks or threads; only
`renewal` is written to be read from a second thread.
"""
