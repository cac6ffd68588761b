"""The command line: `penstock NOUN VERB`.

Owns parsing, asking, printing and exit codes; nothing else. It stands on the blocking client and
must not know the broker: what needs broker code (`serve`, `dev`, `log`) is loaded through the
entry points of `plugins`. One module per noun, imported when that noun is used, so that the
program starts in well under 100 ms; neither trio nor asyncio is imported on the way.
Data goes to standard output, words go to standard error.
"""

from __future__ import annotations


def main() -> None:
    """Run the program with the arguments of this process; ends the process with its exit code."""
    from penstock.cli.app import penstock

    penstock.main()
