"""A daemon thread that keeps leases alive, also while a handler keeps the event loop busy.

It has a connection of its own and runs nothing but `Renewals.keep`. It starts with a client's first
shared subscription and ends with the client.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from penstock._core.options import NAME_CHARACTERS_MAX, Options
from penstock._core.sharing.renewal import Renewals
from penstock.errors import ClientClosed

if TYPE_CHECKING:
    from penstock._drivers.blocking import BlockingDriver

SUFFIX: Final = " (leases)"


class Renewer:
    """The thread of one client; started once, if at all."""

    __slots__ = ("_driver", "_lock", "_options", "_renewals", "_stopped", "_thread")

    def __init__(self, options: Options, renewals: Renewals) -> None:
        self._options = options
        self._renewals = renewals
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._driver: BlockingDriver | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the thread, or have it look at the leases of a new subscription."""
        with self._lock:
            driver = self._driver
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._run, name="penstock-leases", daemon=True
                )
                self._thread.start()
        if driver is not None:
            with suppress(ClientClosed):
                driver.call(self._renewals.look)

    def stop(self) -> None:
        """Have the thread end, without waiting for it."""
        with self._lock:
            self._stopped = True
            driver = self._driver
        if driver is not None:
            with suppress(ClientClosed):
                driver.call(driver.core.shut)
                driver.wake()

    def _run(self) -> None:
        # The drivers import this module: this is where the circle is cut.
        from penstock._drivers.blocking import BlockingDriver

        name = self._options.name[: NAME_CHARACTERS_MAX - len(SUFFIX)] + SUFFIX
        with self._lock:
            if self._stopped:
                return
            driver = self._driver = BlockingDriver(replace(self._options, name=name))
        try:
            driver.open(self._renewals.keep(driver.core))
        except ClientClosed:
            return
        finally:
            driver.end()
