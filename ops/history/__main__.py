"""Checks history files: `python -m ops.history FILE...`; the exit code is 1 if a promise is broken.

Several files are one history: their clocks are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ops.history.check import Verdict, judge, take
from ops.history.form import BadHistory
from ops.history.spool import Memory, Spool

SPOOL_ABOVE_BYTES: Final = 32 << 20
"""Larger histories are not held in memory, but sorted into files beside them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, check, print."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.history", description=__doc__.split("\n")[0]
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        verdict = check_files(options.files)
    except (BadHistory, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(vars(verdict)) if options.json else render(verdict))
    return 0 if verdict.ok else 1


def check_files(files: Sequence[Path], spool_above: int = SPOOL_ABOVE_BYTES) -> Verdict:
    """Hold the history in some files against the rules; a large one place by place.

    Raises:
        BadHistory: a file does not have the form.
        OSError: a file can't be read.
    """
    verdict = Verdict()
    with ExitStack() as stack:
        large = sum(file.stat().st_size for file in files) > spool_above
        kept: Memory | Spool = Memory()
        if large:
            folder = stack.enter_context(TemporaryDirectory(dir=files[0].parent))
            kept = stack.enter_context(closing(Spool(Path(folder))))
        for file in files:
            with file.open(encoding="utf-8") as lines:
                try:
                    take(lines, verdict, kept)
                except BadHistory as error:
                    raise BadHistory(f"{file}: {error}") from error
        judge(kept, verdict)
    return verdict


def render(verdict: Verdict) -> str:
    """The verdict as a table, then the violations in words."""
    rows = [(name, count) for name, count in sorted(verdict.operations.items())]
    rows += [("partitions", verdict.partitions), ("records acknowledged", verdict.records)]
    rows += [(f"violation: {kind}", count) for kind, count in sorted(verdict.violations.items())]
    rows += [("violations", verdict.violations.total())]
    return "\n".join([*(f"{name:<40} {count:>12,}" for name, count in rows), *verdict.words])


if __name__ == "__main__":
    sys.exit(main())
