"""Checks of what the baselines are asked for."""

from __future__ import annotations

from mipplan.core import check_time_limit
from mipplan.replayer import resolve_engine


def ends_at(started: float, time_limit_s: float | None) -> float:
    """Return when a search that `started` then must end.

    Raises
    ------
    InputError
        If the limit is no positive number of seconds.
    """
    return started + check_time_limit(time_limit_s)


def check_engine(name: str) -> None:
    """Check that there is such an engine.

    Raises
    ------
    InputError
    """
    resolve_engine(name, frozenset())


def share(quantile: float) -> str:
    """Write a latency quantile for people: ``P99``."""
    return f"P{100 * quantile:g}"
