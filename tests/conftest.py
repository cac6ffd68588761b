"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline: a slow moment of the machine is not a bug. `--hypothesis-profile=thorough` digs.
settings.register_profile(
    "penstock", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("penstock")
