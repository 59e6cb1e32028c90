"""Profiles of the property tests: quick by default, ``--hypothesis-profile=thorough`` for the nox session."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=_quiet)
settings.register_profile("thorough", max_examples=5_000, deadline=None, suppress_health_check=_quiet)
settings.load_profile("default")
