"""What the tests on clusters of real processes share."""

from __future__ import annotations

from ops.faults.broker import wait_until
from ops.faults.cluster import ClusterProcesses

__all__ = ["ClusterProcesses", "wait_until"]
