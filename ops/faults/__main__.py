"""Hurts a broker process at random while programs work on it, and checks every promise.

    python -m ops.faults --minutes 10 --seed 1 [--shared | --cluster | --failpoints [--hits 20]]

A third of the time goes to shared groups, whose members are killed and paused too; with `--shared`
all of it. With `--cluster` three brokers are hurt instead, and histories of what programs were told
are held against the rules of `ops.history`; with `--failpoints` they die, rest and fail at each
point of `python -m penstock_broker.failpoints` in turn, until each was hit `--hits` times as each
kind (crash, pause, I/O error where there is a disk), and a table tells how often. Prints the
faults by kind and the records acknowledged and checked. The exit code is 1 if a record is lost,
changed, doubled or out of order, a committed offset went back, damage was served, a lease, an
attempt or a dead letter was not as promised, or something hung; data and logs are kept then.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from ops.faults.campaign import Campaign, Report
from ops.faults.cluster_campaign import ClusterCampaign
from ops.faults.shared import SharedCampaign
from ops.faults.tally import DOES

SHARED_PART = 1 / 3


def main() -> int:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.faults", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long [1]")
    parser.add_argument("--seed", type=int, help="choices of this seed; timing is the machine's")
    parser.add_argument("--shared", action="store_true", help="shared groups alone")
    parser.add_argument(
        "--cluster", action="store_true", help="a cluster of three, and nothing else"
    )
    parser.add_argument(
        "--failpoints",
        action="store_true",
        help="a cluster of three, each failpoint in turn; the time is a limit",
    )
    parser.add_argument(
        "--hits", type=int, default=1, help="with --failpoints: of each, as each kind [1]"
    )
    parser.add_argument("--folder", type=Path, help="where data and logs go")
    options = parser.parse_args()
    # However it ends, brokers and networks go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="penstock-faults-", dir=options.folder))
    print(f"seed {seed}, data and logs in {folder}", file=sys.stderr)
    seconds = options.minutes * 60
    if options.cluster or options.failpoints:
        hits = options.hits if options.failpoints else 0
        return end(folder, seed, run_cluster(folder, seed, seconds, hits=hits))
    breaches = [] if options.shared else run(folder, seed, seconds * (1 - SHARED_PART))
    if not breaches:
        part = 1.0 if options.shared else SHARED_PART
        breaches = run_shared(folder, seed, seconds * part)
    return end(folder, seed, breaches)


def end(folder: Path, seed: int, breaches: list[str]) -> int:
    """Keep what shows how promises were broken; returns the exit code."""
    if breaches:
        print(f"seed {seed}; data and logs are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def run_cluster(folder: Path, seed: int, seconds: float, *, hits: int) -> list[str]:
    """The campaign on a cluster, or a walk until so many hits; returns the breaches."""
    campaign = ClusterCampaign(folder, seed, say)
    report = campaign.report
    try:
        if hits:
            campaign.walk(seconds, hits)
        else:
            campaign.run(seconds)
    finally:
        print(f"{report.tally.table()}\n\n{report.text()}", flush=True)
        if not report.breaches:
            shutil.rmtree(folder, ignore_errors=True)
    below = report.tally.below(*DOES)
    words = ", ".join(f"{point} as {does}" for point, does in below)
    return report.breaches + [f"hit less than {hits} times: {words}"] * bool(below)


def run(folder: Path, seed: int, seconds: float) -> list[str]:
    """The campaign on the log and ordered groups; returns the breaches."""
    report = Campaign(folder, seed, say).run(seconds)
    print(render(report))
    return report.breaches


def run_shared(folder: Path, seed: int, seconds: float) -> list[str]:
    """The campaign on shared groups; returns the breaches."""
    report = SharedCampaign(folder, seed, say).run(seconds)
    print("\n".join(f"{name:<40} {count:>12,}" for name, count in report.rows()))
    print("\n".join([f"{'breaches':<40} {len(report.breaches):>12,}", *report.breaches]))
    return report.breaches


def say(words: str) -> None:
    """Tell how it goes."""
    print(words, file=sys.stderr, flush=True)


def render(report: Report) -> str:
    """The result as a table."""
    rows = [(f"fault: {kind}", count) for kind, count in sorted(report.faults.items())]
    rows += [
        ("episodes", report.episodes),
        ("records acknowledged", report.acknowledged),
        ("records sent again and recognised", report.duplicates),
        ("records checked", report.checked),
        ("committed offsets checked", report.commits),
        ("breaches", len(report.breaches)),
    ]
    lines = [f"{name:<40} {count:>12,}" for name, count in rows]
    lines.append(f"{'slowest start, seconds':<40} {report.slowest_start:>12.2f}")
    return "\n".join([*lines, *report.breaches])


if __name__ == "__main__":
    sys.exit(main())
