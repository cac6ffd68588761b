"""The programs and the tour of the README run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.source.documents import README, code_blocks
from tests.source.tree import ROOT, SOURCE_ROOTS

PLACE = "localhost:7400"
PROGRAMS = [block for block in code_blocks(README, "python") if "penstock.connect(" in block]
PROGRAMS += [block for block in code_blocks(README, "python") if "penstock.sync.connect(" in block]


def run_program(text: str, address: str) -> None:
    exec(compile(text.replace(PLACE, address), str(README), "exec"), {"__name__": "__main__"})


def test_the_readme_shows_a_program_for_each_world() -> None:
    assert [PLACE in program for program in PROGRAMS].count(True) == 3


@pytest.mark.parametrize("program", [text for text in PROGRAMS if PLACE in text])
def test_program_of_the_readme_runs(
    program: str, penstock_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_program(program, penstock_address)
    assert capsys.readouterr().out


def test_program_of_the_readme_runs_under_asyncio(
    penstock_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = PROGRAMS[0].replace("import trio", "import asyncio")
    run_program(program.replace("trio.run(main)", "asyncio.run(main())"), penstock_address)
    assert "durable at" in capsys.readouterr().out


def test_the_tour_runs_to_its_end(penstock_address: str) -> None:
    [tour] = code_blocks(README, "sh")
    penstock = f'penstock() {{ "{sys.executable}" -m penstock.cli "$@"; }}\n'
    path = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", penstock + tour],
        env={**os.environ, "PENSTOCK_SERVER": penstock_address, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "twenty" in done.stdout
