"""Whether the demo's shared group did what was promised, judged by the committed file."""

from __future__ import annotations

from collections import Counter

from ops.showcase.landings import expected_failures, expected_summaries
from ops.showcase.shared_ledger import Shop
from ops.showcase.verdict import Check


def judge(total: int, shop: Shop, attempts_max: int) -> list[Check]:
    """Compare the shared group's work with the file."""
    failures = expected_failures(total)
    letters = {letter.row: letter.reason for letter in shop.letters}
    reasons = Counter(letters.values())
    listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    tried = {
        reason: {letter.attempts for letter in shop.letters if letter.reason == reason}
        for reason in reasons
    }
    once = len(letters) == len(shop.letters) == shop.stored_letters
    return [
        Check(
            "shared: what can be parsed is done",
            f"{shop.first_done:,} of {total:,} rows",
            shop.first_done == total - len(failures),
        ),
        Check("dead letters: the rest, and why", listed, letters == failures),
        Check("dead letters: each one once", f"{shop.stored_letters:,} stored", once),
        Check(
            "dead letters: tried as the policy says",
            "; ".join(f"{reason} {_range(found)}" for reason, found in sorted(tried.items())),
            all(max(found) <= attempts_max for found in tried.values())
            and tried.get("ValueError", {attempts_max}) == {attempts_max},
        ),
        Check(
            "redrive: all back, none left",
            f"{shop.redriven:,} redriven, {shop.left} left",
            shop.redriven == len(failures) and shop.left == 0,
        ),
        Check(
            "shared: every row done, totals as in the file",
            f"{len(shop.landings):,} rows, {len(shop.summaries)} airlines",
            len(shop.landings) == total
            and not shop.contradictions
            and shop.summaries == expected_summaries(total),
        ),
    ]


def _range(found: set[int]) -> str:
    low, high = min(found), max(found)
    return f"{low}x" if low == high else f"{low} to {high}x"
