"""The wire and disk format, shared by client and broker; pure.

Owns frames, messages, record batches and the sans-IO connection. It must not know sockets, clocks,
files or any broker rule. The byte-level specification is `client/PROTOCOL.md`.
"""
