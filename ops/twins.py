"""Makes the admin classes of blocking programs from those of async ones: `python -m ops.twins`.

They differ in `await` and in names alone, so one is written and the other made. With `--check`
nothing is written: the exit code is 1 when a made file is not what would be made now.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

DRIVERS: Final = Path(__file__).parents[1] / "client" / "penstock" / "_drivers"
TWINS: Final = {
    "admin.py": "blocking_admin.py",
    "cluster_admin.py": "blocking_cluster_admin.py",
    "shared_admin.py": "blocking_shared_admin.py",
}
REPLACED: Final = (
    (r"the operations of the core, awaited", "the operations of the core, carried out"),
    (r"\basync programs", "blocking programs"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsync(\w+Admin)\b", r"Blocking\1"),
    (r"_drivers\.(cluster|shared)_admin\b", r"_drivers.blocking_\1_admin"),
    (r"_drivers\.facade import Driver\b", "_drivers.blocking import BlockingDriver"),
    (r": Driver\b", ": BlockingDriver"),
    (r"^class Admin\(", "class BlockingAdmin("),
    (r"(self\._driver\.core\.\w+\.\w+)\(seconds\)", r"self._driver.call(\1, seconds)"),
    (r"self\._driver\.touch\(\)", "self._driver.call(self._driver.touch)"),
)
"""Pattern and replacement, in this order."""


def made(source: Path) -> str:
    """The blocking twin of an async module, formatted."""
    text = source.read_text(encoding="utf-8")
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    text = f"# Made from {source.name} by `python -m ops.twins`: change that one.\n{text}"
    for command in (["check", "--select=I", "--fix-only", "--quiet"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, f"--stdin-filename={source}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def stale() -> list[str]:
    """The made files that are not what would be made now."""
    return [
        twin
        for name, twin in TWINS.items()
        if (DRIVERS / twin).read_text(encoding="utf-8") != made(DRIVERS / name)
    ]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        wrong = stale()
        print("\n".join(f"{twin}: run python -m ops.twins" for twin in wrong), end="")
        return int(bool(wrong))
    for name, twin in TWINS.items():
        (DRIVERS / twin).write_text(made(DRIVERS / name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
