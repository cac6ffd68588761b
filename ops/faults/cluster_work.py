"""A topic, the programs that work on it while brokers are hurt, and the judgement on them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ops.faults.broker import ROOT
from ops.faults.cluster_groups import GroupLoad
from ops.faults.cluster_load import ClusterLoad
from ops.faults.cluster_report import ClusterReport
from ops.history.form import Writer
from penstock import sync

CREATE_SECONDS: Final = 30.0
JUDGE_SECONDS: Final = 600.0


class Work:
    """Load on one topic of its own; `path` is its history."""

    def __init__(
        self, address: str, topic: str, partitions: int, folder: Path, *, clocks_differ: bool
    ) -> None:
        self.topic = topic
        self.path = folder / f"history-{topic}.jsonl"
        self._address = address
        self._partitions = partitions
        self._stack = ExitStack()
        history = self._stack.enter_context(Writer(self.path))
        self.load = ClusterLoad(address, topic, partitions, history)
        self.groups = GroupLoad(address, topic, history, self.load.stopping)
        self.groups.clocks_differ = clocks_differ
        self._stack.enter_context(self.groups.watching())

    def create(self, copies: int) -> None:
        """Make the topic, with so many copies of each partition."""
        with sync.connect(self._address, request_timeout=CREATE_SECONDS) as client:
            client.admin.create_topic(self.topic, self._partitions, copies, if_not_exists=True)

    def start(self, producers: int, size: int, rest: float) -> None:
        """Let the programs work; see `ClusterLoad`."""
        self.load.rest = rest
        self.load.start(producers, size)
        self.groups.begin(self.load.run)

    def finish(self, report: ClusterReport) -> None:
        """Have everything end, and note what is there then."""
        load, groups = self.load, self.groups
        load.stop()
        ends = load.read_back()
        left = groups.drain(ends)
        load.join()
        groups.end()
        with sync.connect(self._address, request_timeout=CREATE_SECONDS) as client:
            groups.ask_positions(client)
        report.breaches += [f"{self.topic}: {words}" for words in load.errors[:10]]
        report.breaches += [f"{self.topic}: {left}"] if left else []
        report.checked += sum(ends.values())
        report.ends += load.ends
        report.leases += groups.delivered
        report.commits += groups.committed

    def close(self) -> None:
        """Let go of everything, whatever came of it; what still runs ends by itself."""
        self.load.stopping.set()
        self.groups.give_up()
        self._stack.close()

    def delete(self) -> None:
        """Delete the topic and its dead letters: the disks keep what is worked on only."""
        with sync.connect(self._address, request_timeout=CREATE_SECONDS) as client:
            names = [topic.name for topic in client.admin.list_topics()]
            dead = [name for name in names if name.startswith(f"dead.{self.topic}.")]
            for name in (self.topic, *dead):  # a group that is still there keeps its dead letters
                client.admin.delete_topic(name)

    def judge(self, report: ClusterReport) -> None:
        """Have the history checked by a process of its own, which gives its memory back."""
        command = [sys.executable, "-m", "ops.history", "--json", str(self.path)]
        start = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=JUDGE_SECONDS, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"no judgement on {self.path}: {done.stderr[-500:]}")
        verdict = json.loads(done.stdout)
        report.operations += sum(verdict["operations"].values())
        report.breaches += [f"{self.path}: {words}" for words in verdict["words"]]
        report.judging += time.monotonic() - start
