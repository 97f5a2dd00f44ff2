"""`mipplan.plan`: inputs in, the cheapest certified plan out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mipplan.curves import StageService
from mipplan.errors import Fault, InputError
from mipplan.options import StageOptions, check_names, expand, extremes, undominated
from mipplan.pipeline import Pipeline
from mipplan.planner.benders import Certified, Outcome, Search
from mipplan.planner.incumbent import Incumbent, find_incumbent, trim
from mipplan.planner.instance import Instance, realise_instance
from mipplan.planner.polishing import polish
from mipplan.planner.reasons import blocked_stages_reason, limits_reason, too_slow_reason
from mipplan.profiles import Profiles
from mipplan.quantiles import check_quantile
from mipplan.result import Choice, Guarantee, Plan, PlanStatus, TraceReference
from mipplan.result.plan import check_seed, relevant_profiles, resolve_slo_ns
from mipplan.solvers import resolve_solver
from mipplan.trace import Trace
from mipplan_formulations import FORMULATIONS, Formulation

#: Begins the reason of a search that did not come to its end.
STOPPED = "the search was stopped (time limit or interrupt)"


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
    _check_arguments(
        lambda: _known_formulation(formulation),
        lambda: _known_guarantee(guarantee),
        lambda: _time_limit(time_limit_s),
        lambda: check_quantile(quantile),
        lambda: check_seed(seed),
        lambda: resolve_slo_ns(pipeline, slo_s),
        lambda: check_names(pipeline, profiles),
    )
    method = _known_formulation(formulation)
    solver = resolve_solver(solver)
    ends_at = started + _time_limit(time_limit_s)
    relevant = relevant_profiles(pipeline, profiles)
    base = Plan(
        pipeline,
        relevant,
        resolve_slo_ns(pipeline, slo_s),
        quantile,
        seed,
        status=PlanStatus.UNKNOWN,
        guarantee=_known_guarantee(guarantee),
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
        if incumbent is None:
            outcome, incumbent = self._any_plan()
            if incumbent is None:
                return self._nothing_found(outcome)
        self.report(f"first certified plan: {incumbent.cost / 1e6:.4f} $/h")
        options = self._options(incumbent)
        self.report(f"choosing among {sum(table.count for table in options.values()):,} options")
        outcome = self._search(options).run()
        return self._finished(outcome, options, incumbent)

    def _search(self, options: Mapping[str, StageOptions], any_plan: bool = False) -> Search:
        return Search(
            self.instance,
            options,
            self.formulation,
            self.solver,
            self.ends_at,
            self.report,
            any_plan=any_plan,
        )

    def _any_plan(self) -> tuple[Outcome, Incumbent | None]:
        """Decide whether any plan can be certified at all, whatever it costs; if so, trim the one found."""
        self.report("deciding whether any plan can be certified")
        options = {stage: undominated(extremes(found)) for stage, found in self.instance.families.items()}
        outcome = self._search(options, any_plan=True).run()
        if outcome.best is None:
            return outcome, None
        members = {}
        for stage, option in outcome.best.selection.items():
            table = options[stage]
            family = self.instance.families[stage].families[int(table.family[option])]
            members[stage] = (family, int(table.replicas[option]))
        return outcome, trim(self.instance, members)

    def _options(self, incumbent: Incumbent) -> dict[str, StageOptions]:
        """Undominated options that could be part of a plan no dearer than the one at hand."""
        cheapest = {
            stage: min(f.fewest * f.microusd_per_hour for f in found.families)
            for stage, found in self.instance.families.items()
        }
        spare = incumbent.cost - sum(cheapest.values())
        return {
            stage: undominated(expand(found, cheapest[stage] + spare))
            for stage, found in self.instance.families.items()
        }

    def _nothing_found(self, outcome: Outcome) -> Plan:
        if outcome.finished:
            return self._infeasible(limits_reason(self.instance))
        # The search for any plan bounds no cost: what keeps up with the mean rate does.
        cheapest = (
            min(f.fewest * f.microusd_per_hour for f in s.families) for s in self.instance.families.values()
        )
        return replace(
            self.base,
            lower_bound_microusd_per_hour=sum(cheapest),
            reason=f"{STOPPED} before any certified plan was found; allow more time",
        )

    def _finished(self, outcome: Outcome, options: dict[str, StageOptions], incumbent: Incumbent) -> Plan:
        best = None if outcome.best is None else polish(self.instance, options, outcome.best)
        choices, cost, certificate_ns = _better(best, options, incumbent)
        optimal = outcome.finished or outcome.lower_bound >= cost
        services = {stage: self._service(stage, choice) for stage, choice in choices.items()}
        return replace(
            self.base,
            status=PlanStatus.OPTIMAL if optimal else PlanStatus.FEASIBLE,
            choices=choices,
            microusd_per_hour=cost,
            lower_bound_microusd_per_hour=cost if optimal else outcome.lower_bound,
            bound_ns=self.instance.paths.bound_ns(services),
            certificate_ns=certificate_ns,
            reason=None if optimal else f"{STOPPED} before this plan was proven cheapest",
        )

    def _service(self, stage: str, choice: Choice) -> StageService:
        families = self.instance.families[stage].families
        family = next(f for f in families if (f.hardware, f.batch) == (choice.hardware, choice.batch))
        return family.service(choice.replicas)

    def _infeasible(self, reason: str) -> Plan:
        return replace(
            self.base, status=PlanStatus.INFEASIBLE, reason=reason, lower_bound_microusd_per_hour=None
        )


def _better(
    found: Certified | None, options: Mapping[str, StageOptions], incumbent: Incumbent
) -> tuple[dict[str, Choice], int, int]:
    """Take the cheaper of the search's plan and the first one; at equal cost the search's."""
    if found is not None and found.cost <= incumbent.cost:
        chosen = {stage: options[stage].choice(option) for stage, option in found.selection.items()}
        return chosen, found.cost, found.certificate_ns
    members = incumbent.members.items()
    choices = {
        stage: Choice(family.hardware, family.batch, replicas) for stage, (family, replicas) in members
    }
    return choices, incumbent.cost, incumbent.certificate_ns


def _check_arguments(*checks: Callable[[], object]) -> None:
    """Make every check before complaining, so that one run shows all that is wrong."""
    faults: list[Fault] = []
    for check in checks:
        try:
            check()
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)


def _known_guarantee(name: str) -> Guarantee:
    if name not in list(Guarantee):
        raise InputError.one("guarantee", f"expected one of {', '.join(Guarantee)}, found {name!r}")
    return Guarantee(name)


def _known_formulation(name: str) -> Formulation:
    if name not in list(FORMULATIONS):
        raise InputError.one("formulation", f"expected one of {', '.join(FORMULATIONS)}, found {name!r}")
    return FORMULATIONS[name]


def _time_limit(time_limit_s: float | None) -> float:
    if time_limit_s is None:
        return float("inf")
    number = isinstance(time_limit_s, int | float) and not isinstance(time_limit_s, bool)
    if not number or not time_limit_s > 0:
        raise InputError.one("time_limit_s", f"expected seconds above 0, or None, found {time_limit_s!r}")
    return float(time_limit_s)
