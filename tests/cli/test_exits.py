from __future__ import annotations

import pytest

from penstock import errors
from penstock.cli.exits import MEANING, Exit, exit_for, hint_for, table


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TopicNotFound(), Exit.NOT_FOUND),
        (errors.GroupNotFound(), Exit.NOT_FOUND),
        (errors.PartitionNotFound(), Exit.NOT_FOUND),
        (errors.InvalidConfig(), Exit.USAGE),
        (errors.GroupNotEmpty(), Exit.REFUSED),
        (errors.TopicExists(), Exit.REFUSED),
        (errors.StorageFull(), Exit.REFUSED),
        (errors.TimedOut(), Exit.UNREACHABLE),
        (errors.ConnectionLost(), Exit.UNREACHABLE),
        (errors.LeaderUnknown(), Exit.UNREACHABLE),
        (errors.CorruptData(), Exit.UNHEALTHY),
        (errors.StorageFailure(), Exit.DISK_FAILED),
        (ConnectionRefusedError(), Exit.UNREACHABLE),
        (PermissionError(), Exit.DENIED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (RuntimeError(), Exit.ERROR),
    ],
)
def test_each_error_has_its_code(error: BaseException, code: Exit) -> None:
    assert exit_for(error) is code


def test_every_code_is_explained() -> None:
    assert set(MEANING) == set(Exit)
    assert all(str(int(code)) in table() for code in Exit)


def test_a_hint_that_says_nothing_is_left_out() -> None:
    assert hint_for(errors.UnknownError()) == ""
    assert hint_for(errors.TopicNotFound()) == errors.TopicNotFound.hint
    assert hint_for(RuntimeError()) == ""
