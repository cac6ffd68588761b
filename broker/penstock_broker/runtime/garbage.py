"""The cycle collector of a broker's process: it must not stop the reactor to look at what stays.

A broker with thousands of partitions has millions of objects that live as long as it does; a full
collection would look at all of them, for a tenth of a second and more. What is there after the
start, and after many groups were made, is therefore set aside (`gc.freeze`): it still goes when
nobody refers to it, only cycles in it are not looked for.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from penstock_broker.runtime.broker import Broker

GROUPS: Final = 50
"""So many new groups are worth setting aside."""
LOOK_SECONDS: Final = 0.25
YOUNG: Final = 10_000
"""Objects more than before after which the young ones are looked at."""


def rest() -> None:
    """Collect nothing while the broker starts: nearly all that is made then stays."""
    gc.disable()


async def look_after(broker: Broker) -> None:
    """Collect, but for what stays; until cancelled."""
    gc.set_threshold(YOUNG, 10, 10)
    gc.enable()
    known = -GROUPS
    while True:
        count = len(broker.reactor.node.groups)
        if abs(count - known) >= GROUPS:
            known = count
            gc.freeze()
        await trio.sleep(LOOK_SECONDS)
