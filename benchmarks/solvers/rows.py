"""Rows of results: one per run, whatever became of it."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

from benchmarks.instances.specs import Spec
from benchmarks.machine import processor
from benchmarks.provenance import STAMP
from benchmarks.solvers.jobs import Job
from benchmarks.solvers.processes import Ending

#: What tells runs apart; one that has a row is not run again.
KEY = ("instance", "fingerprint", "kind", "formulation", "solver", "seed", "gap", "time_limit_s")
COLUMNS = (
    *KEY,
    "group",
    "family",
    "stages",
    "modes",
    "paths",
    "tightness",
    "limits",
    "covers",
    "termination",
    "objective",
    "lower_bound",
    "relative_gap",
    "nodes",
    "by",
    "modes_left",
    "build_s",
    "solve_s",
    "cpu_s",
    "process_s",
    "before_mib",
    "peak_mib",
    "columns",
    "binaries",
    "rows",
    "nonzeros",
    "memory_limit_mib",
    "solver_version",
    "processor",
    "message",
    "selection",
    *STAMP,
)


def make_row(spec: Spec, job: Job, ending: Ending, modes: int, paths: int) -> dict[str, Any]:
    """Put together what is known of a run."""
    figures = dict(ending.result)
    faults = figures.pop("faults", [])
    row: dict[str, Any] = {
        **asdict(job),
        "fingerprint": spec.fingerprint,
        "group": spec.group,
        "family": spec.family,
        "stages": spec.stages,
        "modes": modes,
        "paths": paths,
        "tightness": spec.tightness,
        "limits": spec.limits,
        "covers": spec.covers,
        "termination": ending.kind,
        "process_s": ending.wall_s,
        "peak_mib": ending.peak_mib,
        "processor": _processor(),
        "message": ending.message,
        **figures,
    }
    if faults:
        row |= {"termination": "wrong", "message": "; ".join(faults)[:300]}
    cost, bound = row.get("objective"), row.get("lower_bound")
    if cost is not None and bound is not None:
        row["relative_gap"] = max(0.0, cost - bound) / max(1, abs(cost))
    if "selection" in row:
        row["selection"] = " ".join(map(str, row["selection"]))
    return row


@cache
def _processor() -> str:
    return processor()
