"""The demo runs on a part of the data, with a kill in the middle, and every promise is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.source.tree import ROOT, SOURCE_ROOTS


def run_demo(*options: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    return subprocess.run(
        [sys.executable, "-m", "ops.demo", "--rows", "5000", "--kills", "1", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.system
@pytest.mark.parametrize("options", [(), ("--cluster",)], ids=["one broker", "cluster"])
def test_demo_keeps_every_promise(options: tuple[str, ...]) -> None:
    done = run_demo(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 1:" in done.stdout
    assert "kill 2: in the redrive" in done.stdout
    assert "34 NoTime, 18 ValueError" in done.stdout
    assert "BROKEN" not in done.stdout
