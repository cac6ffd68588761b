"""Requests that wait: for their command to be applied, or for new groups to have leaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.errors import NotLeader, PenstockError, Throttled, TimedOut, from_wire
from penstock_broker.machine.commands import Refused

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

REQUEST_SECONDS_MAX: Final = 15.0
PENDING_MAX: Final = 10_000


class Request(NamedTuple):
    """Who asked, and under which frame type and correlation the answer goes out."""

    session: Session
    correlation: int
    type: int


class _Waiting(NamedTuple):
    request: Request | None
    finish: Callable[[object], None]
    deadline: float


class PendingRequests:
    """Everything that will be answered later; each has a deadline, their number a limit."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._applied: dict[tuple[int, int, int], _Waiting] = {}
        self._ready: list[tuple[set[int], _Waiting]] = []

    def __len__(self) -> int:
        return len(self._applied) + len(self._ready)

    def propose(
        self,
        group: Group,
        body: bytes,
        finish: Callable[[object], None],
        request: Request | None = None,
    ) -> None:
        """Propose a command; `finish` gets the machine's reply when it is applied here.

        A refusal answers the request as an error and does not reach `finish`.

        Raises:
            NotLeader: the group is not led here, or not any more.
            Throttled: too many requests wait.
        """
        if not group.leading:
            raise NotLeader(leader=group.raft.leader)
        if len(self) >= PENDING_MAX:
            raise Throttled(f"{PENDING_MAX} requests wait for an answer")
        term = group.raft.term
        index = group.propose_command(body)
        deadline = self._node.clock + REQUEST_SECONDS_MAX
        self._applied[(group.gid, term, index)] = _Waiting(request, finish, deadline)

    def applied(self, gid: int, term: int, index: int, reply: object) -> None:
        """An entry was applied; answers the request that proposed it, if it was proposed here."""
        waiting = self._applied.pop((gid, term, index), None)
        if waiting is None:
            return
        if isinstance(reply, Refused) and waiting.request is not None:
            self._refuse(waiting.request, reply)
        else:
            waiting.finish(reply)

    def when_ready(
        self, gids: set[int], request: Request | None, finish: Callable[[object], None]
    ) -> None:
        """Call `finish` when all these groups have a leader, here or elsewhere."""
        missing = {gid for gid in gids if not self._node.groups.serves(gid)}
        if not missing:
            finish(None)
            return
        waiting = _Waiting(request, finish, self._node.clock + REQUEST_SECONDS_MAX)
        self._ready.append((missing, waiting))

    def group_ready(self, gid: int) -> None:
        """A group got its leader, or is gone."""
        if not self._ready:
            return
        ready = []
        for missing, waiting in self._ready:
            missing.discard(gid)
            if not missing:
                ready.append(waiting)
        if ready:
            self._ready = [item for item in self._ready if item[0]]
            for waiting in ready:
                waiting.finish(None)

    def lost(self, gid: int, error: PenstockError) -> None:
        """The lead of a group is lost: what was proposed here may be applied or not.

        So whoever is not sure that it may be done twice must not just ask the next leader.
        """
        if isinstance(error, NotLeader):
            error = TimedOut(error.message, **error.detail)
        for key in [key for key in self._applied if key[0] == gid]:
            request = self._applied.pop(key).request
            if request is not None:
                session, correlation, type_ = request
                self._node.reply_error(session, correlation, type_, error)

    def look_again(self) -> None:
        """Leaders elsewhere may be known by now."""
        serves = self._node.groups.serves
        for gid in {gid for missing, _ in self._ready for gid in missing}:
            if serves(gid):
                self.group_ready(gid)

    def expire(self) -> None:
        """Answer what waited too long: the outcome is unknown."""
        now = self._node.clock
        for key in [key for key, waiting in self._applied.items() if waiting.deadline < now]:
            self._time_out(self._applied.pop(key))
        late = [waiting for _, waiting in self._ready if waiting.deadline < now]
        self._ready = [item for item in self._ready if item[1].deadline >= now]
        for waiting in late:
            self._time_out(waiting)

    def _time_out(self, waiting: _Waiting) -> None:
        if waiting.request is not None:
            session, correlation, type_ = waiting.request
            self._node.reply_error(session, correlation, type_, TimedOut())

    def _refuse(self, request: Request, refused: Refused) -> None:
        error = from_wire(refused.code, refused.message, refused.detail)
        self._node.reply_error(request.session, request.correlation, request.type, error)
