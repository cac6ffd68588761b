"""One shared group in one partition: the state that ops change, and what can be asked of it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from penstock_broker.machine.keys import Value
from penstock_broker.machine.sharing import settings as settings_
from penstock_broker.machine.sharing.lease import Lease
from penstock_broker.machine.sharing.moves import MoveRow, Moves
from penstock_broker.machine.sharing.settings import RetryPolicy
from penstock_broker.machine.sharing.state import HOLD, LEASED
from penstock_broker.machine.sharing.trouble import TroubleRow, Troubles
from penstock_broker.machine.sharing.window import NOBODY, Run, Window, WindowRow

_SERIAL_MAX: Final = (1 << 32) - 1


class Counters(Struct, array_like=True, forbid_unknown_fields=True):
    """What has happened to the group's records in this partition, in all."""

    delivered: int = 0
    acked: int = 0
    """Late ones included."""
    late_acks: int = 0
    duplicates: int = 0
    """Acks of records that were done already."""
    failed: int = 0
    timed_out: int = 0
    released: int = 0
    rejected: int = 0
    exhausted: int = 0
    """Given up for having no attempts left, or a reason that is never retried."""
    expired_age: int = 0
    overtaken: int = 0
    """Deleted by retention, or moved before it."""
    dropped: int = 0
    """Given up without a dead letter."""
    moved: int = 0
    redriven: int = 0
    purged: int = 0


class GroupRow(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The snapshot's form of a group."""

    name: str
    id: str
    kind: str
    revision: int
    settings: dict[str, Value]
    dead: int
    incarnation: int
    window: WindowRow
    serial: int
    leases: list[Lease]
    troubles: list[TroubleRow]
    moves: MoveRow
    counters: Counters


class SharedGroup:
    """A shared group in a partition. `apply` alone writes it; everybody may read.

    Attributes:
        name: the group.
        id: of its definition.
        kind: `shared`, `hold` or `timer` (`sharing.state`).
        revision: of its definition in the metadata.
        dead: Raft group id of the partition for its dead letters; 0: none.
        incarnation: Raft index of its creation here; a group made anew has another one.
        settings: complete; `settings_set` holds those that were set.
        policy: the retry policy made of them.
        window: states of the offsets from `start` to `end`.
        leases: by id, oldest first.
        troubles: records with failures or redrives.
        moves: moves under way, and the last ones done.
        counters: what has happened so far.
    """

    __slots__ = (
        "_serial", "counters", "dead", "id", "incarnation", "kind", "leases", "moves", "name",
        "policy", "revision", "serials", "settings", "settings_set", "troubles", "window",
    )  # fmt: skip

    def __init__(self, name: str, id_: str, kind: str, incarnation: int, start: int) -> None:
        self.name = name
        self.id = id_
        self.kind = kind
        self.incarnation = incarnation
        self.window = Window(start)
        self.leases: dict[int, Lease] = {}
        self.serials: dict[int, Lease] = {}
        """Leases by what the window calls them."""
        self.troubles = Troubles()
        self.moves = Moves()
        self.counters = Counters()
        self._serial = NOBODY
        self.configure(0, {}, 0)

    def configure(self, revision: int, settings: dict[str, Value], dead: int) -> None:
        """Take a revision of the definition; the settings were parsed."""
        self.revision = revision
        self.settings_set = settings
        self.settings = settings_.build(settings)
        self.policy = RetryPolicy(self.settings)
        self.dead = dead

    # ----- queries

    @property
    def start(self) -> int:
        """First offset that is not settled."""
        return self.window.start

    @property
    def end(self) -> int:
        """First offset that was never granted; hold and timer groups: the log's end."""
        return self.window.end

    @property
    def drops(self) -> bool:
        """Whether what is given up is dropped, and not kept as a dead letter."""
        return self.kind != HOLD and self.settings.dead_letters == "drop"

    def lease_of(self, offset: int) -> Lease | None:
        """The lease that holds a record."""
        return self.serials.get(self.window.owner(offset))

    def held_by(self, lease: Lease) -> list[Run]:
        """What a lease still holds: runs of offsets, ascending."""
        found: list[Run] = []
        window, spans = self.window, lease.spans
        for first, count in zip(spans[::2], spans[1::2], strict=True):
            if window.all_are((first, count), LEASED, lease.serial):
                found.append((first, count))
                continue
            found += [
                (low, high - low)
                for state, owner, low, high in window.pieces(first, first + count)
                if state == LEASED and owner == lease.serial
            ]
        return found

    def attempts(self, offset: int) -> tuple[int, int, int, int]:
        """Delivered (a delivery under way included), failed, timed out and redriven how often.

        Deliveries that were released do not count.
        """
        trouble = self.troubles.get(offset)
        under_way = 1 if self.window.state(offset) == LEASED else 0
        if trouble is None:
            return under_way, 0, 0, 0
        delivered = trouble.delivered + under_way
        return delivered, trouble.failed, trouble.timed_out, trouble.redrives

    # ----- leases

    def next_serial(self) -> int:
        """A serial that no lease has."""
        serial = self._serial
        while serial == NOBODY or serial in self.serials:
            serial = serial % _SERIAL_MAX + 1
        self._serial = serial
        return serial

    def add_lease(self, lease: Lease) -> None:
        """Make a lease known."""
        self.leases[lease.id] = lease
        self.serials[lease.serial] = lease

    def end_lease(self, lease: Lease) -> None:
        """Forget a lease that holds nothing."""
        assert lease.left == 0, f"lease {lease.id} still holds {lease.left} records"
        del self.leases[lease.id]
        del self.serials[lease.serial]

    # ----- snapshots

    def row(self) -> GroupRow:
        """The snapshot's form."""
        return GroupRow(
            self.name,
            self.id,
            self.kind,
            self.revision,
            self.settings_set,
            self.dead,
            self.incarnation,
            self.window.row(),
            self._serial,
            list(self.leases.values()),
            self.troubles.rows(),
            self.moves.row(),
            self.counters,
        )

    @classmethod
    def of(cls, row: GroupRow) -> SharedGroup:
        """Take over a row.

        Raises:
            CorruptData: it is damaged.
        """
        made = cls(row.name, row.id, row.kind, row.incarnation, 0)
        made.configure(row.revision, row.settings, row.dead)
        made.window = Window.of(row.window)
        made._serial = row.serial
        for lease in row.leases:
            made.add_lease(lease)
        made.troubles = Troubles(row.troubles)
        made.moves = Moves.of(row.moves)
        made.counters = row.counters
        return made
