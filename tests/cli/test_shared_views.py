"""How figures, states and dead letters are shown, from the structs that brokers send."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.cli.explained import error_line, state_lines, state_row, times
from penstock.cli.output import field_lines, render_table
from penstock.cli.shared_settings import SETTINGS_NOTE, show_settings
from penstock.cli.shared_view import PARTITIONS, partition_columns, shared_fields, shared_value
from penstock.cli.units import show_moment
from penstock.protocol.durations import format_duration
from penstock_broker.machine.sharing.settings import KEYS, SharedSettings
from tests.cli import shared_fakes as fakes

NOW = fakes.NOW_US


def shown(width: int | None = 80, *, whole: bool = False, **changes: Any) -> list[str]:
    return state_lines(fakes.state(**changes), "orders", 3, now_us=NOW, width=width, whole=whole)


def test_a_delayed_record_tells_what_happens_next_and_when() -> None:
    lines = shown()
    assert lines[0] == "billing (shared): delayed"
    assert "  Next        2026-11-18T11:07:21.000Z (in 41 s)" in lines
    assert "  Deliveries  3, failed twice" in lines


def test_what_blocks_a_record_can_be_looked_up() -> None:
    lines = shown(blocked_by="key", blocking_offset=77)
    assert "  Blocked by  an earlier record of the same key" in lines
    assert "  See         penstock why orders 3:77" in lines


def test_an_unknown_cause_is_shown_as_it_is() -> None:
    assert "  Blocked by  solar flare" in shown(blocked_by="solar_flare")


def test_errors_end_where_the_cause_stands_and_are_whole_on_request() -> None:
    short, whole = shown(width=None), shown(width=None, whole=True)
    assert sum("Traceback" in line for line in short) == 0
    assert sum("total is not a number" in line for line in short) == 2
    assert any("4 lines above" in line for line in short)
    assert sum("Traceback" in line for line in whole) == 2


def test_a_block_fits_eighty_columns_whatever_it_holds() -> None:
    lines = shown(member="m" * 100, host="h" * 90, text="word " * 60, dead_topic="d" * 150)
    assert max(map(len, lines)) <= 80


def test_nothing_in_a_record_can_steer_the_terminal() -> None:
    attempt = fakes.attempt(1, error="bad\x1b[2Jrow\r\nsecond\x07")
    lines = shown(text="a\x1bb", member="x\x9b", attempts=[attempt])
    assert all(line.isprintable() for line in lines)


def test_a_state_as_json_has_every_field() -> None:
    row = state_row(fakes.state(), "orders", 3)
    fields = set(fakes.state().__struct_fields__)
    renamed = {"since_us": "since", "deadline_us": "deadline", "next_us": "next"}
    assert {renamed.get(name, name) for name in fields} <= row.keys()
    assert row["deadline"] is None
    assert row["attempts"][0]["error"] == fakes.TRACE


def test_the_line_of_a_trace_that_names_it() -> None:
    assert error_line(fakes.TRACE).startswith("ValueError: total")
    assert error_line("") == ""
    assert error_line("  only this\n") == "only this"


@pytest.mark.parametrize(("number", "words"), [(1, "once"), (2, "twice"), (1000, "1,000 times")])
def test_how_often_in_words(number: int, words: str) -> None:
    assert times(number) == words


def test_a_moment_says_how_far_it_is() -> None:
    assert show_moment(NOW, NOW).endswith("(0 s ago)")
    assert show_moment(NOW + 90 * fakes.SECOND, NOW).endswith("(in 1m30s)")


# ----- a group


def value(**changes: Any) -> dict[str, Any]:
    admin = fakes.FakeAdmin(partitions=[fakes.figures(), fakes.figures(1, **changes)])
    admin.letters = [fakes.letter(1)]
    dead = admin.describe_shared("dead.orders.billing", "billing")
    return shared_value(admin.describe_shared("orders", "billing"), dead, NOW)


def test_figures_of_the_partitions_are_added_up() -> None:
    group = value(leased=1)
    assert (group["ready"], group["leased"], group["lag"]) == (2222, 101, 2383)
    assert group["counters"] == {
        "delivered": 24_690,
        "acked": 24_000,
        "failed": 600,
        "timed_out": 0,
    }
    assert group["dead_letters"] == 1
    assert group["oldest_unacked_seconds"] == 123


def test_a_member_has_one_row_for_all_partitions() -> None:
    first, second = value()["members"]
    assert (first["member"], first["in_flight"], first["partitions"]) == ("worker-1", 120, [0, 1])
    assert (second["attached"], second["oldest_seconds"]) == (False, 20)


def test_a_group_is_told_in_eighty_columns() -> None:
    group = value(blocked_by="key", moving=3)
    lines = field_lines(shared_fields(group), width=80)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "Not settled    2,485: 2,222 ready, 200 leased, 60 delayed, 3 moving" in text
    assert "Dead letters   1 in dead.orders.billing" in text
    assert "lease_ms 45 s" in text


def test_rare_states_have_a_column_only_when_there_are_any() -> None:
    plain, rare = value()["partitions"], value(held=2, blocked_by="key")["partitions"]

    def titles(rows: list[dict[str, Any]]) -> list[str]:
        columns = [c for c in partition_columns(rows) if not c.wide]
        return render_table(rows, columns, width=80)[0].split()

    assert "HELD" not in titles(plain)
    assert "BLOCKED" not in titles(plain)
    assert {"HELD", "BLOCKED"} <= set(titles(rare))
    assert len(PARTITIONS) > len(titles(plain))


def test_the_help_names_every_setting_with_its_default() -> None:
    defaults = SharedSettings()
    for name in KEYS:
        [line] = [it for it in SETTINGS_NOTE[1].splitlines() if it.startswith(f"{name} (")]
        shown = line.partition("(")[2].partition(")")[0]
        value = getattr(defaults, name)
        assert shown in (str(value), format_duration(value) if name.endswith("_ms") else None)


def test_settings_are_shown_with_their_units() -> None:
    shown = show_settings({"lease_ms": 45_000, "attempts_max": -1, "order_by": "key"})
    assert shown == "attempts_max unlimited, lease_ms 45 s, order_by key"
