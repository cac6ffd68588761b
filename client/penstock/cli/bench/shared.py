"""`penstock bench shared`: shared groups, held against their goals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from penstock.cli.commands import Verb
from penstock.cli.output import Column, print_rows
from penstock.cli.params import COUNT, SECONDS, SIZE
from penstock.cli.settings import Settings
from penstock.cli.units import show_count, show_duration

if TYPE_CHECKING:
    from penstock.cli.bench.shared_cases import Case
    from penstock.cli.bench.shared_runner import Bench

_COLUMNS = (
    Column("case", "CASE"),
    Column("seen_shown", "SEEN"),
    Column("goal_shown", "GOAL"),
    Column("ratio", "OF GOAL", "decimal"),
    Column("p50", "P50", "seconds"),
    Column("p99", "P99", "seconds"),
    Column("client_us", "CLIENT us", "decimal", wide=True),
    Column("broker_us", "BROKER us", "decimal", wide=True),
    Column("memory_mib", "MEMORY MiB", "decimal", wide=True),
    Column("runs_shown", "RUNS", wide=True),
)


@click.command(
    "shared",
    cls=Verb,
    examples="penstock bench shared --spawn /var/tmp\n"
    "penstock bench shared --only 'ack singly' --driver asyncio -o json\n"
    "penstock bench shared --large --spawn /var/tmp",
)
@click.option("--only", metavar="TEXT", default="", help="Cases whose name contains this.")
@click.option("--large", is_flag=True, help="Also those with a million records that wait.")
@click.option("--driver", type=click.Choice(["trio", "asyncio", "sync"]), default="trio",
              show_default=True, help="Which client.")  # fmt: skip
@click.option("--size", type=SIZE, default="100", show_default=True, metavar="SIZE",
              help="Of one value.")  # fmt: skip
@click.option("--records", type=COUNT, default=1_000_000, show_default=True, metavar="N",
              help="Length of the backlog.")  # fmt: skip
@click.option("--duration", "seconds", type=SECONDS, default="5s", show_default=True,
              metavar="DURATION", help="How long each run takes at most.")  # fmt: skip
@click.option("--partitions", type=COUNT, default=1, show_default=True, metavar="N",
              help="Partitions of the topic.")  # fmt: skip
@click.option("--runs", type=COUNT, default=1, show_default=True, metavar="N",
              help="How often; the median is shown.")  # fmt: skip
@click.option("--spawn", type=click.Path(exists=True, file_okay=False), metavar="DIR",
              help="Measure a new broker, with its data below DIR.")  # fmt: skip
@click.option("--broker-pid", "pid", type=COUNT, metavar="PID",
              help="Where to read the broker's CPU time.")  # fmt: skip
@click.pass_obj
def shared(
    settings: Settings,
    /,
    only: str,
    large: bool,
    driver: Literal["trio", "asyncio", "sync"],
    size: int,
    records: int,
    seconds: float,
    partitions: int,
    runs: int,
    spawn: str | None,
    pid: int | None,
) -> None:
    """Shared groups: rates, lateness, dead letters, each held against its goal.

    Members are processes of their own. Lateness is the time from when a record
    was due to when it was in a member's hands; its largest value counts.
    """
    from penstock.cli.bench.broker import target
    from penstock.cli.bench.shared_cases import CASES
    from penstock.cli.bench.shared_runner import Bench

    chosen = [case for case in CASES if only in case.name and (large or not case.large)]
    seen: dict[str, dict[str, Any]] = {}
    rows = []
    with target(settings, spawn=spawn, pid=pid) as broker:
        bench = Bench(broker, size, records, seconds, partitions, driver, spawn)
        for number, case in enumerate(chosen, 1):
            settings.say(f"[{number}/{len(chosen)}] {case.name}")
            seen[case.name], all_runs = _median(case, bench, runs)
            rows.append(_row(case, seen, all_runs))
    print_rows(rows, _COLUMNS, settings.output, name="case")


def _median(case: Case, bench: Bench, runs: int) -> tuple[dict[str, Any], list[float]]:
    """The run in the middle, and what all of them saw."""
    found = sorted((case.run(bench) for _ in range(runs)), key=lambda it: float(it[case.unit]))
    return found[len(found) // 2], [float(it[case.unit]) for it in found]


def _row(case: Case, seen: dict[str, dict[str, Any]], runs: list[float]) -> dict[str, Any]:
    row = case.judge(seen[case.name], seen)
    row["runs"] = runs
    row["runs_shown"] = ", ".join(_shown(case, it) for it in runs)
    row["seen_shown"] = _shown(case, row["seen"])
    row["goal_shown"] = _shown(case, row["goal"]) if row["goal"] else None
    for name in ("p50", "p99"):
        value = row.get(f"{name}_ms")
        row[name] = None if value is None else value / 1000
    return row


def _shown(case: Case, value: float) -> str:
    if case.unit == "per_second":
        return f"{show_count(value)}/s"
    if case.unit == "memory_mib":
        return f"{value:,.1f} MiB"
    return show_duration(value / 1000)
