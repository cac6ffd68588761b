from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock.cli.consume import _work, chooser
from penstock.cli.exits import Exit
from penstock.cli.printing import Printer
from penstock.cli.settings import Failure
from penstock.errors import LeaderUnknown
from tests.cli.conftest import Cli

if TYPE_CHECKING:
    from penstock import Record
    from penstock.sync import Client, Subscription

_numbers = count(1)


@pytest.fixture
def group(cli: Cli, filled: str) -> str:
    """A group that has read the whole topic."""
    name = f"group-{next(_numbers)}"
    cli("consume", filled, "--group", name, "-n", "9", "-o", "value")
    return name


def rows(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli(*arguments, "-o", "json").stdout)


def lag(cli: Cli, group: str) -> int:
    return sum(row["lag"] for row in rows(cli, "group", "lag", group))


def test_a_group_reads_each_record_once(cli: Cli, filled: str) -> None:
    first = cli("consume", filled, "-g", "once", "-n", "4", "-o", "value").stdout.split()
    assert lag(cli, "once") == 5
    second = cli("consume", filled, "-g", "once", "-n", "5", "-o", "value").stdout.split()
    assert sorted(first + second) == sorted(f"{k}{n}" for k in "abc" for n in range(3))
    assert lag(cli, "once") == 0


def test_a_group_at_its_end_stops(cli: Cli, filled: str, group: str) -> None:
    again = cli("consume", filled, "--group", group, "--exit-at-end", "-o", "value")
    assert again.stdout == ""


def test_groups_are_listed_and_described(cli: Cli, filled: str, group: str) -> None:
    [mine] = [row for row in rows(cli, "group", "list") if row["group"] == group]
    assert (mine["lag"], mine["topics"], mine["mode"]) == (0, [filled], "ordered")
    described = rows(cli, "group", "describe", group)
    assert described["members"] == []
    assert [row["partition"] for row in described["partitions"]] == [0, 1]
    shown = cli("group", "describe", group)
    assert "COMMITTED" in shown.stdout
    assert "No member is connected." in shown.stderr


def test_a_lag_over_its_limit_is_unhealthy(cli: Cli, filled: str, group: str) -> None:
    cli("publish", filled, stdin="x\ny\n")
    assert cli("group", "lag", group, "--max", "2").exit_code == 0
    over = cli.any("group", "lag", group, "--max", "1")
    assert over.exit_code == 10
    assert "lags by 2" in over.stderr


def test_a_seek_is_a_plan_until_it_is_confirmed(cli: Cli, filled: str, group: str) -> None:
    plan = cli("group", "seek", filled, group, "--to", "earliest", "-o", "json")
    assert "nothing has moved" in plan.stderr
    assert sum(row["again"] for row in json.loads(plan.stdout)) == 9
    dry = cli("group", "seek", filled, group, "--to", "earliest", "--yes", "--dry-run")
    assert dry.stderr == plan.stderr
    assert lag(cli, group) == 0
    cli("group", "seek", filled, group, "--to", "earliest", "--yes")
    assert lag(cli, group) == 9


@pytest.mark.parametrize(
    ("arguments", "behind"),
    [
        (["--to", "latest"], 0),
        (["--to", "-1h"], 9),
        (["--to", "0"], 9),
        (["--partition", "0=earliest", "--partition", "1=earliest"], 9),
        (["--partition", "0=latest", "--partition", "1=latest"], 0),
        (["--partition", "0=-1h", "--partition", "1=0"], 9),
    ],
)
def test_a_group_goes_where_it_is_sent(
    cli: Cli, filled: str, group: str, arguments: list[str], behind: int
) -> None:
    cli("group", "seek", filled, group, *arguments, "--yes")
    assert lag(cli, group) == behind


def test_a_seek_of_an_unknown_group_is_refused_unless_it_may_make_it(cli: Cli, filled: str) -> None:
    mistyped = ["group", "seek", filled, "no-such-group", "--to", "earliest", "--yes"]
    assert cli.any(*mistyped).exit_code == 4
    assert "no-such-group" not in cli("group", "list", "-o", "name").stdout.split()
    cli(*mistyped, "--create")
    assert lag(cli, "no-such-group") == 9


def test_a_seek_wants_one_target(cli: Cli, filled: str, group: str) -> None:
    assert cli.any("group", "seek", filled, group).exit_code == 2
    both = ["--to", "latest", "--partition", "0=1"]
    assert cli.any("group", "seek", filled, group, *both).exit_code == 2
    assert cli.any("group", "seek", filled, group, "--partition", "x=1").exit_code == 2


def test_a_group_is_deleted_only_when_it_is_confirmed(cli: Cli, group: str) -> None:
    assert cli.any("group", "delete", group).exit_code == 6
    cli("group", "delete", group, "--dry-run")
    cli("group", "delete", group, "--yes")
    assert cli.any("group", "describe", group).exit_code == 4


class Reading:
    """A client and its member of a group: it has these offsets, and gets nothing more."""

    def __init__(self, positions: dict[int, int], ends: dict[int, int] | None) -> None:
        self.admin = self
        self.positions = positions
        self.ends = ends

    def fetch(self, *, max_records: int, wait: float) -> list[Record]:
        return []

    def position(self) -> dict[str, dict[int, int]]:
        return {"orders": self.positions}

    def lag(self) -> dict[str, dict[int, int]]:
        return {"orders": dict.fromkeys(self.positions, 0)}

    def list_offsets(self, topic: str, positions: dict[int, str]) -> dict[int, int]:
        if self.ends is None:
            raise LeaderUnknown("partition 1 of orders has no leader")
        return {number: self.ends[number] for number in positions}


def read_to_the_end(reading: Reading) -> None:
    client, member = cast("Client", reading), cast("Subscription", reading)
    printer, choice = Printer("value"), chooser(None, None)
    _work(client, member, "orders", printer, choice, limit=None, follow=False)


def test_a_member_is_not_at_the_end_of_a_partition_that_it_could_not_fetch() -> None:
    read_to_the_end(Reading({0: 4, 1: 4}, {0: 4, 1: 4, 2: 9}))
    read_to_the_end(Reading({}, None))
    with pytest.raises(LeaderUnknown):
        read_to_the_end(Reading({0: 4, 1: 4}, None))
    with pytest.raises(Failure, match="partitions 1") as failed:
        read_to_the_end(Reading({0: 4, 1: 4}, {0: 4, 1: 5}))
    assert failed.value.code == Exit.PARTIAL
