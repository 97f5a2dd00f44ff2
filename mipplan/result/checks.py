"""The objective of a call: its argument, else the pipeline's."""

from __future__ import annotations

from mipplan.core import InputError, check_slo
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
