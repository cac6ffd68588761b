from __future__ import annotations

import os
import subprocess
import sys

from tests.machine import history


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
