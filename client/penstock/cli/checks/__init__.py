"""What `penstock doctor` checks. Each check says what it found and, if need be, what to do.

A check never raises and changes nothing; where it can't look, it says so and is content.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Grade(Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    name: str
    grade: Grade
    found: str
    cure: str = ""

    def row(self) -> dict[str, str]:
        """The outcome as a JSON object."""
        return {
            "check": self.name,
            "grade": self.grade.value.lower(),
            "found": self.found,
            "cure": self.cure if self.grade is not Grade.OK else "",
        }


def graded(name: str, found: str, cure: str, *, fail: bool = False, warn: bool = False) -> Check:
    """The outcome whose grade follows from two conditions."""
    return Check(name, Grade.FAIL if fail else Grade.WARN if warn else Grade.OK, found, cure)
