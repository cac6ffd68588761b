"""Two replicas that must stay equal: one lives on, the other is restored before every command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from penstock.errors import BY_CODE, PenstockError
from penstock_broker.machine.commands import Command, Refused, decode_command, encode_command
from penstock_broker.machine.stamp import Stamp

SECOND = 1_000_000


class Machine(Protocol):
    def apply(self, command: Command, at: Stamp) -> tuple[Any, Sequence[Any]]: ...
    def snapshot(self) -> bytes: ...
    def restore(self, blob: bytes) -> None: ...


M = TypeVar("M", bound=Machine)


class Replicas(Generic[M]):
    """Applies each command, through its disk form, to both replicas and compares all they say."""

    def __init__(self, make: Callable[[], M], now_us: int = 1_000 * SECOND) -> None:
        self._make = make
        self.machine = make()
        self.effects: list[Any] = []
        self.index = 0
        self.term = 1
        self.now_us = now_us

    def apply(self, command: Command) -> Any:
        """The reply; `effects` holds what came with it."""
        self.index += 1
        at = Stamp(self.index, self.term, self.now_us)
        body = encode_command(command)
        other = self._make()
        other.restore(self.machine.snapshot())
        theirs = other.apply(decode_command(body), at)
        reply, effects = self.machine.apply(decode_command(body), at)
        assert (reply, effects) == theirs
        assert other.snapshot() == self.machine.snapshot()
        self.effects = list(effects)
        return reply

    def refuse(self, command: Command) -> type[PenstockError]:
        """The error that the command is refused with; nothing may have changed."""
        before = self.machine.snapshot()
        reply = self.apply(command)
        assert isinstance(reply, Refused), reply
        assert reply.message
        assert not self.effects
        assert self.machine.snapshot() == before
        return BY_CODE[reply.code]

    def effects_of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]
