"""A member of a supervisor: `python -m penstock_broker.runtime OPTIONS`, the options as JSON.

It ends with its supervisor, however that ends: nobody else would start it again, or stop it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from typing import Final

from penstock_broker.runtime.serve import serve

_PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Run the member; returns its exit code."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):  # no such call: it lives on, as before
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    return serve(json.loads(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
