"""`python -m ops.bench [CASE ...]`: the broker-bound figures, as lines or (`--json`) as JSON.

`failover`, `cluster-idle`, `catch-up` and `mass-create` have options of their own (`python -m
ops.bench failover --help`).
"""

from __future__ import annotations

import argparse
import signal
import sys

from ops.bench import catch_up, cluster_idle, failover, mass_create
from ops.bench.cases import CASES as ALONE
from ops.bench.cluster_publish import cluster_publish
from ops.bench.rows import print_rows

CASES = {**ALONE, "cluster-publish": cluster_publish}
OWN = {
    "failover": failover.main,
    "cluster-idle": cluster_idle.main,
    "catch-up": catch_up.main,
    "mass-create": mass_create.main,
}
"""Cases with options of their own."""


def main() -> None:
    """Run the cases named, or all; told to stop, it takes its brokers along."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    own = OWN.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if own is not None:
        own(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in options.cases or CASES:
        print_rows(CASES[name](), as_json=options.json)


if __name__ == "__main__":
    main()
