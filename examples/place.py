"""Where the examples find a broker: `python examples/hello_trio.py [HOST:PORT]`.

Without an address each starts one of its own. Most of them make a topic, and refuse one that is
there already: on a broker that goes on, delete it before you run an example again. And how they
print what is in a record.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.testing import broker

# The client logs handlers that fail: here they do so on purpose, and the examples say so.
logging.getLogger("penstock.client").addHandler(logging.NullHandler())


@contextmanager
def broker_address() -> Iterator[str]:
    """Yield the address given on the command line, else that of a broker inside this process."""
    if len(sys.argv) > 1:
        yield sys.argv[1]
    else:
        with broker() as running:
            yield running.address


def text(data: bytes | None) -> str:
    """Keys and values are bytes, and either may be absent."""
    return (data or b"").decode()
