"""`python -m ops.fuzz.guided TARGET [libFuzzer options]`: the same targets, driven by coverage.

Needs the `atheris` package, which is no dependency of the project. Example of an option:
`-max_total_time=60`. A crash writes its input to a file; `ops/fuzz/run --replay @FILE` runs it.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["penstock", "ops.fuzz"]):
    from ops.fuzz.__main__ import run_one
    from ops.fuzz.targets import TARGETS


def main() -> None:
    """Hand over to libFuzzer; it never returns."""
    target = TARGETS[sys.argv.pop(1)]
    seeds = iter(target.corpus)

    def use(data: bytes) -> None:
        # libFuzzer starts from an empty input; the first calls learn from valid ones instead.
        run_one(target, next(seeds, data))

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        changed = bytearray(atheris.Mutate(data or target.corpus[seed % len(target.corpus)],
                                           size_max))  # fmt: skip
        if target.repair is not None:
            target.repair(changed, Random(seed))
        return bytes(changed[:size_max])

    atheris.Setup(sys.argv, use, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
