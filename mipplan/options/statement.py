"""The planning problem of a pipeline as a time-cost problem, for people who benchmark formulations and solvers."""

from __future__ import annotations

from mipplan.calculus import analyse_paths
from mipplan.core import Fault, InputError, check_all, check_budget, check_kinds
from mipplan.options.families import check_names, find_families, limits_of, trace_demand
from mipplan.options.table import StageOptions, build_problem, expand, undominated
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import resolve_objective
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan_formulations import TimeCostProblem

#: Without a budget, `time_cost_problem` offers this many times the replicas that keep up with the mean rate.
_SPARE_REPLICAS = 4


def time_cost_problem(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    budget_usd_per_hour: float | None = None,
) -> TimeCostProblem:
    """Build the planning problem of a pipeline, for people who benchmark formulations and solvers.

    Costs are micro-dollars per hour, times nanoseconds; waits are exact for every option. The planner solves
    the same problem, with replicas bounded by the cost of a plan it already has.

    Parameters
    ----------
    pipeline, profiles, trace
        As for `mipplan.plan`.
    slo_s, quantile, seed
        As for `mipplan.plan`.
    budget_usd_per_hour : float, optional
        Options of a stage that alone cost more are left out. By default that is what four times the replicas that
        the mean rate takes, and four more, cost where they are dearest.

    Raises
    ------
    InputError
        If an input is bad, or some stage has no option at all.
    """
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles), trace=(trace, Trace))
    check_names(pipeline, profiles)
    check_all(
        lambda: resolve_objective(pipeline, slo_s, quantile, seed), lambda: check_budget(budget_usd_per_hour)
    )
    objective, budget = resolve_objective(pipeline, slo_s, quantile, seed), check_budget(budget_usd_per_hour)
    workload = realise(pipeline, trace, seed)
    demand = trace_demand(workload)
    paths = analyse_paths(workload, objective.criterion(workload.ingress_ns))
    options: dict[str, StageOptions] = {}
    faults: list[Fault] = []
    for name, found in find_families(pipeline, profiles, demand).items():
        spare = [_SPARE_REPLICAS * (f.fewest + 1) * f.microusd_per_hour for f in found.families]
        options[name] = undominated(expand(found, max(spare, default=0) if budget is None else budget))
        if options[name].count == 0:
            reasons = "; ".join(found.rejected) or "every option costs more than the budget"
            faults.append(Fault(f"stages.{name}", f"has no option: {reasons}"))
    if faults:
        raise InputError(faults)
    return build_problem(pipeline, options, paths, objective.slo_ns, limits_of(profiles))
