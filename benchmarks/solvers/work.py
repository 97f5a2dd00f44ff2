"""One run, in a process of its own: build, solve, decode, and judge what was found by arithmetic of its own."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from benchmarks.instances.checking import check
from benchmarks.solvers.jobs import AUTO, NATIVE, Job
from benchmarks.solvers.loading import LOADERS
from benchmarks.solvers.processes import resident_mib
from benchmarks.solvers.relaxations import RELAXERS
from mipplan.solvers import solve, solve_problem
from mipplan_formulations import FORMULATIONS, Activity, LinearModel, Path, Resource, TimeCostProblem

#: What a solver loads on first use is loaded before anything is timed.
PACKAGES = MappingProxyType(
    {
        "highs": "highspy",
        "pulp_highs": "pulp",
        "cbc": "pulp",
        "cp_sat": "ortools.sat.python.cp_model",
        "scip": "ortools.math_opt.python.mathopt",
        "highs_lp": "highspy",
        "glop": "ortools.math_opt.python.mathopt",
        "pdlp": "ortools.math_opt.python.mathopt",
        "labels": "mipplan_formulations.compiled",
        "auto": "mipplan_formulations.compiled",
    }
)
_Result = TypeVar("_Result")


def load_packages() -> None:
    """Import every solver's package, so that processes forked from this one need not."""
    for package in dict.fromkeys(PACKAGES.values()):
        import_module(package)


def perform(job: Job, problem: TimeCostProblem) -> dict[str, Any]:
    """Run a job and return its figures; see `benchmarks.solvers.rows`."""
    perform_kind = _solve_natively if job.formulation in (NATIVE, AUTO) else _KINDS[job.kind]
    perform_kind(job, _tiny())
    before_mib = resident_mib(os.getpid())
    return {"before_mib": before_mib, **perform_kind(job, problem)}


def _solve(job: Job, problem: TimeCostProblem) -> dict[str, Any]:
    formulation = FORMULATIONS[job.formulation]
    cpu_s = _cpu_s()
    model, build_s = _timed(lambda: formulation.build(problem))
    answer = solve(model, job.solver, time_limit_s=job.time_limit_s, gap=job.gap, seed=job.seed)
    figures = {
        "termination": answer.termination.value,
        "objective": answer.objective,
        "lower_bound": _finite(answer.lower_bound),
        "nodes": answer.details.get("nodes", answer.details.get("branches")),
        "build_s": build_s,
        "solve_s": answer.solve_s,
        "cpu_s": _cpu_s() - cpu_s,
        "solver_version": answer.details["version"],
        **_size(model),
    }
    if answer.values is not None:
        selection = formulation.decode(problem, model, answer.values)
        figures |= _judge(problem, selection, answer.objective)
    return figures


def _solve_natively(job: Job, problem: TimeCostProblem) -> dict[str, Any]:
    """By what needs no linear model, or chooses it by itself: all its time is that of solving."""
    cpu_s = _cpu_s()
    answer = solve_problem(
        problem,
        job.solver,
        formulation=AUTO if job.solver == AUTO else "paths",
        time_limit_s=job.time_limit_s,
        gap=job.gap,
        seed=job.seed,
    )
    figures: dict[str, Any] = {
        "termination": answer.termination.value,
        "objective": answer.cost,
        "lower_bound": _finite(answer.lower_bound),
        "nodes": answer.details.get("labels", answer.details.get("branches")),
        "by": answer.details.get("by"),
        "modes_left": answer.details.get("modes_left"),
        "build_s": answer.build_s,
        "solve_s": answer.solve_s,
        "cpu_s": _cpu_s() - cpu_s,
        "solver_version": answer.details["version"],
    }
    if answer.selection is not None:
        figures |= _judge(problem, answer.selection, answer.cost)
    return figures


def _relax(job: Job, problem: TimeCostProblem) -> dict[str, Any]:
    cpu_s = _cpu_s()
    model, build_s = _timed(lambda: FORMULATIONS[job.formulation].build(problem))
    outcome, solve_s = _timed(lambda: RELAXERS[job.solver](model, job.time_limit_s))
    return {
        "termination": "optimal" if outcome.bound is not None else "no_solution_found",
        "lower_bound": _finite(outcome.bound),
        "build_s": build_s,
        "solve_s": solve_s,
        "cpu_s": _cpu_s() - cpu_s,
        "solver_version": outcome.version,
        **_size(model),
    }


def _load(job: Job, problem: TimeCostProblem) -> dict[str, Any]:
    cpu_s = _cpu_s()
    model, build_s = _timed(lambda: FORMULATIONS[job.formulation].build(problem))
    version, load_s = _timed(lambda: LOADERS[job.solver](model))
    return {
        "termination": "loaded",
        "build_s": build_s,
        "solve_s": load_s,
        "cpu_s": _cpu_s() - cpu_s,
        "solver_version": version,
        **_size(model),
    }


_KINDS: MappingProxyType[str, Callable[[Job, TimeCostProblem], dict[str, Any]]] = MappingProxyType(
    {"solve": _solve, "relax": _relax, "load": _load}
)


def _judge(problem: TimeCostProblem, selection: tuple[int, ...], objective: int | None) -> dict[str, Any]:
    """The plan, and what is wrong with it."""
    verdict = check(problem, selection)
    faults = list(verdict.faults)
    if verdict.cost != objective:
        faults.append(f"costs {verdict.cost}, claimed were {objective}")
    return {"selection": list(selection), "faults": faults}


def _size(model: LinearModel) -> dict[str, Any]:
    return {
        "columns": model.num_columns,
        "binaries": int(model.integrality.sum()),
        "rows": model.num_rows,
        "nonzeros": int(model.matrix.nnz),
    }


def _timed(call: Callable[[], _Result]) -> tuple[_Result, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def _cpu_s() -> float:
    """Of this process and of those it has waited for: CBC runs in one."""
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited_for.ru_utime + waited_for.ru_stime


def _finite(bound: float | None) -> float | None:
    return bound if bound is not None and math.isfinite(bound) else None


def _tiny() -> TimeCostProblem:
    """Two activities, one device between them: no mere chain, so that `auto` loads what it shrinks with."""
    activities = tuple(
        Activity(f"s{v}", np.array([3, 2]), np.array([1, 2]), np.array([[1], [0]])) for v in range(2)
    )
    paths = (Path((0,), 0, (np.array([0, 1]),)), Path((1,), 0, (np.array([0, 1]),)))
    return TimeCostProblem(activities, (), paths, 3, (Resource("device", 1),))
