"""`mipplan.plan`: inputs in, the cheapest certified plan out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mipplan.errors import InputError
from mipplan.options import StageOptions, check_names, expand, undominated
from mipplan.pipeline import Pipeline
from mipplan.planner.benders import Certified, Outcome, Search
from mipplan.planner.incumbent import Incumbent, find_incumbent
from mipplan.planner.instance import Instance, realise_instance
from mipplan.planner.reasons import blocked_stages_reason, limits_reason, too_slow_reason
from mipplan.profiles import Profiles
from mipplan.quantiles import check_quantile
from mipplan.result import Choice, Guarantee, Plan, PlanStatus, TraceReference
from mipplan.result.plan import relevant_profiles, resolve_slo_ns
from mipplan.solvers import resolve_solver
from mipplan.trace import Trace
from mipplan_formulations import FORMULATIONS, Formulation


def plan(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float = 0.99,
    guarantee: str = "trace",
    formulation: str = "paths",
    solver: str = "auto",
    time_limit_s: float | None = 60.0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest configuration whose certified latency quantile keeps the objective.

    Parameters
    ----------
    pipeline : Pipeline
    profiles : Profiles
    trace : Trace
        A sample of the traffic. The plan is certified on this trace: it is in-sample.
    slo_s : float, optional
        Latency objective in seconds; the pipeline's own by default.
    quantile : float
        Of latency over queries that must keep the objective, in (0, 1].
    guarantee : {"trace"}
        What traffic the certificate covers.
    formulation : str
        Key of ``mipplan_formulations.FORMULATIONS``.
    solver : str
        ``"auto"`` or a name from ``mipplan.solvers.available_solvers()``.
    time_limit_s : float or None
        Wall-clock limit; what was found by then is returned with its proven lower bound.
    seed : int
        Of the token draws; the certificate holds for that draw.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Plan
        Always; `status` says how much is proven. Infeasible is an answer, with `reason`. Ctrl-C during the search
        stops it as a time limit does.

    Raises
    ------
    InputError
        Listing every bad argument.
    SolverUnavailableError
        If there is no such solver here.

    References
    ----------
    Theorem and relaxation in docs/theory.md; the method in `mipplan.planner.benders`.
    """
    started = time.monotonic()
    method = _known_formulation(formulation)
    solver = resolve_solver(solver)
    if guarantee not in list(Guarantee):
        raise InputError.one("guarantee", f"expected one of {', '.join(Guarantee)}, found {guarantee!r}")
    ends_at = started + _time_limit(time_limit_s)
    check_quantile(quantile)
    check_names(pipeline, profiles)
    relevant = relevant_profiles(pipeline, profiles)
    base = Plan(
        pipeline,
        relevant,
        resolve_slo_ns(pipeline, slo_s),
        quantile,
        seed,
        status=PlanStatus.UNKNOWN,
        guarantee=Guarantee(guarantee),
        formulation=formulation,
        solver=solver,
        lower_bound_microusd_per_hour=0,
        trace=TraceReference.of(trace),
    )
    report = progress or (lambda _: None)
    report(f"analysing {len(trace):,} queries")
    instance = realise_instance(pipeline, relevant, trace, base.slo_ns, base.quantile, seed)
    return _Planning(base, instance, method, solver, ends_at, report).run()


@dataclass(frozen=True)
class _Planning:
    """One request on its way: from the instance to a finished plan."""

    base: Plan
    instance: Instance
    formulation: Formulation
    solver: str
    ends_at: float
    report: Callable[[str], None]

    def run(self) -> Plan:
        reason = blocked_stages_reason(self.instance) or too_slow_reason(self.instance)
        if reason is not None:
            return self._infeasible(reason)
        self.report("looking for a first certified plan")
        incumbent = find_incumbent(self.instance)
        if incumbent is not None:
            self.report(f"first certified plan: {incumbent.cost / 1e6:.4f} $/h")
        options = self._options(incumbent)
        if options is None:
            return self._infeasible(limits_reason(self.instance))
        self.report(f"choosing among {sum(table.count for table in options.values()):,} options")
        search = Search(self.instance, options, self.formulation, self.solver, self.ends_at, self.report)
        outcome = search.run()
        return self._finished(outcome, options, incumbent)

    def _options(self, incumbent: Incumbent | None) -> dict[str, StageOptions] | None:
        """Undominated options; with a plan at hand only those that could be part of one at most as dear."""
        cheapest = {
            stage: min(f.fewest * f.microusd_per_hour for f in found.families)
            for stage, found in self.instance.families.items()
        }
        options: dict[str, StageOptions] = {}
        for stage, found in self.instance.families.items():
            others = sum(cheapest.values()) - cheapest[stage]
            most = None if incumbent is None else incumbent.cost - others
            options[stage] = undominated(expand(found, most))
            if options[stage].count == 0:
                return None
        return options

    def _finished(
        self, outcome: Outcome, options: dict[str, StageOptions], incumbent: Incumbent | None
    ) -> Plan:
        if outcome.best is None and incumbent is None:
            if outcome.finished:
                return self._infeasible(limits_reason(self.instance))
            return replace(
                self.base,
                lower_bound_microusd_per_hour=outcome.lower_bound,
                reason="the time limit was reached before any certified plan was found; allow more time",
            )
        choices, cost, certificate_ns = _better(outcome.best, options, incumbent)
        lower_bound = min(cost, outcome.lower_bound)
        optimal = outcome.finished or lower_bound == cost
        services = {stage: self._service(stage, choice) for stage, choice in choices.items()}
        return replace(
            self.base,
            status=PlanStatus.OPTIMAL if optimal else PlanStatus.FEASIBLE,
            choices=choices,
            microusd_per_hour=cost,
            lower_bound_microusd_per_hour=cost if optimal else lower_bound,
            bound_ns=self.instance.paths.bound_ns(services),
            certificate_ns=certificate_ns,
            reason=None if optimal else "the time limit was reached before this plan was proven cheapest",
        )

    def _service(self, stage: str, choice: Choice) -> Any:
        families = self.instance.families[stage].families
        family = next(f for f in families if (f.hardware, f.batch) == (choice.hardware, choice.batch))
        return family.service(choice.replicas)

    def _infeasible(self, reason: str) -> Plan:
        return replace(
            self.base, status=PlanStatus.INFEASIBLE, reason=reason, lower_bound_microusd_per_hour=None
        )


def _better(
    found: Certified | None, options: dict[str, StageOptions], incumbent: Incumbent | None
) -> tuple[dict[str, Choice], int, int]:
    """Take the cheaper of the search's plan and the first one; at equal cost the search's."""
    if found is not None and (incumbent is None or found.cost <= incumbent.cost):
        chosen = {stage: options[stage].choice(option) for stage, option in found.selection.items()}
        return chosen, found.cost, found.certificate_ns
    if incumbent is None:
        raise AssertionError("one of the two was found")
    members = incumbent.members.items()
    choices = {
        stage: Choice(family.hardware, family.batch, replicas) for stage, (family, replicas) in members
    }
    return choices, incumbent.cost, incumbent.certificate_ns


def _known_formulation(name: str) -> Formulation:
    if name not in FORMULATIONS:
        raise InputError.one("formulation", f"expected one of {', '.join(FORMULATIONS)}, found {name!r}")
    return FORMULATIONS[name]


def _time_limit(time_limit_s: float | None) -> float:
    if time_limit_s is None:
        return float("inf")
    number = isinstance(time_limit_s, int | float) and not isinstance(time_limit_s, bool)
    if not number or not time_limit_s > 0:
        raise InputError.one("time_limit_s", f"expected seconds above 0, or None, found {time_limit_s!r}")
    return float(time_limit_s)
