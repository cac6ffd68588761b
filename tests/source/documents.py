"""Reads what the documents claim: tables, links and command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.source.tree import ROOT

README = ROOT / "README.md"
RUNBOOK = ROOT / "ops" / "README.md"
DOCUMENTS = (
    README,
    RUNBOOK,
    *(ROOT / name for name in ("ops/ROADMAP.md", "CHANGELOG.md")),
    *(ROOT / f"broker/{name}.md" for name in ("README", "OPERATIONS", "PEERS")),
    *(ROOT / f"client/{name}.md" for name in ("README", "PROTOCOL")),
    *(ROOT / f"ops/{name}/README.md" for name in ("history",)),
)


def table(path: Path, head: str) -> dict[str, str]:
    """First column -> second column of the table whose first head is `head`, without backticks."""
    rows: dict[str, str] = {}
    inside = False
    for line in path.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[0] == head.replace("`", ""):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            rows[cells[0]] = cells[1] if len(cells) > 1 else ""
    return rows


def links(path: Path) -> Iterator[str]:
    """Targets of links to files of the project."""
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" not in target and not target.startswith("#"):
            yield target.partition("#")[0]


def code_blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def commands(path: Path) -> Iterator[list[str]]:
    """Every `penstock ...` command line in code spans and code blocks, as words."""
    text = path.read_text()
    spans = re.findall(r"`(penstock [^`\n]+)`", text)
    blocks = re.findall(r"(?:^|\| )(penstock [a-z].*)$", code_of(text), re.MULTILINE)
    for line in (*spans, *blocks):
        words = shlex.split(line, comments=True)
        yield words[1 : words.index("|")] if "|" in words else words[1:]


def code_of(text: str) -> str:
    """The lines of fenced and indented blocks, without their indent."""
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(.*)$", outside, re.MULTILINE)
    return "\n".join([*fenced, *indented])
