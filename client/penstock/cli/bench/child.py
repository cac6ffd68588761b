"""A client process of a measurement: `python -m penstock.cli.bench.child`.

Reads a `Load` from standard input, connects and warms up, says that it is ready, waits for one
more line, works, and writes its `Outcome`. Every line is a JSON object.
"""

from __future__ import annotations

import sys

import msgspec

from penstock.cli.bench.meter import Meter
from penstock.cli.bench.spec import Load, Report
from penstock.cli.exits import hint_for
from penstock.errors import PenstockError


def say(report: Report) -> None:
    """Write one line to the process that started this one."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def wait_for_go() -> None:
    """Say that this process is ready, and block until all are."""
    say(Report(ready=True))
    sys.stdin.buffer.readline()


def main() -> int:
    """Run one load; the exit code is 0 when it ran to its end."""
    load = msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)
    meter = Meter(load)
    try:
        if load.driver == "sync":
            from penstock.cli.bench import blocking

            blocking.run(meter, wait_for_go)
        else:
            from penstock.cli.bench import concurrent

            concurrent.run(meter, wait_for_go)
    except (PenstockError, OSError, TimeoutError) as error:
        say(Report(error=str(error) or type(error).__name__, hint=hint_for(error)))
        return 1
    say(Report(outcome=meter.outcome()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
