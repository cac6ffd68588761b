"""The shared groups of one partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from penstock_broker.machine.commands import Command, Refused
from penstock_broker.machine.effects import Effect
from penstock_broker.machine.sharing.group import GroupRow, SharedGroup
from penstock_broker.machine.sharing.replies import Done, SharedConfigured, ShareReplies
from penstock_broker.machine.stamp import Stamp

GROUPS_MAX: Final = 40
"""Groups of a partition: those of the topic, and one that the brokers need."""

SharingReply = Refused | ShareReplies | SharedConfigured | Done


class Sharing:
    """Every shared group of a partition; `PartitionMachine.sharing`.

    Attributes:
        groups: by name.
        collecting: the groups that take in every record that arrives (hold and timer).
    """

    __slots__ = ("collecting", "groups")

    def __init__(self) -> None:
        self.groups: dict[str, SharedGroup] = {}
        self.collecting: tuple[SharedGroup, ...] = ()

    @property
    def floor(self) -> int | None:
        """Lowest offset that a group has not settled; None: there is no group."""
        return min((group.start for group in self.groups.values()), default=None)

    def apply(
        self, command: Command, at: Stamp, log_start: int, log_end: int
    ) -> tuple[SharingReply, list[Effect]]:
        """Carry out `ShareOps`, `ConfigureShared` or `RemoveShared`.

        Offsets from `log_start` to `log_end` are in the log.
        """
        raise AssertionError

    def appended(self, first: int, end: int, deliver_at_us: int | None) -> None:
        """Records [first, end) were applied; only needed if there are `collecting` groups."""

    def trimmed(self, log_start: int) -> list[Effect]:
        """Records below an offset are deleted: none of them can be delivered or moved any more."""
        return []

    def rows(self) -> list[GroupRow]:
        """The snapshot's form."""
        return [self.groups[name].row() for name in sorted(self.groups)]

    def restore(self, rows: Sequence[GroupRow]) -> None:
        """Take over rows.

        Raises:
            CorruptData: they are damaged; the state is as before.
        """
