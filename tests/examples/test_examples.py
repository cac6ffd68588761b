"""Every example runs and prints what it promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HELLO = ["durable at partition 0, offset 0", "read b'hello' with key b'world'"]

# Example -> lines that its output must hold.
EXPECTED = {
    "hello_sync": HELLO,
    "hello_trio": HELLO,
    "hello_asyncio": HELLO,
    "ordered_group": ["20 customers, each one's payments in order: True"],
    "replay_from_time": ["b'after 0'", "b'after 1'", "b'after 2'"],
    "table_topic": ["tea: 3.50", "milk: 1.10"],
}
FORBIDDEN = {"replay_from_time": "before", "table_topic": "salt"}


def run_example(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    path = EXAMPLES / f"{name}.py"
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")


def test_every_example_is_listed_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"place"} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example_prints_what_it_promises(
    name: str,
    penstock_address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_example(name, monkeypatch, penstock_address)
    output = capsys.readouterr().out
    for line in EXPECTED[name]:
        assert line in output
    assert FORBIDDEN.get(name, "Traceback") not in output


def test_example_starts_a_broker_of_its_own_when_no_address_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_example("hello_sync", monkeypatch)
    assert HELLO[1] in capsys.readouterr().out
