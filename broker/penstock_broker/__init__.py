"""The Penstock broker.

Pure parts (`raft`, `machine`, `storage`, `node`) hold every rule and know no clock, socket or file;
`runtime` is the trio shell that feeds them. The broker imports `penstock.protocol` and
`penstock.errors` of the client package and nothing else of it.
"""
