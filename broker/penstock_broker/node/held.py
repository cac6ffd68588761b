"""Messages of one group that promise something about this broker's disk (Raft's `after_persist`).

Each leaves when the flush has come in which it was held, and the log is durable up to the end that
it had then. Flushes may carry a group's entries in parts, so both are looked at. Invariants: both
numbers never fall along the queue; what was promised of entries that were replaced is not sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from penstock_broker.raft import AppendResponse, Message

_INSTALLING: Final = 1 << 62
"""A flush that never comes: what was handed over last is a snapshot, which no flush brings."""


class Held:
    """Held messages, and whether there is anything to wait for.

    Attributes:
        base: index of the last snapshot that is durable; a flush without entries behind it reports
            an older one.
        logged: index of the last entry that was handed to the store.
        sequence: the first flush that may hold what was handed to the store last.
        clean: whether all that was handed to the store is durable.
        messages: what is held: (flush, index, messages).
    """

    __slots__ = ("_install", "base", "clean", "logged", "messages", "sequence")

    def __init__(self, logged: int) -> None:
        self.base = 0
        self.logged = logged
        self.sequence = 0
        self.clean = True
        self.messages: deque[tuple[int, int, Sequence[Message]]] = deque()
        self._install: list[Message] = []

    def add(self, flush: int, index: int, messages: Sequence[Message]) -> None:
        """Hold messages until a flush has come and the log is durable up to an index."""
        self.messages.append((flush, index, messages))

    def take(self, flush: int, index: int) -> list[Message]:
        """A flush came, up to an index: what may leave now."""
        held, index = self.messages, max(index, self.base)
        free: list[Message] = []
        while held and held[0][0] <= flush and held[0][1] <= index:
            free += held.popleft()[2]
        return free

    def truncated(self, first: int) -> None:
        """The entries from `first` on are replaced by others."""
        self.messages = deque(
            (flush, min(index, first - 1), _without(messages, first))
            for flush, index, messages in self.messages
        )

    def installing(self, index: int, messages: Sequence[Message]) -> None:
        """A snapshot is being made durable, the hard state with it: all waits for that alone."""
        for _, _, several in self.messages:
            self._install += _without(several, 0)
        self.messages.clear()
        self._install = _without(self._install, 0)
        self._install += messages
        self.logged = index
        self.sequence = _INSTALLING
        self.clean = False

    def installed(self, index: int) -> list[Message]:
        """The snapshot of an index is durable: what may leave now."""
        self.base = index
        free, self._install = self._install, []
        if self.sequence == _INSTALLING:  # nothing came after
            for _, _, messages in self.messages:
                free += messages
            self.messages.clear()
            self.clean = True
        return free


def _without(messages: Sequence[Message], first: int) -> list[Message]:
    """Messages but for acknowledgements of entries from `first` on."""
    return [
        message
        for message in messages
        if type(message) is not AppendResponse or message.rejected or message.index < first
    ]
