"""A walk along all failpoints: each is set on a broker of a cluster that works, until it was hit.

One broker at a time crashes, or gets an error of its disk; pauses happen on all of them meanwhile.
Most steps are taken all the time by what `stirring` does. Others need something special: a start,
an orderly stop, a disk that is lost, a log that is far behind or has entries that nobody else has.
After each hit the broker comes back, and programs must get on with their work.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ops.faults.armed import ArmedBroker
from ops.faults.broker import wait_until
from ops.faults.cluster import ClusterProcesses
from ops.faults.cluster_report import ClusterReport
from ops.faults.cluster_work import Work
from ops.faults.stirring import Stirring
from penstock.errors import PenstockError

LIVE_SECONDS: Final = 30.0
"""Within so much after a broker came back something is acknowledged."""
HAPPENS_SECONDS: Final = 10.0
"""From a broker's start until it has caught up."""
GOES_ON_SECONDS: Final = 3.0
"""From there to the next step on its way."""
WHOLE_SECONDS: Final = 40.0
PAUSES: Final = 2
"""Points that may rest on one broker at a time."""
PAUSED_SECONDS: Final = 1.2
ENDS_OF_ERRORS: Final = (1, 70)
"""How a broker ends whose disk failed: at its start, later."""
SPECIAL: Final[Mapping[str, str]] = {
    "recovery.open": "start",
    "recovery.wal": "start",
    "membership.start": "start",
    "identity.write": "wipe",
    "membership.join": "wipe",
    "checkpoint.rewrite": "wipe",
    "log.append": "behind",
    "log.reset": "behind",
    "snapshot.install": "behind",
    "step.snapshot": "behind",
    "raft.transfer": "stop",
    "step.timeout-now": "stop",
    "raft.truncate": "strand",
}
"""Steps that are not taken all day: how they are brought about."""
CHAINED: Final = ("start", "behind", "wipe")
"""Ways on which one broker goes on from step to step, however often it ends on its way."""


class Walk:
    """Some of the way; the tally of the report remembers where the next walk goes on."""

    def __init__(
        self,
        cluster: ClusterProcesses,
        work: Work,
        stirring: Stirring,
        report: ClusterReport,
        chance: random.Random,
    ) -> None:
        self._cluster = cluster
        self._members = [m for m in cluster.members if isinstance(m, ArmedBroker)]
        self._work = work
        self._stirring = stirring
        self._report = report
        self._chance = chance
        self._counted = {member: len(member.hits()) for member in self._members}
        self._log = work.path.with_name("walk.log")
        self._known = len(report.breaches)
        self._visited = ("", "")
        self._end = threading.Event()
        self._ways: dict[str, Callable[[dict[str, str]], ArmedBroker | None]] = {
            "start": self._start,
            "behind": self._behind,
            "stop": self._stop,
            "strand": self._strand,
            "wipe": self._wipe,
        }

    def run(self, until: float) -> None:
        """Walk until then, or until every point was hit as often as is wanted, or all is broken."""
        tally = self._report.tally
        pauses = threading.Thread(target=self._pause_all_the_time, daemon=True)
        pauses.start()
        try:
            while time.monotonic() < until and not tally.complete and not self._broken:
                harm = tally.below("crash", "error") or not tally.wanted
                self._visit(*tally.next(*(("crash", "error") if harm else ("pause",))))
        finally:
            self._end.set()
            pauses.join(10.0)
            self._count()

    def _note(self, words: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {words}\n")

    @property
    def _broken(self) -> bool:
        return len(self._report.breaches) > self._known

    # ----- one point

    def _visit(self, point: str, does: str) -> None:
        self._visited = (point, does)
        tally = self._report.tally
        first = tally.ways.get((point, does), SPECIAL.get(point.rpartition(".")[0], ""))
        for way in [first, *(way for way in ("", *self._ways) if way != first)]:
            began = time.monotonic()
            if way:
                self._bring_about(way, point, does)
            else:
                self._wait_for(point, does)
            hit = self._count().get((point, does), 0)
            brought = time.monotonic()
            self._revive()
            self._note(
                f"{point}={does} by {way or 'waiting'}: {'hit' if hit else 'missed'} "
                f"{brought - began:.1f} s, on again {time.monotonic() - brought:.1f} s"
            )
            if hit:
                tally.ways[point, does] = way
            if hit or self._broken:
                return

    def _count(self) -> dict[tuple[str, str], int]:
        """Put what was hit since the last time into the tally; returns it."""
        new: dict[tuple[str, str], int] = {}
        for member in self._members:
            hits = member.hits()
            for hit in hits[self._counted[member] :]:
                new[hit] = new.get(hit, 0) + 1
            self._counted[member] = len(hits)
        self._report.tally.hits.update(new)
        return new

    def _is_hit(self, point: str, does: str) -> bool:
        return any(
            (point, does) in member.hits()[self._counted[member] :] for member in self._members
        )

    @contextmanager
    def _armed(self, members: list[ArmedBroker], rules: Mapping[str, str]) -> Iterator[None]:
        for member in members:
            member.arm(rules)
        try:
            yield
        finally:
            for member in members:
                member.disarm(rules)

    def _wait_for(self, point: str, does: str) -> None:
        """Set it on one broker, then on all of them."""
        rules = {point: f"{does}@1"}
        ready = [member for member in self._members if member.running and member.listens]
        member = self._chance.choice(ready or self._members)
        for members, seconds in (([member], 1.0), (self._members, 4.0)):
            with self._armed(members, rules):
                if wait_until(lambda: self._is_hit(point, does), seconds):
                    break
        if does == "error":
            wait_until(lambda: not all(m.running for m in self._members), 1.0)

    def _bring_about(self, way: str, point: str, does: str) -> None:
        """Make it happen; what else happens on that way only rests a little."""
        beside = [
            f"{step}.{side}"
            for step, name in SPECIAL.items()
            for side in ("before", "after")
            if name == way
        ]
        rules = dict.fromkeys(beside, "pause(0.1)@1") | {point: f"{does}@1"}
        if way in CHAINED:
            lacking = [step for step in beside if self._report.tally.lacks(step, does)]
            rules |= dict.fromkeys(lacking, f"{does}@1")
        member = self._ways[way](rules)
        if member is not None:
            self._follow(member, rules, point, does)
        for each in self._members:
            each.disarm(rules)

    def _follow(self, member: ArmedBroker, rules: dict[str, str], point: str, does: str) -> None:
        """Wait until a point is hit; a broker that ended on its way is started for the next."""
        waits = HAPPENS_SECONDS
        left = {step: rule for step, rule in rules.items() if rule.startswith(does)}
        while not self._broken:
            self._rest(member, point, does, waits)
            hit = {step: rule for step, rule in left.items() if self._is_hit(step, does)}
            left = {step: rule for step, rule in left.items() if step not in hit}
            if member.running or not hit or not left:
                return
            if self._is_hit(point, does):
                point, waits = next(iter(left)), GOES_ON_SECONDS
            member.disarm(hit)
            self._begin(member)

    def _rest(self, member: ArmedBroker, point: str, does: str, seconds: float) -> None:
        """Wait until a point is hit; a broker that it ends has a moment to do so."""
        wait_until(lambda: self._is_hit(point, does) or not member.running, seconds)
        wait_until(lambda: not member.running, 0.5)

    def _revive(self) -> None:
        """Start who ended, and see that all goes on."""
        before, since = self._work.load.acknowledged, time.monotonic()
        if not wait_until(lambda: self._goes_on(before), LIVE_SECONDS):
            self._breach(f"nothing was acknowledged in {LIVE_SECONDS} s")
        self._report.slowest_return = max(self._report.slowest_return, time.monotonic() - since)

    def _goes_on(self, before: int) -> bool:
        for member in self._members:
            self._begin(member)
        return self._work.load.acknowledged > before or self._broken

    def _breach(self, words: str) -> None:
        point, does = self._visited
        self._report.tally.breaches[point] += 1
        self._report.breaches.append(f"at {point}={does}: {words}")

    def _begin(self, member: ArmedBroker) -> None:
        """Start it if it ended, as it should; the others go on meanwhile."""
        if member.running:
            return
        failed = member.failure(*self._ends())
        if failed:
            self._breach(failed)
        else:
            member.spawn()

    def _ends(self) -> tuple[int, ...]:
        return ENDS_OF_ERRORS if self._visited[1] == "error" else ()

    # ----- how things are brought about; each returns the broker at which they happen

    def _start(self, rules: dict[str, str]) -> ArmedBroker:
        member = self._chance.choice(self._members)
        member.kill()
        member.arm(rules)
        member.spawn()
        return member

    def _stop(self, rules: dict[str, str]) -> ArmedBroker:
        """Its leads go to others, who may fail to take them."""
        for each in self._members:
            each.arm(rules)
        member = self._chance.choice(self._members)
        try:
            member.stop()
        except subprocess.TimeoutExpired:
            self._breach(f"a broker did not stop:\n{member.log()[-2000:]}")
            member.kill()
        return member

    def _wipe(self, rules: dict[str, str]) -> ArmedBroker | None:
        member = self._chance.choice(self._members)
        with self._stirring.quiet():
            if not wait_until(lambda: self._may_lose(member), WHOLE_SECONDS):
                self._note("no broker may lose its disk now")
                return None
            member.kill()
        shutil.rmtree(member.data)
        member.arm(rules)
        member.spawn()
        self._report.faults["wipe"] += 1
        return member

    def _may_lose(self, member: ArmedBroker) -> bool:
        """Whether all that it holds is on two others; calls come some way apart."""
        time.sleep(0.1)
        return self._stirring.spare(member.address) and self._cluster.whole()

    def _behind(self, rules: dict[str, str]) -> ArmedBroker:
        member = self._chance.choice(self._members)
        member.kill()
        failed = self._stirring.fill_much()
        if failed:
            self._note(f"not filled: {failed}")
        member.arm(rules)
        member.spawn()
        return member

    def _strand(self, rules: dict[str, str]) -> ArmedBroker | None:
        """Let a leader log what the others never get, and come back when they have gone on."""
        try:
            leader = self._cluster.leader(self._work.topic)
        except (PenstockError, LookupError):
            return None
        others = [member for member in self._members if member is not leader]
        for member in others:
            member.kill()
        time.sleep(0.2)
        leader.kill()
        before = self._work.load.acknowledged
        for member in others:
            self._begin(member)
        wait_until(lambda: self._work.load.acknowledged > before, LIVE_SECONDS)
        assert isinstance(leader, ArmedBroker)
        leader.arm(rules)
        leader.spawn()
        return leader

    # ----- pauses

    def _pause_all_the_time(self) -> None:
        while not self._end.is_set():
            plans = {}
            for member in self._members:
                points = [self._report.tally.next("pause")[0] for _ in range(PAUSES)]
                seconds = self._chance.choice([0.1, 0.2, 0.2, 0.2, 1.5])
                plans[member] = dict.fromkeys(points, f"pause({seconds})@1")
                member.arm(plans[member], over=False)
            self._end.wait(PAUSED_SECONDS)
            for member, rules in plans.items():
                member.disarm(rules)
