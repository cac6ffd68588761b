from __future__ import annotations

import os
import subprocess
import sys

from penstock_broker.machine.metadata import FEATURE_LEVEL
from tests.machine import history

PINNED = {1: "46d43fb477eebe30b8aa12dd4f7ac1f48ea56a20429fe12cec1d5fc1bba03b9c"}
"""What machines make of one history, by feature level: `python -m tests.machine.history`.

Brokers of two versions apply the same log. Where they decide otherwise their metadata parts, and
those in the minority end (`node/agreement.py`): once a version is released, another decision wants
a new feature level, and the old rule below it. What is told beside a decision, in words, may
change: so pin anew.
"""


def test_nothing_depends_on_the_order_of_hashes() -> None:
    found = {history.digest()}
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.machine.history"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_machines_decide_as_they_did_at_this_feature_level() -> None:
    assert history.digest() == PINNED[FEATURE_LEVEL]


def test_a_later_version_decides_as_the_level_of_the_cluster_says() -> None:
    assert history.digest(level_max=FEATURE_LEVEL + 7) == PINNED[1]
