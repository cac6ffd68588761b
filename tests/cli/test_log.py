from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock.cli.app import penstock
from penstock.testing import broker
from tests.cli.conftest import Cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(penstock, ["log", *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a broker wrote and left in order."""
    directory = tmp_path_factory.mktemp("broker") / "data"
    with broker(data=str(directory)) as running:
        cli = Cli(running.address)
        cli("topic", "create", "kept")
        cli("publish", "kept", stdin="one\ntwo\nthree\n")
    return directory


def test_inspect_lists_every_file_and_what_it_holds(data: Path) -> None:
    rows = json.loads(run("inspect", str(data), "-o", "json").stdout)
    [segment] = [row for row in rows if row["kind"] == "segment"]
    assert (segment["records"], segment["first_offset"], segment["end_offset"]) == (3, 0, 3)
    assert {row["kind"] for row in rows} == {"format", "identity", "wal", "checkpoint", "segment"}
    assert all((data / row["file"]).exists() for row in rows)
    names = run("inspect", str(data), "-o", "name").stdout.split()
    assert names == [row["file"] for row in rows]
    assert run("inspect", str(data)).stdout.startswith("FILE ")


def test_verify_is_content_with_what_is_whole(data: Path) -> None:
    verified = run("verify", str(data))
    assert verified.exit_code == 0
    assert verified.stdout == ""
    assert "whole: " in verified.stderr
    assert "3 records in segments" in verified.stderr


def test_verify_names_damage_by_file_and_position(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for file in data.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    [segment] = copy.rglob("*.log")
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    verified = run("verify", str(copy), "-o", "name")
    assert verified.exit_code == 10
    assert f"{segment.relative_to(copy)}:0" in verified.stdout.split()
    assert "1 damaged place" in verified.stderr
    [place] = json.loads(run("verify", str(copy), "-o", "json").stdout)
    assert place["position"] == 0
    assert place["bytes"] == len(content)
    assert "offsets 0 to 2" in place["what"]


def test_a_directory_without_data_says_so(tmp_path: Path) -> None:
    for verb in ("inspect", "verify"):
        shown = run(verb, str(tmp_path))
        assert shown.exit_code == 2
        assert "holds no data" in shown.stderr
        assert run(verb, str(tmp_path / "none")).exit_code == 2
