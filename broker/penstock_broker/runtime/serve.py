"""`penstock serve`: one broker process from its options to its exit code.

SIGTERM, SIGINT and SIGHUP drain: no new connections, no new publishes, the commit in flight
finishes, its acknowledgments leave, a checkpoint is written, the directory is unlocked. A second
signal ends the process at once, and so does one while it starts; a drain that takes longer than its
bound is given up. In each of these cases the log recovers everything at the next start.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

import trio

from penstock.errors import (
    MetadataDiverged,
    PenstockError,
    PreconditionFailed,
    RequestError,
    StaleDirectory,
)
from penstock_broker.failpoints import install as install_failpoints
from penstock_broker.runtime import garbage
from penstock_broker.runtime.broker import Broker, BrokerOptions
from penstock_broker.runtime.disk import Fatal
from penstock_broker.runtime.logs import configure
from penstock_broker.runtime.supervisor import supervise

ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_FATAL: Final = 70
EXIT_STALE: Final = 71
EXIT_DIVERGED: Final = 72
NO_HINTS: Final = (PenstockError.hint, RequestError.hint)

log = logging.getLogger("penstock.broker")


def serve(options: Mapping[str, object]) -> int:
    """Run a broker until it is told to stop; returns the exit code."""
    configure(str(options.get("log_level", "info")))
    if install_failpoints(os.environ):
        log.warning("failpoints are switched on: this broker crashes, pauses or fails as planned")
    if int(str(options.get("processes") or 1)) > 1:
        return supervise(options)
    settings = BrokerOptions.from_mapping(options)
    garbage.rest()
    code = EXIT_OK
    try:
        trio.run(_serve, settings, strict_exception_groups=True)
    except* Fatal as group:
        log.critical("stopped", extra={"reason": str(_first(group))})
        code = EXIT_FATAL
    except* PenstockError as group:
        error = _first(group)
        assert isinstance(error, PenstockError)
        code = _code_of(error)
        if code != EXIT_ERROR:
            log.critical("stopped", extra={"reason": str(error)})
        hint = f"\nhint: {error.hint}" if error.hint not in NO_HINTS else ""
        print(f"error: {error}{hint}", file=sys.stderr)  # noqa: T201 - for a person
    except* Exception as group:
        log.critical("stopped by a fault of its own", exc_info=group)
        code = EXIT_FATAL
    return code


def _code_of(error: PenstockError) -> int:
    if isinstance(error, MetadataDiverged):
        return EXIT_DIVERGED
    stale = isinstance(error, StaleDirectory | PreconditionFailed)  # or it was removed
    return EXIT_STALE if stale else EXIT_ERROR


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(settings: BrokerOptions) -> None:
    """Serve until a signal comes; before and after, a signal ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    async with trio.open_nursery() as nursery:
        broker = Broker(settings)
        await nursery.start(broker.run)
        collecting = trio.CancelScope()
        nursery.start_soon(_within, collecting, broker)
        with trio.open_signal_receiver(*ENDS) as signals:
            broker.announce()
            async for _ in signals:
                break
        log.info("stopping", extra={"node": broker.reactor.node.node_id})
        broker.stop()
        await broker.stopped.wait()
        collecting.cancel()


async def _within(scope: trio.CancelScope, broker: Broker) -> None:
    with scope:
        await garbage.look_after(broker)
