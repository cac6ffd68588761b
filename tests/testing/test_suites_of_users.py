"""A user's own suite, under pytest-asyncio and under pytest-trio, each in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.source.tree import ROOT, SOURCE_ROOTS

SUITE = """
import penstock

async def test_publish(penstock_address, penstock_topic):
    async with penstock.connect(penstock_address) as client:
        receipt = await client.publish(penstock_topic, b"order")
        assert receipt.offset == 0
"""
SETTINGS = {"asyncio": "asyncio_mode = auto", "trio": "trio_mode = true"}


def plugin_options() -> list[str]:
    """Name the plugin where the project is not installed, so that pytest can't find it."""
    installed = metadata.entry_points(group="pytest11", name="penstock")
    return [] if installed else ["-p", "penstock.testing.plugin"]


@pytest.mark.parametrize("library", SETTINGS)
def test_fixtures_serve_an_async_suite(library: str, tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{SETTINGS[library]}\n")
    path = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin_options()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
