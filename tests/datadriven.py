"""Replay recorded traces: blocks of a command, a line `----`, and what it printed.

`REWRITE=1 pytest ...` records anew. Commit a changed trace only if you can say why it changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path


def replay(path: Path, handle: Callable[[str], str]) -> None:
    """Run the commands of a file; compare what they print (or record it)."""
    blocks = re.split(r"\n{2,}", path.read_text().strip())
    parts = []
    for block in blocks:
        if block.startswith("#"):
            parts.append(block)
            continue
        command = block.partition("\n----")[0]
        parts.append(f"{command}\n----\n{handle(command)}".rstrip())
    actual = "\n\n".join(parts) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(actual)
    assert actual == path.read_text(), f"{path.name} differs; REWRITE=1 records it"
