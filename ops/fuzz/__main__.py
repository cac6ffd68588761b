"""`ops/fuzz/run`: mutate, run, count; see the package."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from typing import NamedTuple

from ops.fuzz.mutate import mutated
from ops.fuzz.targets import TARGETS, Target, outcome_of
from penstock.errors import PenstockError

CORPUS_MAX = 2_000
CRASHES_MAX = 20
GROWTH_KIB_MAX = 96 * 1024
"""How much the process may grow: for a stranger's word no memory is taken, and none is lost."""


class Crash(NamedTuple):
    """An input that broke a promise."""

    target: str
    data: bytes
    error: BaseException


def run_one(target: Target, data: bytes) -> str:
    """Use an input; errors of the tree are outcomes, all others pass through."""
    try:
        return target.run(data)
    except PenstockError as error:
        return outcome_of(error)


def fuzz(name: str, inputs: int, rng: Random) -> tuple[Counter[str], list[Crash]]:
    """Feed one target with mutations; returns outcomes with their counts, and crashes."""
    target = TARGETS[name]
    corpus = list(target.corpus)
    outcomes: Counter[str] = Counter()
    crashes: list[Crash] = []
    for known in corpus:
        outcomes[run_one(target, known)] += 1
    for _ in range(inputs):
        data = mutated(corpus, rng)
        if target.repair is not None:
            target.repair(data, rng)
        given = bytes(data)
        try:
            outcome = run_one(target, given)
        except Exception as error:
            crashes.append(Crash(name, given, error))
            if len(crashes) == CRASHES_MAX:
                break
            continue
        if outcome not in outcomes and len(corpus) < CORPUS_MAX:
            corpus.append(given)
        outcomes[outcome] += 1
    return outcomes, crashes


def report(crash: Crash) -> None:
    """Say what happened and how to see it again."""
    kind = type(crash.error).__name__
    print(f"CRASH {crash.target}: {kind}: {crash.error}")
    print(f"  again: ops/fuzz/run --target {crash.target} --replay {crash.data.hex()}")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="ops/fuzz/run", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, help="default: all")
    parser.add_argument("--replay", metavar="HEX", help="one input, as hexadecimal or @FILE")
    parser.add_argument("--outcomes", action="store_true", help="list every outcome")
    options = parser.parse_args()
    if options.replay:
        return replay(options.target or parser.error("--replay needs --target"), options.replay)
    names = [options.target] if options.target else list(TARGETS)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    total, distinct = 0, 0
    crashes: list[Crash] = []
    for name in names:
        started = time.perf_counter()
        rng = Random(f"{options.seed} {name}")
        outcomes, found = fuzz(name, options.inputs // len(names), rng)
        seconds = time.perf_counter() - started
        count = outcomes.total() + len(found)
        print(
            f"{name:14} {count:9,} inputs {len(outcomes):6,} outcomes {len(found):3} crashes "
            f"{seconds / count * 1e6:7.1f} us each",
            flush=True,
        )
        if options.outcomes:
            for outcome, times in outcomes.most_common():
                print(f"    {times:9,} {outcome}")
        total, distinct, crashes = total + count, distinct + len(outcomes), crashes + found
    for crash in crashes:
        report(crash)
    growth = getrusage(RUSAGE_SELF).ru_maxrss - before
    print(
        f"{total:,} inputs, {distinct:,} distinct outcomes, {len(crashes)} crashes, "
        f"grew by {growth // 1024} MiB, seed {options.seed}"
    )
    return int(bool(crashes) or growth > GROWTH_KIB_MAX)


def replay(name: str, given: str) -> int:
    """Run one input and let its exception through."""
    data = Path(given[1:]).read_bytes() if given.startswith("@") else bytes.fromhex(given)
    print(run_one(TARGETS[name], data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
