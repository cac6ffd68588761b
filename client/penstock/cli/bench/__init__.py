"""`penstock bench`: what this broker and this client do on this machine.

Clients are processes of their own, the loads are realistic JSON, each case is warmed up and run
several times, and medians are shown with their spread. CPU time is counted on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.cli.bench.shared import shared
from penstock.cli.commands import Noun
from penstock.cli.output import Column, print_rows
from penstock.cli.params import COUNT, SECONDS, SIZE
from penstock.cli.settings import Settings
from penstock.cli.units import show_size

if TYPE_CHECKING:
    from penstock.cli.bench.broker import Target
    from penstock.cli.bench.cases import Case
    from penstock.cli.bench.spec import Load, Plan

_F = TypeVar("_F", bound=Callable[..., object])

_RATE = (
    Column("case", "CASE"),
    Column("records_per_second", "RECORDS/S", "number"),
)
_COSTS = (
    Column("p50", "P50", "seconds"),
    Column("p99", "P99", "seconds"),
    Column("client_cpu_us_per_record", "CLIENT us", "decimal"),
    Column("broker_cpu_us_per_record", "BROKER us", "decimal"),
    Column("p90", "P90", "seconds", wide=True),
    Column("p999", "P99.9", "seconds", wide=True),
    Column("throughput", "BYTES/S", wide=True),
    Column("spread", "SPREAD", wide=True),
    Column("driver", "DRIVER", wide=True),
)
_COLUMNS = (*_RATE, *_COSTS)
_SUITE_COLUMNS = (
    *_RATE,
    Column("of_goal", "OF GOAL", "decimal"),
    *_COSTS,
    Column("goal", "GOAL", wide=True),
)


@click.group("bench", cls=Noun)
def bench() -> None:
    """Measure throughput and latency."""


_OPTIONS = (
    click.option("--driver", type=click.Choice(["trio", "asyncio", "sync"]), default="trio",
                 show_default=True, help="Which client."),
    click.option("--duration", "seconds", type=SECONDS, default="5s", metavar="DURATION",
                 show_default=True, help="How long each run takes."),
    click.option("--warmup", type=SECONDS, default="500ms", metavar="DURATION",
                 show_default=True, help="The same work before it is measured."),
    click.option("--runs", type=COUNT, metavar="N", default=3, show_default=True,
                 help="How often; the median is shown."),
    click.option("--acks", type=click.Choice(["quorum", "leader", "none"]), default="quorum",
                 show_default=True, help="What a publish waits for."),
    click.option("--compression", type=click.Choice(["zstd", "none"]), default="zstd",
                 show_default=True, help="How batches travel."),
    click.option("--partitions", type=COUNT, metavar="N", default=1, show_default=True,
                 help="Partitions of the topic."),
    click.option("--spawn", type=click.Path(exists=True, file_okay=False), metavar="DIR",
                 help="Measure a new broker, with its data below DIR."),
    click.option("--broker-pid", "pid", type=COUNT, metavar="PID",
                 help="Where to read the broker's CPU time."),
)  # fmt: skip
_SIZE = click.option(
    "--size", type=SIZE, default="1024", show_default=True, metavar="SIZE", help="Of one value."
)
_RECORDS = click.option(
    "--records", type=COUNT, metavar="N", default=300_000, show_default=True,
    help="Length of the backlog.",
)  # fmt: skip
_PROCESSES = click.option(
    "--processes", type=COUNT, metavar="N", default=1, show_default=True,
    help="Client processes side by side.",
)  # fmt: skip


def _common(command: _F) -> _F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@bench.command("publish", examples="penstock bench publish --size 100 --batch 1000\n"
               "penstock bench publish --tasks 4 --driver asyncio -o json")  # fmt: skip
@_SIZE
@click.option("--batch", type=COUNT, metavar="N", default=1000, show_default=True,
              help="Records of one publish_many.")  # fmt: skip
@click.option("--tasks", type=COUNT, metavar="N", default=1, show_default=True,
              help="Calls in flight at once.")  # fmt: skip
@_PROCESSES
@_common
@click.pass_obj
def publish(settings: Settings, /, **options: object) -> None:
    """Bulk publishing: batches, acknowledged, one after the other per task."""
    from penstock.cli.bench import cases

    _measure(settings, "publish_many", cases.publish_many, options)


@bench.command("latency", examples="penstock bench latency --tasks 1\n"
               "penstock bench latency --tasks 64 -o wide")  # fmt: skip
@_SIZE
@click.option("--tasks", type=COUNT, metavar="N", default=1, show_default=True,
              help="Publishes in flight at once.")  # fmt: skip
@_PROCESSES
@_common
@click.pass_obj
def latency(settings: Settings, /, **options: object) -> None:
    """Single publishes: the time until each is durable."""
    from penstock.cli.bench import cases

    _measure(settings, "publish", cases.publish, options)


@bench.command("consume", examples="penstock bench consume --records 1000000 --size 100\n"
               "penstock bench consume --singly")  # fmt: skip
@_SIZE
@_RECORDS
@click.option("--singly", is_flag=True, help="Record by record instead of batch by batch.")
@_PROCESSES
@_common
@click.pass_obj
def consume(settings: Settings, /, singly: bool, **options: object) -> None:
    """Reading a backlog, which is published first."""
    from penstock.cli.bench import cases

    if singly:
        _measure(settings, "read singly", cases.read_records, options)
    else:
        _measure(settings, "read batches", cases.read_batches, options)


@bench.command("roundtrip", examples="penstock bench roundtrip --rate 1000")
@_SIZE
@click.option("--rate", type=click.FloatRange(min=1), default=1000.0, show_default=True,
              help="Records per second.")  # fmt: skip
@_common
@click.pass_obj
def roundtrip(settings: Settings, /, **options: object) -> None:
    """From publishing in one process to delivery in another, at a steady rate."""
    from penstock.cli.bench import cases

    _measure(settings, "to delivery", cases.roundtrip, options)


@bench.command("suite", examples="penstock bench suite --spawn /var/tmp\n"
               "penstock bench suite --only publish -o json")  # fmt: skip
@click.option("--only", metavar="TEXT", default="", help="Cases whose name contains this.")
@_common
@click.pass_obj
def suite(settings: Settings, /, only: str, **options: object) -> None:
    """The cases that matter, as one table, each held against its goal.

    OF GOAL is the share of the goal that is farthest from being met (rate, p50 or p99);
    -o wide tells the goals.
    """
    from penstock.cli.bench.broker import target
    from penstock.cli.bench.cases import SUITE

    chosen = [case for case in SUITE if only in case.name]
    plan = _plan(options)
    rows = []
    with target(settings, spawn=plan.spawn, pid=plan.pid) as broker:
        for number, case in enumerate(chosen, 1):
            settings.say(f"[{number}/{len(chosen)}] {case.name}")
            fixed = {"size": case.size, "tasks": case.tasks, "batch": case.batch}
            load = _load(broker, {**options, **fixed, "records": case.records})
            row = _row(broker, case.name, case.run, load, plan)
            rows.append({**row, **case.goal.judge(row, load.driver)})
    print_rows(rows, _SUITE_COLUMNS, settings.output, name="case")


def _measure(settings: Settings, name: str, case: Case, options: dict[str, object]) -> None:
    from penstock.cli.bench.broker import target

    plan = _plan(options)
    with target(settings, spawn=plan.spawn, pid=plan.pid) as broker:
        load = _load(broker, options)
        title = f"{name} {show_size(load.size)}"
        row = _row(broker, title, case, load, plan, settings.say)
    print_rows([row], _COLUMNS, settings.output, name="case")


def _row(
    broker: Target,
    name: str,
    case: Case,
    load: Load,
    plan: Plan,
    say: Callable[[str], None] = lambda _words: None,
) -> dict[str, Any]:
    from penstock.cli.bench.runner import summarise

    samples = []
    for number in range(1, plan.runs + 1):
        samples.append(case(broker, load, plan.processes, plan.partitions))
        say(f"run {number} of {plan.runs} done")
    figures = summarise(samples, load.size)
    return {"case": name, "driver": load.driver, "size": load.size, **figures, **_shown(figures)}


def _plan(options: dict[str, object]) -> Plan:
    from msgspec import convert

    from penstock.cli.bench.spec import Plan

    return convert(options, Plan)


def _load(broker: Target, options: dict[str, object]) -> Load:
    from msgspec import convert

    from penstock.cli.bench.spec import Load

    fixed = {"kind": "publish", "server": broker.settings.server, "topic": ""}
    return convert({**options, **fixed}, Load)


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    """The columns that only people look at."""
    middle = figures["records_per_second"] or 1
    low, high = figures["records_per_second_min"], figures["records_per_second_max"]
    shown: dict[str, Any] = {
        "spread": f"{low / middle - 1:+.0%} {high / middle - 1:+.0%}" if low != high else None,
        "throughput": f"{show_size(figures['bytes_per_second'])}/s",
    }
    for name in ("p50", "p90", "p99", "p999"):
        value = figures[f"{name}_us"]
        shown[name] = None if value is None else value / 1e6
    return shown


bench.add_command(shared)
