"""The shared groups of one partition, and which function carries out which op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from penstock.errors import BadRequest, GroupNotFound, InvalidConfig, LimitExceeded
from penstock_broker.machine.commands import (
    Command,
    ConfigureShared,
    Refused,
    RemoveShared,
    ShareOps,
    refuse,
)
from penstock_broker.machine.effects import Effect, SharedConfigured, SharedRemoved
from penstock_broker.machine.names import is_name
from penstock_broker.machine.sharing import (
    grants,
    keeping,
    moving,
    ops,
    replies,
    settings,
    verdicts,
)
from penstock_broker.machine.sharing.group import GroupRow, SharedGroup
from penstock_broker.machine.sharing.outcome import Result, Scene
from penstock_broker.machine.sharing.state import DELAYED, HELD, HOLD, KINDS, SHARED
from penstock_broker.machine.stamp import Stamp

GROUPS_MAX: Final = 40
"""Groups of a partition: those of the topic, and one that the brokers need."""

SharingReply = Refused | replies.ShareReplies | replies.SharedConfigured | replies.Done

_CARRY_OUT: Final[Mapping[type[ops.Op], Callable[[SharedGroup, Any, Scene], Result]]] = {
    ops.Grant: grants.grant,
    ops.Settle: verdicts.settle,
    ops.Renew: grants.renew,
    ops.Extend: grants.extend,
    ops.Expire: verdicts.expire,
    ops.Move: moving.move,
    ops.Moved: moving.moved,
    ops.Drop: moving.drop,
    ops.Redrive: keeping.redrive,
    ops.Purge: keeping.purge,
    ops.Overtake: keeping.overtake,
    ops.Outdate: keeping.outdate,
}


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
        scene = Scene(at.index, at.time_us, log_start, log_end, at.life)
        match command:
            case ShareOps():
                return self._carry_out(command.ops, scene)
            case ConfigureShared():
                return self._configure(command, scene)
            case RemoveShared():
                return self._remove(command.group)
        return refuse(BadRequest, f"no shared group takes {type(command).__name__}"), []

    def _carry_out(
        self, found: Sequence[ops.ShareOp], scene: Scene
    ) -> tuple[SharingReply, list[Effect]]:
        if len(found) > ops.OPS_MAX:
            return refuse(LimitExceeded, f"at most {ops.OPS_MAX} ops in one command"), []
        said: list[replies.OpReply] = []
        effects: list[Effect] = []
        for op in found:
            group = self.groups.get(op.group)
            if group is None:
                said.append(refuse(GroupNotFound, f"there is no shared group {op.group[:80]!r}"))
                continue
            reply, outcome = _CARRY_OUT[type(op)](group, op, scene)
            said.append(reply)
            effects += outcome.effects(group.name)
        return replies.ShareReplies(said), effects

    def _configure(
        self, command: ConfigureShared, scene: Scene
    ) -> tuple[SharingReply, list[Effect]]:
        try:
            chosen = settings.parse(command.settings)
        except InvalidConfig as error:
            return refuse(InvalidConfig, error.message), []
        group = self.groups.get(command.group)
        wrong = self._misfit(command, group)
        if wrong is not None:
            return wrong, []
        if group is not None and command.revision <= group.revision:
            # Said by somebody who was behind: the group may be a later one of this name.
            return replies.SharedConfigured(group.revision, False), []
        gone: list[Effect] = []
        if group is not None and group.id != command.id:
            _, gone = self._remove(group.name)
            group = None
        created = group is None
        if group is None:
            group = self._create(command, scene)
        group.configure(command.revision, chosen, command.dead)
        return (
            replies.SharedConfigured(group.revision, created),
            [*gone, SharedConfigured(group.name)],
        )

    def _misfit(self, command: ConfigureShared, group: SharedGroup | None) -> Refused | None:
        if not is_name(command.group) or command.kind not in KINDS:
            return refuse(BadRequest, "the group has an impossible name or kind")
        if group is not None and group.id == command.id and group.kind != command.kind:
            return refuse(BadRequest, f"the group {group.name!r} is of the kind {group.kind}")
        if group is None and len(self.groups) >= GROUPS_MAX:
            return refuse(LimitExceeded, f"a partition has at most {GROUPS_MAX} shared groups")
        return None

    def _create(self, command: ConfigureShared, scene: Scene) -> SharedGroup:
        start = max(scene.log_start, min(command.start_offset, scene.log_end))
        group = SharedGroup(command.group, command.id, command.kind, scene.entry, start)
        self.groups[group.name] = group
        self._collect()
        if group.kind != SHARED:
            group.window.extend(scene.log_end, HELD if group.kind == HOLD else DELAYED)
        return group

    def _remove(self, name: str) -> tuple[SharingReply, list[Effect]]:
        if self.groups.pop(name, None) is None:
            return replies.Done(), []
        self._collect()
        return replies.Done(), [SharedRemoved(name)]

    def _collect(self) -> None:
        self.collecting = tuple(g for g in self.groups.values() if g.kind != SHARED)

    # ----- the log

    def appended(self, end: int, deliver_at_us: int) -> None:
        """Records up to `end` were applied; only needed if there are `collecting` groups.

        Args:
            end: the offset after the last one.
            deliver_at_us: when those that are new shall be delivered; 0: at once.
        """
        for group in self.collecting:
            group.window.extend(end, HELD if group.kind == HOLD else DELAYED, deliver_at_us)

    def trimmed(self, log_start: int) -> list[Effect]:
        """Records below an offset are deleted: none of them can be delivered or moved any more."""
        return [
            effect
            for group in self.groups.values()
            for effect in keeping.trim(group, log_start).effects(group.name)
        ]

    # ----- snapshots

    def rows(self) -> list[GroupRow]:
        """The snapshot's form."""
        return [group.row() for group in self.groups.values()]

    def restore(self, rows: Sequence[GroupRow]) -> None:
        """Take over rows.

        Raises:
            CorruptData: they are damaged; the state is as before.
        """
        self.groups = {row.name: SharedGroup.of(row) for row in rows}
        self._collect()
