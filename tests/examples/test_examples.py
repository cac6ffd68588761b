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
    "work_queue": ["60 images, each one resized 1 time", "anna resized", "bert resized"],
    "fan_out": [
        "billing: an invoice for two teapots",
        "billing: an invoice for a kettle",
        "shipping: a parcel for two teapots",
        "shipping: a parcel for a kettle",
        "audit: order 1 is a kettle",
    ],
    "retry_with_backoff": [
        "attempt 1 after 0.",
        "attempt 2 after 0.",
        "attempt 3 after 0.",
        "attempt 4 after ",
        "sent",
    ],
    "dead_letters_and_redrive": [
        "booked 1349 cents",
        "b'8' failed 2 times: ValueError",
        "b'3,20 EUR' failed 2 times: ValueError",
        "ValueError: not enough values to unpack (expected 2, got 1)",
        "2 payments would be redriven",
        "booked 1120 cents",
        "0 dead letters are left",
    ],
    "delayed": [
        "3 records wait for their time",
        "2 are left: no plants tomorrow",
        "kitchen timer started",
        "eggs are ready",
        "tea is ready",
    ],
    "schedules": [
        "morning: 0 8 * * mon-fri (Europe/Berlin)",
        "Monday 30 March 08:00 CEST: b'make the report'",
        "Tuesday 31 March 08:00 CEST: b'make the report'",
        "2 records after it was deleted, as before",
    ],
    "per_key_order": ["in order: True", "several steps at once: True", "customer only: True"],
    "rate_limit_per_tenant": ["at once: True", "was done first: True"],
}
FORBIDDEN = {"replay_from_time": "before", "table_topic": "salt", "delayed": "water"}


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
