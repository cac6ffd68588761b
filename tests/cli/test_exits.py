from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from penstock import errors
from penstock.cli.commands import Root, Verb
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


@click.command(cls=Verb)
def boom() -> None:
    raise LookupError("nothing there")


broken = Root("broken", nouns={"Verbs": {"boom": ("tests.cli.test_exits:boom", "Fails.")}})


def test_a_bug_is_one_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(broken, ["boom"])
    assert shown.exit_code == 1
    assert shown.stderr.splitlines()[0] == "error: LookupError: nothing there"
    assert "PENSTOCK_DEBUG" in shown.stderr
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")
    assert isinstance(CliRunner().invoke(broken, ["boom"]).exception, LookupError)
