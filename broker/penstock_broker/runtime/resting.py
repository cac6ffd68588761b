"""Drives a broker's rounds until it is at rest, for tests that move its clock themselves.

Invariant: on return everything that was due is carried out, durable where it must be, and its
replies are sent; what waits now waits for input, or for a later time.
"""

from __future__ import annotations

from typing import Final

import trio

from penstock_broker.node import due
from penstock_broker.runtime.reactor import Reactor

TICKS_MAX: Final = 100
"""Ticks after which what is still due is left to be carried out later."""


async def come_to_rest(reactor: Reactor, thorough: bool) -> tuple[float, dict[str, set[int]]]:
    """Let everything happen that is due.

    Returns:
        Seconds until something else is due, and what waits, as `due.waiting` tells it.
    """
    node = reactor.node
    seconds = 0.0
    for _ in range(TICKS_MAX):
        due.look_now(node, thorough=thorough)
        reactor.tick()
        while not reactor.at_rest:
            # A checkpoint lets the task that serves sockets and finished jobs have its rounds.
            await trio.lowlevel.checkpoint()
        seconds = due.seconds_to_next(node)
        if seconds > 0:
            break
    return seconds, due.waiting(node)
