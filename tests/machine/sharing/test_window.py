"""The window by itself: sizes, queries, its front, and its snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import CorruptData
from penstock_broker.machine.sharing import window as window_
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.packing import pack, unpack
from penstock_broker.machine.sharing.state import DELAYED, DONE, FREE, HELD, LEASED
from penstock_broker.machine.sharing.window import Window
from tests.machine.sharing.sample import Partition

MANY = 1_000_000


def leased(start: int, count: int, owner: int = 7) -> Window:
    made = Window(start)
    made.extend(start + count, FREE)
    made.change(start, start + count, FREE, LEASED, owner)
    return made


def size(window: Window) -> int:
    ready = window._ready
    return (
        window._states.__sizeof__()
        + window._owners.__sizeof__()
        + (0 if ready is None else ready.__sizeof__())
    )


def test_a_million_records_take_little_memory() -> None:
    window = leased(5, MANY)
    assert size(window) < 6 << 20
    window.delay(500_000, [1 << 60] * 400_000)
    assert size(window) < 20 << 20


def test_what_is_settled_at_the_front_is_let_go() -> None:
    window = leased(0, 100_000)
    for offset in range(0, 99_000, 10):
        window.change(offset, offset + 10, LEASED, DONE)
        window.advance()
        kept = window.end - window._base
        assert kept <= max(2 * (window.end - window.start), 2 * window_.FRONT_MIN) + 10
    assert window.start == 99_000
    assert window.owner(99_500) == 7
    window.change(99_000, 100_000, LEASED, DONE)
    window.advance()
    assert size(window) < 1_000


def test_a_window_says_what_any_offset_is() -> None:
    window = leased(10, 5)
    window.change(10, 12, LEASED, DONE)
    window.delay(13, [99])
    window.advance()
    assert [window.state(offset) for offset in (0, 11, 12, 13, 14, 15, 10**9)] == [
        DONE, DONE, LEASED, DELAYED, LEASED, FREE, FREE,
    ]  # fmt: skip
    assert [window.owner(offset) for offset in (11, 12, 13, 15)] == [0, 7, 0, 0]
    assert [window.ready_at(offset) for offset in (11, 12, 13, 15)] == [0, 0, 99, 0]
    assert (window.count(LEASED), window.count(DONE), window.count(DELAYED)) == (2, 0, 1)


def test_runs_are_found_page_by_page() -> None:
    window = leased(0, 100)
    for offset in range(0, 100, 10):
        window.change(offset, offset + 3, LEASED, DONE)
    assert window.runs(LEASED, 0, 2) == [(3, 7), (13, 7)]
    assert window.runs(LEASED, 15, 2) == [(15, 5), (23, 7)]
    assert window.runs(LEASED, 99) == [(99, 1)]
    assert window.runs(LEASED, 200) == []


def test_delayed_records_are_found_page_by_page() -> None:
    window = leased(0, 10)
    window.delay(1, [11, 12])
    window.delay(5, [15, 16, 17])
    assert window.delayed(0, 3) == [(1, 11), (2, 12), (5, 15)]
    assert window.delayed(6) == [(6, 16), (7, 17)]
    assert leased(0, 3).delayed() == []


def test_a_page_may_begin_anywhere() -> None:
    window = leased(10, 5)
    window.delay(13, [99])
    for before in (-(2**63), -1, 0):
        assert window.runs(LEASED, before) == [(10, 3), (14, 1)]
        assert window.delayed(before) == [(13, 99)]
    for behind in (15, 16, 2**64 - 1):
        assert window.runs(LEASED, behind) == window.delayed(behind) == []


def test_a_window_holds_to_the_table_of_transitions() -> None:
    window = leased(0, 2)
    window.change(0, 1, LEASED, DONE)
    with pytest.raises(AssertionError, match="do not go"):
        window.change(0, 1, DONE, FREE)


def test_records_of_several_owners_are_told_apart() -> None:
    window = leased(0, 10)
    window.change(3, 5, LEASED, FREE)
    window.change(3, 5, FREE, LEASED, 8)
    assert window.pieces(0, 99) == [(LEASED, 7, 0, 3), (LEASED, 8, 3, 5), (LEASED, 7, 5, 10)]
    assert window.all_are([3, 2], LEASED, 8)
    assert not window.all_are([2, 3], LEASED, 8)
    assert not window.all_are([8, 3], LEASED, 7)


def test_a_snapshot_does_not_tell_what_was_cut_off_when() -> None:
    one, other = leased(0, 18_000), leased(0, 18_000)
    for window, step in ((one, 1), (other, 9_999)):
        for offset in range(0, 9_999, step):
            window.change(offset, offset + step, LEASED, DONE)
            window.advance()
    assert one._base != other._base
    assert one.row() == other.row()
    assert Window.of(one.row()).row() == one.row()


def test_a_large_snapshot_is_small() -> None:
    states, owners, ready = leased(0, MANY).row()[2:]
    assert sum(len(data) for part in (states, owners, ready) for _, data in part) < 10_000


@pytest.mark.parametrize("length", [0, 1, 199, 5_000, (4 << 20) + 3])
def test_packing_keeps_every_byte(length: int) -> None:
    data = bytes(number * number % 251 for number in range(1_000)) * (length // 1_000 + 1)
    packed = pack(data[:length])
    assert unpack(packed, length) == data[:length]


def damage_size(row: list[Any]) -> None:
    row[1] += 1


def damage_bytes(row: list[Any]) -> None:
    row[2] = [(row[2][0][0], b"\x28\xb5\x2f\xfd" + b"x" * 9)]


def damage_states(row: list[Any]) -> None:
    row[2] = [(100, bytes([HELD + 3]) * 100)]


@pytest.mark.parametrize("damage", [damage_size, damage_bytes, damage_states])
def test_a_damaged_snapshot_is_refused(damage: Any) -> None:
    row: list[Any] = list(leased(0, 1_000).row())
    if damage is damage_states:
        row[1] = 100
        row[3] = []
    damage(row)
    with pytest.raises(CorruptData):
        Window.of((row[0], row[1], *row[2:]))


def test_serials_of_leases_wrap_around() -> None:
    partition = Partition()
    partition.grant(0, 1)
    partition.group._serial = (1 << 32) - 1
    partition.grant(1, 1)
    partition.grant(2, 1)
    group = partition.group
    assert [lease.serial for lease in group.leases.values()] == [1, (1 << 32) - 1, 2]
    assert SharedGroup.of(group.row()).serials.keys() == group.serials.keys()


def test_what_is_due_comes_as_runs() -> None:
    window = Window()
    window.extend(6, FREE)
    window.change(0, 6, FREE, LEASED, 1)
    window.delay(0, [5, 5, 9, 5, 9, 5])
    assert window.due(0, 6, 4) == []
    assert window.due(0, 6, 5) == [(0, 2), (3, 1), (5, 1)]
    assert window.due(1, 4, 9) == [(1, 3)]


def test_what_waits_comes_as_runs_of_one_time() -> None:
    window = Window()
    window.extend(4, DELAYED, 7)
    window.extend(9, DELAYED, 8)
    window.extend(10, FREE)
    window.extend(12, DELAYED, 8)
    assert window.waiting() == [(0, 4, 7), (4, 5, 8), (10, 2, 8)]
    assert window.waiting(2, 3) == [(2, 2, 7), (4, 1, 8)]
    assert window.waiting(5, 9) == [(5, 4, 8), (10, 2, 8)]
    assert window.waiting(12) == Window().waiting() == []
