"""What a campaign on a cluster has to tell in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ops.faults.tally import DOES, Tally, may


@dataclass
class ClusterReport:
    """What happened so far."""

    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    """Failpoints, and how often each was hit."""
    clusters: int = 0
    episodes: int = 0
    acknowledged: int = 0
    checked: int = 0
    leases: int = 0
    """Records of a shared group that somebody was told of."""
    commits: int = 0
    """Of an ordered group."""
    ends: int = 0
    """Linearizable answers to where a log ends."""
    operations: int = 0
    """Lines of the histories."""
    judging: float = 0.0
    """Seconds that went by until the histories were checked."""
    handovers: int = 0
    """Leads that were given away as planned, with nothing else going wrong meanwhile."""
    redelivered: int = 0
    """Records that came again in those episodes though their leases held."""
    longest_pause: float = 0.0
    """Seconds without any acknowledgement, whatever was done to the brokers."""
    slowest_return: float = 0.0
    """Seconds from a broker's start after a failpoint to the next acknowledgement."""
    failed_steps: list[str] = field(default_factory=list)
    """Of the campaign itself: it went on with the next one."""
    breaches: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """The result as a table."""
        missing = self.tally.missing()
        return [
            ("minutes", f"{self.seconds / 60:.1f}"),
            *((f"fault: {kind}", f"{count:,}") for kind, count in sorted(self.faults.items())),
            ("faults", f"{self.faults.total():,}"),
            ("failpoints hit", f"{self.tally.hits.total():,}"),
            ("failpoints hit, different", f"{self.tally.different} of {len(self.tally.points)}"),
            ("failpoints, fewest hits of one", f"{self.tally.fewest:,}"),
            ("failpoints never hit", ", ".join(missing) or "none"),
            *self._wanted(),
            ("clusters; episodes", f"{self.clusters:,}; {self.episodes:,}"),
            ("records acknowledged", f"{self.acknowledged:,}"),
            ("records read back and checked", f"{self.checked:,}"),
            ("records leased in shared groups", f"{self.leases:,}"),
            ("commits of ordered groups", f"{self.commits:,}"),
            ("linearizable answers", f"{self.ends:,}"),
            ("operations in the histories", f"{self.operations:,}"),
            ("minutes for checking them", f"{self.judging / 60:.1f}"),
            (
                "planned hand-overs; records that came again",
                f"{self.handovers}; {self.redelivered}",
            ),
            ("longest pause without an acknowledgement", f"{self.longest_pause:.1f} s"),
            ("longest from a broker's return to the next one", f"{self.slowest_return:.1f} s"),
            ("steps of the campaign that failed", f"{len(self.failed_steps):,}"),
            ("breaches", f"{len(self.breaches):,}"),
        ]

    def _wanted(self) -> list[tuple[str, str]]:
        """Points and what they do, of which a number of hits was wanted."""
        tally = self.tally
        below = len(tally.below(*DOES))
        every = sum(may(point, does) for point in tally.points for does in DOES)
        row = (f"failpoints and kinds below {tally.wanted} hits", f"{below} of {every}")
        return [row] * (tally.wanted > 0)

    def text(self) -> str:
        """The table, then in words what went wrong."""
        lines = [f"{name:<46} {value:>12}" for name, value in self.rows()]
        lines += [f"failed step: {words}" for words in self.failed_steps[-10:]]
        return "\n".join([*lines, *self.breaches])

    def line(self) -> str:
        """Where the campaign stands."""
        return (
            f"{self.seconds / 60:.1f} min, episode {self.episodes}: {self.faults.total()} faults, "
            f"{self.tally.hits.total():,} failpoints ({self.tally.different} different), "
            f"{self.acknowledged:,} records acknowledged, {self.checked:,} checked, "
            f"{len(self.failed_steps)} failed steps, {len(self.breaches)} breaches"
        )
