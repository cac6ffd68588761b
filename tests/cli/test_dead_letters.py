"""The commands about dead letters, schedules and `why`, on a stand-in for the broker's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock.cli.app import penstock
from penstock.cli.settings import Settings
from penstock.cli.shared_view import lag_words
from penstock.protocol.sharing import ScheduledRecord
from tests.cli.shared_fakes import NOW_US, SECOND, FakeAdmin, FakeClient, letter, schedule, state

Run = Callable[..., Result]


@pytest.fixture
def admin() -> FakeAdmin:
    letters = [
        letter(n, b'{"total": %d}' % n, reason="Timeout" if n % 3 == 0 else "ValueError")
        for n in range(1, 8)
    ]
    return FakeAdmin(letters=letters)


@pytest.fixture
def run(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> Run:
    client = FakeClient(admin)
    monkeypatch.setattr(Settings, "connect", lambda _settings: client.connected())

    def run(*words: str, code: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(penstock, words, input=stdin)
        assert "This is a bug" not in result.output
        assert result.exit_code == code, result.output
        return result

    return run


BILLING = ("orders", "billing")


def offsets(result: Result) -> list[int]:
    return [row["offset"] for row in json.loads(result.stdout)]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7]),
        (["--reason", "Timeout"], [3, 6]),
        (["--reason", "*Error"], [1, 2, 4, 5, 7]),
        (["--error", "not a number"], [1, 2, 3, 4, 5, 6, 7]),
        (["--error", "no such words"], []),
        (["--key", "c1"], [1, 4, 7]),
        (["-H", "source=web", "--key", "c2"], [2, 5]),
        (["-H", "source=app"], []),
        (["--where", "value.total > 4 and reason == 'Timeout'"], [6]),
        (["--where", "failed >= 5 and redrives == 0"], [1, 2, 3, 4, 5, 6, 7]),
        (["--since", "2026-11-18T09:00Z", "--limit", "3"], [1, 2, 3]),
        (["--until", "2026-11-18T09:00Z"], []),
        (["--partition", "1"], []),
    ],
)
def test_dead_letters_are_chosen_by_what_they_are(
    run: Run, filters: list[str], found: list[int]
) -> None:
    limit = [] if "--limit" in filters else ["--limit", "100"]
    assert offsets(run("dlq", "peek", *BILLING, *filters, *limit, "-o", "json")) == found


def test_the_table_of_dead_letters_counts_failures(run: Run) -> None:
    titles = run("dlq", "peek", *BILLING).stdout.splitlines()[0]
    assert titles.split() == ["PLACE", "DIED", "CAUSE", "FAILURES", "KEY", "VALUE"]


def test_a_wrong_expression_is_a_usage_error(run: Run) -> None:
    assert "none of them stands" in run("dlq", "peek", *BILLING, "-w", "reson == 1", code=2).stderr


def test_reasons_are_counted_the_most_frequent_first(run: Run) -> None:
    rows = json.loads(run("dlq", "reasons", *BILLING, "-o", "json").stdout)
    assert [(row["cause"], row["letters"]) for row in rows] == [("ValueError", 5), ("Timeout", 2)]


def test_one_dead_letter_is_shown_with_its_attempts(run: Run) -> None:
    shown = run("dlq", "show", *BILLING, "0:3").stdout
    assert "Origin       orders 0:103" in shown
    assert "total is not a number" in shown
    row = json.loads(run("dlq", "show", *BILLING, "0:3", "-o", "json").stdout)
    assert (row["origin"], row["key"], len(row["attempts"])) == ("orders/0/103", "c0", 2)
    assert run("dlq", "show", *BILLING, "0:99", code=4).stdout == ""


def test_a_group_without_dead_letters_says_so(run: Run, admin: FakeAdmin) -> None:
    admin.letters = []
    assert "has no dead letter" in run("dlq", "peek", *BILLING).stderr
    assert "has no such dead letter" in run("dlq", "reasons", *BILLING, "--key", "x").stderr
    assert "has no dead letter" in run("dlq", "redrive", *BILLING).stderr
    assert json.loads(run("dlq", "list", "-o", "json").stdout)[0]["dead_letters"] == 0


def test_an_unknown_group_is_not_found_and_there_is_a_hint(run: Run) -> None:
    assert "hint: `penstock group list`" in run("dlq", "peek", "orders", "x", code=4).stderr


# ----- redrive and purge


def test_a_redrive_is_a_plan_until_it_is_confirmed(run: Run, admin: FakeAdmin) -> None:
    dry = run("dlq", "redrive", *BILLING, "--dry-run")
    assert "ValueError" in dry.stdout
    assert "redrive 7 dead letters to group billing on orders" in dry.stderr
    run("dlq", "redrive", *BILLING, code=6)
    assert not admin.redriven
    assert "7 dead letters redriven" in run("dlq", "redrive", *BILLING, "--yes").stderr
    assert len(admin.redriven) == 7
    assert not admin.letters


def test_a_redrive_takes_what_was_chosen_and_no_more(run: Run, admin: FakeAdmin) -> None:
    run("dlq", "redrive", *BILLING, "--reason", "Timeout", "--limit", "1", "--yes")
    assert [it.record.offset for it in admin.redriven] == [3]


def test_the_loop_guard_leaves_them_alone_unless_forced(run: Run, admin: FakeAdmin) -> None:
    admin.letters[0].redrives = 10
    partly = run("dlq", "redrive", *BILLING, "--yes", code=3)
    assert "left alone: 1 (0:1)" in partly.stderr
    assert "--force" in partly.stderr
    assert len(admin.redriven) == 6
    run("dlq", "redrive", *BILLING, "--yes", code=6)
    run("dlq", "redrive", *BILLING, "--yes", "--force")
    assert not admin.letters


def test_ctrl_c_says_how_far_it_came_and_the_same_command_goes_on(
    run: Run, admin: FakeAdmin
) -> None:
    admin.interrupt_after = 2
    stopped = run("dlq", "redrive", *BILLING, "--yes", code=130)
    assert "interrupted at 4 of 7 dead letters" in stopped.stderr
    admin.interrupt_after = None
    assert "3 dead letters redriven" in run("dlq", "redrive", *BILLING, "--yes").stderr
    assert len(admin.redriven) == 7


def test_what_dies_while_a_redrive_runs_is_not_part_of_it(run: Run, admin: FakeAdmin) -> None:
    again = admin.redrive_letters

    def redrive(letters: list[object], **options: object) -> object:
        admin.letters.append(letter(100 + len(admin.redriven)))
        return again(letters, **options)  # type: ignore[arg-type] # the same

    admin.redrive_letters = redrive  # type: ignore[assignment,method-assign] # for this test
    run("dlq", "redrive", *BILLING, "--yes")
    assert len(admin.redriven) == 7
    assert admin.letters


def test_a_rate_holds_a_redrive_back_in_small_portions(run: Run, admin: FakeAdmin) -> None:
    run("dlq", "redrive", *BILLING, "--yes", "--rate", "1000/s")
    assert len(admin.redriven) == 7
    assert "not a rate" in run("dlq", "redrive", *BILLING, "--rate", "fast", code=2).stderr


def test_values_are_edited_by_a_command(run: Run, admin: FakeAdmin) -> None:
    command = "sed -e 's/total/sum/' -e '/: 3/Q 1'"
    done = run("dlq", "redrive", *BILLING, "--edit-with", command, "--yes", code=3)
    assert "0:3: exit code 1" in done.stderr
    assert [it.record.offset for it in admin.letters] == [3]
    assert admin.values[0, 1] == b'{"sum": 1}'


def test_values_are_edited_in_an_exported_file(run: Run, admin: FakeAdmin, tmp_path: Path) -> None:
    exported = run("dlq", "export", *BILLING, "--reason", "Timeout").stdout
    assert len(exported.splitlines()) == 2
    file = tmp_path / "dead.ndjson"
    file.write_text(exported.replace('{\\"total\\": 3}', '{\\"total\\": 333}'))
    done = run("dlq", "redrive", *BILLING, "--edit", str(file), "--yes")
    assert "2 dead letters redriven to group billing on orders, 1 of them edited" in done.stderr
    assert admin.values == {(0, 3): b'{"total": 333}'}


@pytest.mark.parametrize("line", ["{}", "no json", '{"place": 1}', '{"place":"0:1","value":[]}'])
def test_a_file_of_something_else_is_refused(run: Run, tmp_path: Path, line: str) -> None:
    file = tmp_path / "dead.ndjson"
    file.write_text(f"\n{line}\n")
    failed = run("dlq", "redrive", *BILLING, "--edit", str(file), "--yes", code=2)
    assert "line 2 is no dead letter" in failed.stderr


def test_a_report_of_a_redrive_as_json(run: Run, admin: FakeAdmin) -> None:
    admin.letters[0].redrives = 10
    report = json.loads(run("dlq", "redrive", *BILLING, "--yes", "-o", "json", code=3).stdout)
    assert (report["matched"], report["redriven"], report["looping"]) == (7, 6, ["0:1"])


def test_a_purge_asks_too(run: Run, admin: FakeAdmin) -> None:
    run("dlq", "purge", *BILLING, "--key", "c1", code=6)
    run("dlq", "purge", *BILLING, "--key", "c1", "--dry-run")
    assert len(admin.letters) == 7
    assert (
        "3 dead letters of group billing"
        in run("dlq", "purge", *BILLING, "--key", "c1", "--yes").stderr
    )
    assert len(admin.letters) == 4


# ----- why and stuck


def test_why_tells_of_each_group(run: Run, admin: FakeAdmin) -> None:
    admin.states = [(3, state()), (3, state(group="audit", mode="ordered", state="done"))]
    shown = run("why", "orders", "3:1600").stdout
    assert "Record  orders 3:1600" in shown
    assert "billing (shared): delayed" in shown
    assert "audit (ordered): done" in shown
    value = json.loads(run("why", "orders", "3:1600", "-g", "audit", "-o", "json").stdout)
    assert [row["group"] for row in value["groups"]] == ["audit"]
    assert value["record"]["key"] == "c1"
    assert run("why", "orders", "3:1600", "-o", "name").stdout == "orders/3/1600\n"


def test_why_of_a_record_that_is_not_there(run: Run) -> None:
    ahead = run("why", "orders", "3:2000", code=4)
    assert "ends at 2000" in ahead.stderr
    assert "penstock topic describe orders" in ahead.stderr
    assert "not PARTITION:OFFSET" in run("why", "orders", "7", code=2).stderr
    assert "deleted: the partition begins at 1500" in run("why", "orders", "3:1").stdout
    assert "No group reads orders yet." in run("why", "orders", "3:1600").stderr
    assert run("why", "orders", "3:1600", "--group", "nobody", code=4).stdout == ""


def test_why_does_not_wait_for_long_where_there_is_no_leader(run: Run, admin: FakeAdmin) -> None:
    admin.missing = [3]
    assert "no leader of orders/3 within 1.0 s" in run("why", "orders", "3:1600", code=7).stderr


def test_stuck_records_are_listed_and_told_in_full(run: Run, admin: FakeAdmin) -> None:
    assert "every record is settled" in run("group", "stuck", *BILLING).stderr
    admin.states = [(3, state()), (0, state(77, state="leased", member="m", host="h"))]
    assert run("group", "stuck", *BILLING, "-o", "name").stdout.split() == [
        "orders/3:1024",
        "orders/0:77",
    ]
    assert "Held by     m on h" in run("group", "stuck", *BILLING, "-o", "wide").stdout
    rows = json.loads(run("group", "stuck", *BILLING, "-o", "json").stdout)
    assert [row["state"] for row in rows] == ["delayed", "leased"]


# ----- schedules


def test_schedules_are_listed_in_words(run: Run, admin: FakeAdmin) -> None:
    assert "penstock schedule create" in run("schedule", "list").stderr
    admin.schedules = [schedule(), schedule(name="tick", cron="@every 90s", paused=True)]
    rows = json.loads(run("schedule", "list", "-o", "json").stdout)
    assert [row["words"] for row in rows] == ["at 02:30 on Monday to Friday", "every 90s"]
    assert [row["next"] is None for row in rows] == [False, True]
    assert run("schedule", "list", "-o", "name").stdout.split() == [
        "reports/nightly",
        "reports/tick",
    ]


def test_a_schedule_shows_its_next_times_by_its_own_clocks(run: Run, admin: FakeAdmin) -> None:
    admin.schedules = [schedule()]
    shown = run("schedule", "describe", "reports", "nightly").stdout
    assert "30 2 * * mon-fri  (at 02:30 on Monday to Friday)" in shown
    assert shown.count("02:30:00  Europe/Berlin") == 5
    assert (
        run("schedule", "next", "reports", "nightly", "-n", "3", "-o", "name").stdout.count("\n")
        == 3
    )
    for verb in ("pause", "resume"):  # the stand-in can do neither
        dry = run("schedule", verb, "reports", "nightly", "--dry-run").stderr
        assert dry.startswith("dry run, nothing changed: schedule nightly on reports")
    assert "has no schedule daily" in run("schedule", "next", "reports", "daily", code=4).stderr


def test_an_expression_can_be_tried_without_a_broker(run: Run) -> None:
    words = ("schedule", "next", "--cron")
    assert run(*words, "0 9 * * *", "-n", "2", "-o", "json").stdout.count("T09:00") == 2
    assert "minute: '61'" in run(*words, "61 * * * *", code=2).stderr
    assert "no time zone" in run(*words, "0 9 * * *", "-z", "Mars/Base", code=2).stderr
    assert run("schedule", "next", code=2).stdout == ""
    dry = run("schedule", "create", "reports", "x", "0 9 * * *", "--dry-run")
    assert "nothing created" in dry.stderr


def test_delayed_records_are_listed_and_cancelled(run: Run, admin: FakeAdmin) -> None:
    assert "no record of orders waits" in run("schedule", "delayed", "orders").stderr
    admin.scheduled = [
        (0, ScheduledRecord(id=n, count=1, deliver_at_us=NOW_US + n * SECOND)) for n in (5, 6)
    ]
    assert run("schedule", "delayed", "orders", "-o", "name").stdout.split() == ["0:5", "0:6"]
    assert "1 of 2" in run("schedule", "delayed", "orders", "-n", "1").stderr
    dry = run("schedule", "cancel", "orders", "0:5", "0:9", "--dry-run", code=3).stderr
    assert "dry run, nothing changed: 1 delayed record" in dry
    assert "0:9" in dry
    assert "1 delayed record of orders" in run("schedule", "cancel", "orders", "0:5").stderr
    assert "0:9" in run("schedule", "cancel", "orders", "0:6", "0:9", code=3).stderr
    run("schedule", "cancel", "orders", "1:5", code=4)


def test_partitions_without_a_leader_are_named_and_not_asked(admin: FakeAdmin, run: Run) -> None:
    admin.missing = [1, 3]
    words = "partitions 1, 3 of orders have no leader: what is there is not counted"
    for verb in ("stuck", "describe", "lag"):
        assert words in run("group", verb, "orders", "billing").stderr
    assert "in the other partitions: every" in run("group", "stuck", "orders", "billing").stderr
    described = run("group", "describe", "orders", "billing", "-o", "json")
    assert json.loads(described.stdout)["missing"] == [1, 3]
    assert "not known" in run("group", "lag", "orders", "billing", "--max", "9999", code=10).stderr


def test_a_list_of_groups_tells_which_lags_leave_partitions_out(admin: FakeAdmin, run: Run) -> None:
    assert run("group", "list").stderr == ""
    admin.missing = [1, 3]
    listed = run("group", "list", "-o", "json")
    assert [row["missing"] for row in json.loads(listed.stdout)] == [2]
    assert "leaves out what has no leader: billing (2 partitions)" in listed.stderr
    groups = admin.list_groups().groups * 12
    assert lag_words(groups).endswith("billing (2 partitions) and 2 more groups")
