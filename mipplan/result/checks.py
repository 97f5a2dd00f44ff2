"""Checks of the objective, and of other times that must be positive."""

from __future__ import annotations

from mipplan.arguments import to_ns
from mipplan.documents import shown
from mipplan.errors import InputError
from mipplan.pipeline import Pipeline


def resolve_slo_ns(pipeline: Pipeline, slo_s: float | None) -> int:
    """Return the objective in ns: the argument, else the pipeline's.

    Raises
    ------
    InputError
        If there is neither, or it is not a positive time.
    """
    if slo_s is None:
        if pipeline.slo_ns is None:
            raise InputError.one(
                pipeline.place(("slo",)),
                f"the pipeline {pipeline.name!r} states none: write slo: 300ms there, or pass --slo 300ms "
                "(in Python slo_s=0.3)",
            )
        return pipeline.slo_ns
    return check_slo(slo_s)


def check_slo(slo_s: float) -> int:
    """Return an objective in ns.

    Raises
    ------
    InputError
        If it is no positive time of at most ten years.
    """
    slo_ns = positive_ns(slo_s)
    if slo_ns is None:
        raise InputError.one(
            "slo_s", f"expected a positive time in seconds such as 0.3, found {shown(slo_s)}"
        )
    return slo_ns


def positive_ns(seconds: object) -> int | None:
    """Round a time to nanoseconds; None for what is no number, or no positive time of at most ten years."""
    rounded = to_ns(seconds)
    return None if rounded is None or rounded <= 0 else rounded
