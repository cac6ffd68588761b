"""Settings that hold for every test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from penstock.testing import plugin

TOLD = "told"

# No deadline: a slow moment of the machine is not a bug. `--hypothesis-profile=thorough` digs.
settings.register_profile(
    "penstock", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("penstock")


def pytest_configure(config: pytest.Config) -> None:
    """Load our own plugin, which pytest finds by itself only where the project is installed."""
    if not config.pluginmanager.hasplugin("penstock"):
        config.pluginmanager.register(plugin, "penstock")


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says a line at the end of the run, whichever process of the run the test is in."""
    return lambda line: record_property(TOLD, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests told, such as how much happened in a campaign."""
    for report in terminalreporter.getreports("passed"):
        for name, line in report.user_properties:
            if name == TOLD:
                terminalreporter.write_line(str(line))
