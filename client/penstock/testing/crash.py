"""Ends a client as the death of its process would: nothing is said to the broker, nothing kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import penstock
    from penstock import sync


def crash(client: penstock.Client | sync.Client) -> None:
    """Cut a client's connections; what it owned is taken from it when its time is over.

    It does not leave its groups, hands no record back and forgets what was not acknowledged yet.
    Everything that waits on it, and each later call, raises `ClientClosed`. A client of async code
    is to be crashed in the thread that it runs in.
    """
    # Imported here: pytest loads this with its plugin, also for projects that do not use it.
    from penstock import sync

    if isinstance(client, sync.Client):
        client._driver.end()
    else:
        client._driver.renewer.stop()
        client._driver.core.shut()
