"""Who leads which group, as the nodes tell each other.

Each node tells every other which groups it leads: all of them when a control line comes up, then
what changed. What is known of others may be out of date; who goes there is told so. Invariant: of
two claims for one group the one with the higher term is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from penstock.errors import RemoteProtocolError
from penstock_broker.node.peers.frames import LEADS_TABLE, ROWS_MAX

GROUPS_MAX: Final = 1_000_000
"""Groups whose leader is remembered."""


class Leads:
    """Our leads, and those of others.

    Attributes:
        elsewhere: group -> (term, node) that leads it.
    """

    def __init__(self) -> None:
        self.elsewhere: dict[int, tuple[int, int]] = {}
        self._ours: dict[int, int] = {}
        self._news: dict[int, int] = {}

    def announce(self, gid: int, term: int) -> None:
        """We lead a group in a term; term 0: no longer."""
        if term:
            self._ours[gid] = term
            if self.elsewhere.get(gid, (0, 0))[0] < term:
                self.elsewhere.pop(gid, None)
        elif self._ours.pop(gid, None) is None:
            return
        self._news[gid] = term

    def take_news(self) -> list[bytes]:
        """Frames with what changed since the last call."""
        if not self._news:
            return []
        news, self._news = self._news, {}
        return list(_frames(news, False))

    def everything(self) -> list[bytes]:
        """Frames with all that we lead."""
        return list(_frames(self._ours, True))

    def heard(self, sender: int, buffer: memoryview, start: int, end: int) -> list[int]:
        """A node told what it leads; returns the groups that have another leader by that.

        Raises:
            RemoteProtocolError: the frame is damaged, or names too many groups.
        """
        (complete,), (gids, terms) = LEADS_TABLE.unpack(buffer, start, end)
        known = self.elsewhere
        if complete:
            for gid in [gid for gid, (_, node) in known.items() if node == sender]:
                del known[gid]
        if len(known) + len(gids) > GROUPS_MAX:
            raise RemoteProtocolError("a node leads more groups than can be")
        changed = []
        for gid, term in zip(gids, terms, strict=True):
            there, node = known.get(gid, (0, 0))
            if not term:
                if node == sender:
                    del known[gid]
            elif term >= max(there, self._ours.get(gid, 0)):
                known[gid] = (term, sender)
                changed.append(gid)
        return changed


def _frames(leads: dict[int, int], complete: bool) -> Iterable[bytes]:
    rows = list(leads.items())
    for at in range(0, max(len(rows), 1), ROWS_MAX):
        part = rows[at : at + ROWS_MAX]
        columns = ([gid for gid, _ in part], [term for _, term in part])
        yield LEADS_TABLE.pack((complete and at == 0,), columns)
