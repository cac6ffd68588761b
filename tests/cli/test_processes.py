"""The program as a process: signals, pipes, exit codes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.cli.bench.runner import wait_for_file
from tests.cli.conftest import Cli

PATIENCE = 30.0
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "PENSTOCK_SERVER": "",
}


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so do its children.

    A handler here gives children the default. Code between fork and exec (`preexec_fn`) is no
    way: these tests run beside threads, whose locks the child would find locked for ever.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with heeding_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    seen = ""
    while words not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    return seen


@pytest.mark.system
@pytest.mark.parametrize("place", [[], ["--disk"]], ids=["memory", "disk"])
def test_dev_shows_how_to_use_it_and_ctrl_c_leaves_nothing(place: list[str]) -> None:
    with program("dev", "--port", "0", "--topic", "hello", *place) as process:
        said = read_until(process, "Ctrl-C ends it")
        address = said.partition("listens on ")[2].split(",")[0]
        directory = said.partition("records in ")[2].split(".")[0]
        process.send_signal(signal.SIGINT)
        snippet, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert f'penstock.sync.connect("{address}")' in snippet
    assert not place or not Path(directory).exists()


@pytest.mark.system
def test_what_dev_shows_works_when_it_is_pasted() -> None:
    with program("dev", "--port", "0") as process:
        read_until(process, "Ctrl-C ends it")
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        pasted = subprocess.run(
            [sys.executable, "-c", "".join(lines)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    assert pasted.stdout == "b'hello'\n"


@pytest.mark.system
def test_serve_keeps_its_records_and_ends_in_order(tmp_path: Path) -> None:
    for round_number in range(2):
        port_file = tmp_path / f"port-{round_number}"
        arguments = ["--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
        with program("serve", *arguments, "--port-file", str(port_file)) as process:
            port = wait_for_file(port_file, PATIENCE).rpartition(":")[2]
            cli = Cli(f"127.0.0.1:{port}")
            cli("topic", "create", "kept", "--if-not-exists")
            cli("publish", "kept", stdin=f"{round_number}\n")
            kept = cli("consume", "kept", "-o", "value").stdout.split()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
    assert kept == ["0", "1"]


@pytest.mark.parametrize("arguments", [[], ["--memory", "--data", "x"]])
def test_serve_wants_one_place_for_records(cli: Cli, arguments: list[str]) -> None:
    assert cli.any("serve", *arguments).exit_code == 2


@pytest.mark.system
def test_a_reader_that_goes_away_ends_the_program_quietly(cli: Cli, filled: str) -> None:
    for more in ([], ["--follow"]):
        with program("-s", cli.address, "consume", filled, "-o", "value", *more) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""


@pytest.mark.system
def test_ctrl_c_ends_following_quietly(cli: Cli, filled: str) -> None:
    with program("-s", cli.address, "tail", filled, "-f") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert not said.strip()


@pytest.mark.system
def test_no_broker_is_an_error_with_a_hint_and_no_traceback() -> None:
    with program("-s", "127.0.0.1:1", "--timeout", "0.05", "topic", "list") as process:
        out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 7
    assert out == ""
    assert said.startswith("error: no broker could be reached at 127.0.0.1:1")
    assert "\nhint: " in said


@pytest.mark.system
def test_live_names_complete(cli: Cli, topic: str) -> None:
    def complete(words: str, server: str = cli.address) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli"],
            env={
                **ENVIRONMENT,
                "PENSTOCK_SERVER": server,
                "_PENSTOCK_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(len(words.split())),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert done.stderr == ""
        return [line.removeprefix("plain,") for line in done.stdout.split()]

    assert "describe" in complete("penstock topic ")
    assert topic in complete("penstock topic describe ")
    assert complete("penstock topic describe ", server="127.0.0.1:1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script(cli: Cli, shell: str) -> None:
    assert "_PENSTOCK_COMPLETE" in cli("completion", shell).stdout


@pytest.mark.system
@pytest.mark.parametrize(
    ("verb", "driver"),
    [("publish", "asyncio"), ("consume", "trio"), ("latency", "sync"), ("roundtrip", "trio")],
)
def test_bench_measures(cli: Cli, verb: str, driver: str) -> None:
    quick = ["--duration", "0.1", "--warmup", "0.01", "--runs", "1", "--driver", driver]
    short = ["--records", "500"] if verb == "consume" else []
    shown = cli("bench", verb, "--size", "100", *quick, *short, "-o", "json")
    [row] = json.loads(shown.stdout)
    assert row["records"] > 0
    assert row["records_per_second"] > 0
    assert row["client_cpu_us_per_record"] > 0
    assert (row["p50_us"] is None) == (verb == "consume")
    assert cli("topic", "list", "-o", "name").stdout.count("bench-") == 0


@pytest.mark.system
def test_bench_says_why_a_client_failed(cli: Cli) -> None:
    failed = Cli("127.0.0.1:1").any("--timeout", "0.05", "bench", "publish", "--runs", "1")
    assert failed.exit_code == 7


@pytest.mark.system
def test_ctrl_c_hands_back_what_a_shared_member_has(cli: Cli, filled: str) -> None:
    member = ["-s", cli.address, "consume", filled, "-g", "hasty", "--mode", "shared"]
    # The signal goes to the member alone, and may come before it knows the process that it has just
    # started: that one must not hold the pipe, for which `communicate` would wait.
    with program(*member, "--each", "echo begun; exec sleep 30 >&- 2>&-") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, said
    again = cli(*member, "-o", "json", "--max-in-flight", "9", "-n", "9")
    assert len(json.loads(again.stdout)) == 9


@pytest.mark.system
def test_a_reader_that_goes_away_leaves_the_rest_to_others(cli: Cli, filled: str) -> None:
    member = ["-s", cli.address, "consume", filled, "-g", "leaving", "--mode", "shared"]
    with program(*member, "-o", "value", "-f") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
    cli("publish", filled, stdin="more\n")
    assert cli(*member, "-o", "value").stdout == "more\n"
