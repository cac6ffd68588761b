"""Penstock's client library."""

from penstock._version import __version__

__all__ = ["__version__"]
