"""Checks of what the baselines are asked for."""

from __future__ import annotations

from mipplan.errors import InputError
from mipplan.replayer.engines import resolve_engine


def ends_at(started: float, time_limit_s: float | None) -> float:
    """Return when a search that `started` then must end.

    Raises
    ------
    InputError
        If the limit is no positive number of seconds.
    """
    if time_limit_s is None:
        return float("inf")
    number = isinstance(time_limit_s, int | float) and not isinstance(time_limit_s, bool)
    if not number or not time_limit_s > 0:
        raise InputError.one("time_limit_s", f"expected seconds above 0, or None, found {time_limit_s!r}")
    return started + float(time_limit_s)


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
