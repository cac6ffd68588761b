"""Replicas that are dropped, in the world of storage: whole in place, whole in quarantine, or gone.

A follower's group leaves by a committed decision. Until its drop is durable a stop brings it back
as it was. From then on its log lies in quarantine, until its time is over, its group is deleted, or
there is no room for it. What it had promised is kept for ever: term, vote, and its last entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.storage_checks import check_all_reads, check_log
from penstock_broker.simulation.storage_model import GroupModel, Machine, Violation
from penstock_broker.storage import RecoveredGroup, StorageConfig, Store, layout
from penstock_broker.storage.files import Beneath
from penstock_broker.storage.quarantine import Quarantined

KEPT_US: Final = 24 * 3600 * 1_000_000
ROOM: Final = 1 << 40
"""Capacity of a disk that is not full."""


@dataclass(slots=True)
class Departed:
    """A group that was dropped."""

    model: GroupModel
    """As it was then."""
    at_us: int
    state: Machine | None
    """What was handed over with it."""
    bound: tuple[int, int]
    """Term and vote."""
    promised: tuple[int, int]
    """Term and index of its last entry."""
    durable: bool = False
    """No stop brings it back."""
    cramped: bool = False
    """The disk was full when it went: it may be lost."""
    over: bool = False
    """It was let go."""

    @property
    def stays(self) -> bool:
        """Whether it must be in quarantine."""
        machine = self.model.machine
        empty = machine.start_offset == machine.end_offset
        return self.durable and not (self.cramped or self.over or empty)


class Departures:
    """All groups that were dropped, and what must hold of them."""

    def __init__(self) -> None:
        self.all: dict[int, Departed] = {}

    def leaving(self) -> dict[int, GroupModel]:
        """Groups whose drop is not durable yet."""
        return {gid: one.model for gid, one in self.all.items() if not one.durable}

    def due(self, now_us: int) -> None:
        """Time has passed."""
        for one in self.all.values():
            one.over = one.over or (one.durable and one.at_us + KEPT_US <= now_us)

    def went(self, gids: Iterable[int], capacity: int) -> None:
        """A job is about to make drops durable.

        Where it fails for want of room its word may be on the disk all the same, and a stop before
        it is said again finds nothing that was kept.
        """
        for gid in gids:
            if gid in self.all:
                self.all[gid].cramped |= capacity < ROOM

    def durable(self, gids: Iterable[int]) -> None:
        """The job has made them durable."""
        for gid in gids:
            if gid in self.all:
                self.all[gid].durable = True

    def recovered(self, found: Mapping[int, RecoveredGroup]) -> dict[int, GroupModel]:
        """After a start: which groups are back."""
        back: dict[int, GroupModel] = {}
        for gid, one in list(self.all.items()):
            recovered = found.get(gid)
            emptied = recovered is not None and recovered.emptied
            if one.durable and not emptied:
                raise Violation(f"group {gid} is back though its drop was durable")
            if not emptied:
                back[gid] = self.all.pop(gid).model
                continue
            one.durable = True
            self._check_bound(one, recovered)
        return back

    @staticmethod
    def _check_bound(one: Departed, recovered: RecoveredGroup | None) -> None:
        assert recovered is not None, "an emptied group was recovered"
        gid = one.model.gid
        if recovered.hard_state[:2] != one.bound or recovered.promised != one.promised:
            raise Violation(
                f"group {gid} forgot what it promised: {recovered.hard_state[:2]}, "
                f"{recovered.promised}; it was {one.bound}, {one.promised}"
            )
        if recovered.entries or recovered.blob is not None:
            raise Violation(f"group {gid} was dropped, and has entries or a state")

    def check(self, store: Store, disk: SimDisk) -> None:
        """What is in quarantine, and how much it takes, is what is said of it."""
        listed = store.quarantined()
        here = {one.gid for one in listed}
        if len(here) < len(listed):
            raise Violation("a group is in quarantine twice")
        for one in listed:
            departed = self.all.get(one.gid)
            if departed is None or not departed.durable:
                raise Violation(f"group {one.gid} is in quarantine, and was not dropped")
            if not departed.at_us <= one.at_us < departed.at_us + 1000:
                raise Violation(f"group {one.gid} was dropped at {departed.at_us}, not {one.at_us}")
            size = sum(disk.open(path).size() for path in disk.paths() if inside(path, one))
            if size != one.bytes:
                raise Violation(f"{one.path} has {size} bytes, not {one.bytes}")
        for gid, departed in self.all.items():
            if departed.stays and gid not in here and not store.dropping(gid):
                raise Violation(f"group {gid} is not in quarantine any more")

    def check_places(self, store: Store, disk: SimDisk) -> None:
        """When all work is done nothing of a dropped group lies anywhere else."""
        wanted = {one.path.rpartition("/")[2] for one in store.quarantined()}
        found = set(disk.list(layout.QUARANTINE))
        if found != wanted:
            raise Violation(f"in quarantine lie {sorted(found)}, not {sorted(wanted)}")
        for gid, departed in self.all.items():
            if departed.durable and disk.list(layout.partition(gid)):
                raise Violation(f"the log of group {gid}, which was dropped, is still in its place")

    def check_contents(self, store: Store, disk: SimDisk, config: StorageConfig) -> int:
        """Each replica in quarantine is whole; how many batches were read."""
        batches = 0
        for one in store.quarantined():
            fork = disk.fork()
            copy = Beneath(fork, one.path)
            copy.open(layout.FORMAT, create=True).pwrite([fork.content(layout.FORMAT)], 0)
            batches += self._check_content(copy, self.all[one.gid], config)
        return batches

    @staticmethod
    def _check_content(copy: Beneath, departed: Departed, config: StorageConfig) -> int:
        """It is a data directory of its own."""
        model = departed.model
        kept = Store.open(copy, replace(config, quarantine_seconds=0), fresh_uuid=bytes(16))
        recovered = kept.recovered[model.gid]
        if set(kept.recovered) != {model.gid} or set(kept.logs) != {model.gid}:
            raise Violation(f"the quarantine of group {model.gid} holds {sorted(kept.recovered)}")
        if departed.state is not None and (
            recovered.blob is None or Machine.restore(recovered.blob) != departed.state
        ):
            raise Violation(f"the quarantine of group {model.gid} has another state")
        check_log(model, kept.log(model.gid))
        return check_all_reads(kept, model, 5000)


def inside(path: str, one: Quarantined) -> bool:
    """Whether a file counts for a quarantined replica."""
    return path.startswith(f"{one.path}/")
