"""Settings that hold for every test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from penstock.testing import plugin

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
