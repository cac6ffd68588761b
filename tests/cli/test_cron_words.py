from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.cron_words import cron_words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("*/7 * * * *", "every 7 minutes from each full hour"),
        ("0 * * * *", "every hour, on the hour"),
        ("5,35 * * * *", "every hour at minutes 5 and 35"),
        ("0 */2 * * *", "every 2 hours"),
        ("0 */5 * * *", "every 5 hours from midnight"),
        ("20 */4 * * *", "every 4 hours, 20 minutes past"),
        ("0 9 * * 1-5", "at 09:00 on Monday to Friday"),
        ("0 9,12,15 * * *", "at 09:00, 12:00 and 15:00 every day"),
        ("30 4 1,15 * fri", "at 04:30 on days 1 and 15 of the month or on Friday"),
        ("0 0 */2 * 1", "at 00:00 on every 2nd day of the month if it falls on Monday"),
        ("0 0 29 feb *", "at 00:00 on day 29 of the month in February"),
        ("0 6 * jun-aug *", "at 06:00 every day in June to August"),
        ("0 9 * * 0,6", "at 09:00 on Sunday and Saturday"),
        ("0,30 8-18 * * *", "at minutes 0 and 30, hours 8 to 18"),
        ("@every 90s", "every 90s"),
        ("@Daily", "at 00:00 every day"),
    ],
)
def test_an_expression_in_words(expression: str, words: str) -> None:
    assert cron_words(expression) == words


@pytest.mark.parametrize(
    "expression", ["", "0 0 L * *", "1 2 3", "@reboot", "0 0 * foo *", "* * * * 9"]
)
def test_what_has_no_words_stands_alone(expression: str) -> None:
    assert cron_words(expression) == ""


@given(st.text(alphabet="0123456789*/,-@monjafe ", max_size=40))
def test_no_text_makes_it_fail(expression: str) -> None:
    cron_words(expression)
