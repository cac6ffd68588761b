"""Several brokers of one machine: who gets which port, directory and name."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import BadRequest
from penstock_broker.runtime.supervisor import (
    DRAIN_ALL_SECONDS_MAX,
    DRAIN_MEMBER_SECONDS_MAX,
    Drain,
    Member,
    members_of,
)


def options(**given: Any) -> dict[str, object]:
    return {"processes": 3, "data": "d", "listen": "127.0.0.1:7400", **given}


def test_members_lie_beside_one_another_and_join_all_of_them() -> None:
    members = members_of(options(host_label="rack-7", log_level="debug"))
    assert [member["listen"] for member in members] == [f"127.0.0.1:740{n}" for n in range(3)]
    assert [member["data"] for member in members] == ["d/0", "d/1", "d/2"]
    all_of_them = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
    assert {member["join"] for member in members} == {all_of_them}
    assert {member["host_label"] for member in members} == {"rack-7"}
    assert {member["log_level"] for member in members} == {"debug"}
    assert not any("processes" in member for member in members)


def test_other_machines_are_joined_too() -> None:
    members = members_of(
        options(processes=2, listen="0.0.0.0:7400", advertise="n1:7400", join="n1:7400,n2:7400")
    )
    assert [member["advertise"] for member in members] == ["n1:7400", "n1:7401"]
    assert {member["join"] for member in members} == {"n1:7400,n2:7400,n1:7401"}


def test_the_port_file_tells_of_the_first_member() -> None:
    members = members_of(options(port_file="port"))
    assert ["port_file" in member for member in members] == [True, False, False]


@pytest.mark.parametrize(
    "given", [{"listen": "127.0.0.1:0"}, {"listen": "nowhere"}, {"processes": 0}]
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        members_of(options(**given))


def test_a_member_that_keeps_dying_is_started_less_and_less_often() -> None:
    member = Member(0, options())
    pauses = [member.rest() for _ in range(12)]
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0


def running(count: int) -> list[Member]:
    return [Member(number, options()) for number in range(count)]


def test_members_end_one_after_the_other() -> None:
    members = running(3)
    members[1].code = 70  # it is dead already
    drain = Drain(members)
    assert drain.step(100.0) == [members[0]]
    assert drain.step(101.0) == []
    members[0].code = 0
    assert drain.step(102.0) == [members[2]]
    members[2].code = 0
    assert drain.step(103.0) == []


def test_a_member_that_does_not_end_holds_up_the_others_for_a_while_only() -> None:
    members = running(3)
    drain = Drain(members)
    assert drain.step(100.0) == [members[0]]
    assert drain.step(100.0 + DRAIN_MEMBER_SECONDS_MAX) == [members[1]]


def test_many_members_end_together_when_it_takes_too_long() -> None:
    members = running(100)
    drain = Drain(members)
    assert drain.step(100.0) == [members[0]]
    assert drain.step(100.0 + DRAIN_ALL_SECONDS_MAX) == members[1:]
    assert drain.step(101.0 + DRAIN_ALL_SECONDS_MAX) == []


@pytest.mark.parametrize("code", [71, 72])
def test_a_member_whose_directory_must_not_go_on_is_not_started_again(code: int) -> None:
    (member,) = running(1)
    member.code = code
    assert not member.due
    member.code = 1
    assert member.due
