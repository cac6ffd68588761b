"""Groups that the metadata names, or buries, and that are still to be made here, or ended.

Metadata changes at once for any number of partitions; carrying that out takes a fraction of a
millisecond for each. A few are made or ended a round, so that all other groups hear their leaders
and clients their answers meanwhile. What is done is decided when its turn comes, by the metadata of
that moment. Invariant: a group is either as the metadata says, or it waits here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from penstock_broker.machine.effects import Effect, GroupCreated, GroupDeleted
from penstock_broker.machine.metadata import created

if TYPE_CHECKING:
    from penstock_broker.machine.metadata import MetadataMachine

AT_ONCE: Final = 32
"""Groups that are made, or ended, in one round."""


class Making:
    """The groups that wait for their turn, in the order in which the metadata named them."""

    def __init__(
        self, create: Callable[[GroupCreated], None], delete: Callable[[int], None]
    ) -> None:
        self._create = create
        self._delete = delete
        self._waiting: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def postpone(self, effects: Iterable[Effect]) -> list[Effect]:
        """Take over what is too much for one round; returns what is to be done at once."""
        rest, taken = [], 0
        for effect in effects:
            if isinstance(effect, GroupCreated | GroupDeleted):
                taken += 1
                if taken > AT_ONCE or effect.group in self._waiting:
                    self._waiting[effect.group] = None
                    continue
            rest.append(effect)
        return rest

    def step(self, machine: MetadataMachine) -> None:
        """Once a round: some more."""
        for gid in list(islice(self._waiting, AT_ONCE)):
            del self._waiting[gid]
            place = machine.locate(gid)
            if place is not None:
                self._create(created(*place))
            elif machine.is_deleted(gid):
                self._delete(gid)
