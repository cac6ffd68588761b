"""Time zones of the machine."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from penstock.errors import InvalidConfig
from penstock_broker.runtime.zones import time_zone


def test_a_time_zone_is_found_by_its_name() -> None:
    berlin = time_zone("Europe/Berlin")
    assert datetime(2026, 7, 1, tzinfo=berlin).utcoffset() == timedelta(hours=2)
    assert datetime(2026, 7, 1, tzinfo=time_zone("UTC")).utcoffset() == timedelta(0)


@pytest.mark.parametrize("name", ["", "Nowhere/Town", "../etc/passwd", "/etc/localtime", "x" * 500])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfig):
        time_zone(name)
