"""Checks history files: `python -m ops.history FILE...`; the exit code is 1 if a promise is broken.

Several files are one history: their clocks are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ops.history.check import Verdict, check
from ops.history.form import BadHistory, Operation, read


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, check, print."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.history", description=__doc__.split("\n")[0]
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        verdict = check(_all(options.files))
    except (BadHistory, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(vars(verdict)) if options.json else render(verdict))
    return 0 if verdict.ok else 1


def _all(files: Sequence[Path]) -> Iterator[Operation]:
    for file in files:
        with file.open(encoding="utf-8") as lines:
            try:
                yield from read(lines)
            except BadHistory as error:
                raise BadHistory(f"{file}: {error}") from error


def render(verdict: Verdict) -> str:
    """The verdict as a table, then the violations in words."""
    rows = [(name, count) for name, count in sorted(verdict.operations.items())]
    rows += [("partitions", verdict.partitions), ("records acknowledged", verdict.records)]
    rows += [(f"violation: {kind}", count) for kind, count in sorted(verdict.violations.items())]
    rows += [("violations", verdict.violations.total())]
    return "\n".join([*(f"{name:<40} {count:>12,}" for name, count in rows), *verdict.words])


if __name__ == "__main__":
    sys.exit(main())
