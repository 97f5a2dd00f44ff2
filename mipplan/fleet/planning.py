"""`mipplan.plan_fleet`: pipelines in, the cheapest set of certified plans on shared hardware out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mipplan.fleet.alternatives import admit, ease, within_budget
from mipplan.fleet.arguments import PipelineArgument, Search, read_fleet
from mipplan.fleet.checkpoint import Checkpoint, fleet_fingerprint, read_checkpoint, write_checkpoint
from mipplan.fleet.generation import Pool, Progress, fresh_pool
from mipplan.fleet.joint import JointSearch
from mipplan.fleet.outcome import costs_alone, effort_of, infeasible_reason, made_fleet, shared_text
from mipplan.fleet.request import Fleet
from mipplan.fleet.result import Admission, FleetPlan, SloRelaxation
from mipplan.fleet.selection import Chosen
from mipplan.fleet.solving import Settled, settle_cost
from mipplan.fleet.workers import Office
from mipplan.profiles import Profiles
from mipplan.solvers import resolve_solver

#: What would do instead may be looked for this long after that is known to be needed, whatever the time limit.
_ALTERNATIVES_S = 30.0
#: Fleets of at most so many pipelines are put into one MILP if columns leave a gap, for so long.
_MOST_JOINT, _JOINT_S = 30, 60.0


def plan_fleet(
    pipelines: Mapping[str, PipelineArgument],
    profiles: Profiles,
    *,
    limits: Mapping[str, int | None] | None = None,
    budget: float | None = None,
    quantile: float = 0.99,
    seed: int = 0,
    method: str = "auto",
    gap: float = 1e-3,
    solver: str = "auto",
    time_limit_s: float | None = 300.0,
    n_jobs: int | None = None,
    checkpoint: str | Path | None = None,
    alternatives: bool = True,
    progress: Callable[[str], None] | None = None,
) -> FleetPlan:
    """Find the cheapest certified plans of many pipelines that share limited hardware.

    Parameters
    ----------
    pipelines : mapping of str to (Pipeline, Trace[, slo_s[, weight]])
        By name. The objective in seconds is the pipeline's own by default (or None); the weight, 1 by default, counts
        if not all pipelines fit.
    profiles : Profiles
        For all of them.
    limits : mapping of str to int or None, optional
        Devices there are, by hardware type; they replace those of the profiles, None lifts one.
    budget : float, optional
        Most dollars per hour for all pipelines together.
    quantile : float
        Of latency over queries that must keep each objective, in (0, 1].
    seed : int
        Of the token draws.
    method : {"auto", "columns", "joint"}
        ``columns`` is column generation, for fleets of any size; ``joint`` puts all pipelines into one MILP, for small
        ones. ``auto`` is ``columns``, then ``joint`` where that leaves a wider gap for a small fleet.
    gap : float
        Proven relative gap between cost and lower bound that is good enough.
    solver : str
        For the MILPs of ``joint``.
    time_limit_s : float or None
        What was found by then is returned with its proven lower bound.
    n_jobs : int or None
        Workers that price pipelines, as for ``joblib.Parallel``: −1 for one per core. None leaves it to
        ``joblib.parallel_config``, whose backend is used in any case (``"ray"`` for a Ray cluster).
    checkpoint : path, optional
        File to keep the state of column generation in. If it is there already, the search goes on from it.
    alternatives : bool
        Whether to look for what would do where not all pipelines fit.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    FleetPlan
        Always; `status` says how much is proven. Ctrl-C stops the search as a time limit does.

    Raises
    ------
    InputError
        Listing every bad argument.
    SolverUnavailableError
        If there is no such solver here.

    References
    ----------
    formulations/columns.md (the bound, claims 1 and 2) and formulations/joint.md.
    """
    started = time.monotonic()
    search = Search(budget, quantile, seed, gap, time_limit_s, method, checkpoint)
    fleet = read_fleet(pipelines, profiles, limits, search)
    solver = resolve_solver(solver)
    ends_at = math.inf if time_limit_s is None else started + time_limit_s
    report = progress or (lambda _: None)
    work = _Work(fleet, gap, ends_at, report, n_jobs, solver, started)
    if method == "joint":
        return work.jointly()
    return work.by_columns(checkpoint, alternatives=alternatives, joint_too=method == "auto")


@dataclass(frozen=True)
class _Work:
    """One request on its way to a result."""

    fleet: Fleet
    gap: float
    ends_at: float
    report: Callable[[str], None]
    n_jobs: int | None
    solver: str
    started: float

    def jointly(self) -> FleetPlan:
        """Put all pipelines into one MILP."""
        self.report("planning every pipeline by itself")
        found = JointSearch(self.fleet, self.solver, self.ends_at, self.report).run()
        pool = fresh_pool(len(self.fleet.members))
        settled = within_budget(
            Settled(found.chosen, found.lower_bound, {}, found.infeasible, 0), self.fleet.budget
        )
        reason = None
        if settled.chosen is None:
            what = "no set of certified plans fits" if settled.infeasible else "stopped before one was found"
            reason = f"{what} within {shared_text(self.fleet)}"
        effort = effort_of("joint", settled, pool, self.started)
        return made_fleet(self.fleet, settled, found.alone, effort, self.solver, reason)

    def by_columns(self, checkpoint: str | Path | None, *, alternatives: bool, joint_too: bool) -> FleetPlan:
        """Generate columns, and where not all fits, look for what would do."""
        fleet = self.fleet
        fingerprint = "" if checkpoint is None else fleet_fingerprint(fleet, self.gap)
        before = None if checkpoint is None else read_checkpoint(checkpoint, fingerprint)
        pool = fresh_pool(len(fleet.members)) if before is None else before.pool
        with Office.open(fleet.realisations, fleet.hardware, self.n_jobs) as office:
            if before is not None:
                office.memories = list(before.memories)
                self.report(f"going on from round {before.progress.rounds} of {checkpoint}")

            def keep(progress: Progress, best: Chosen | None) -> None:
                if checkpoint is not None:
                    write_checkpoint(
                        checkpoint, fingerprint, Checkpoint(pool, list(office.memories), progress, best)
                    )

            settled = within_budget(
                settle_cost(
                    fleet,
                    pool,
                    office,
                    self.gap,
                    self.ends_at,
                    self.report,
                    keep,
                    None if before is None else before.progress,
                    None if before is None else before.best,
                ),
                fleet.budget,
            )
            if not (settled.infeasible or settled.interrupted or settled.within(self.gap)) and joint_too:
                settled = self._joint_verdict(settled)
            reason = None if settled.chosen is not None else infeasible_reason(fleet, settled, pool)
            made = self._made(fleet, settled, pool, reason)
            if made.plans or not alternatives or not settled.infeasible or settled.interrupted:
                return made
            return self._with_alternatives(made, pool, office)

    def _joint_verdict(self, settled: Settled) -> Settled:
        """Where columns leave open whether a small fleet fits, or too wide a gap, let the joint MILP decide."""
        if len(self.fleet.members) > _MOST_JOINT or time.monotonic() >= self.ends_at:
            return settled
        ends_at = min(self.ends_at, time.monotonic() + _JOINT_S)
        found = JointSearch(self.fleet, self.solver, ends_at, self.report).run()
        chosen = [choice for choice in (settled.chosen, found.chosen) if choice is not None]
        bounds = [bound for bound in (settled.lower_bound, found.lower_bound) if bound is not None]
        decided = replace(
            settled,
            chosen=min(chosen, key=lambda choice: choice.cost, default=None),
            lower_bound=max(bounds, default=None),
            infeasible=found.infeasible,
        )
        return within_budget(decided, self.fleet.budget)

    def _with_alternatives(self, made: FleetPlan, pool: Pool, office: Office) -> FleetPlan:
        """Add a set to admit and objectives with which all fit; Ctrl-C leaves out what is not there yet."""
        try:
            made = replace(made, admission=self._admission(pool, office))
            eased, useless = ease(self.fleet, self.n_jobs, self.gap, self._until(), self.report)
            if useless:
                made = replace(made, reason=f"{made.reason}; looser latency objectives would not help")
            if eased is not None:
                fleet = self._made(eased.fleet, eased.settled, eased.pool, None)
                relaxation = SloRelaxation(eased.factor, eased.too_small, eased.proven, fleet)
                made = replace(made, relaxation=relaxation)
        except KeyboardInterrupt:
            return made
        return made

    def _admission(self, pool: Pool, office: Office) -> Admission | None:
        fleet = self.fleet
        found = admit(fleet, pool, office, self.gap, self._until(), self.report)
        if found is None:
            return None
        subset = fleet.subset(found.kept)
        made = self._made(subset, found.settled, found.pool, None)
        kept = set(found.kept)
        return Admission(
            made,
            tuple(member.name for index, member in enumerate(fleet.members) if index not in kept),
            sum(member.weight for member in subset.members) / 1000,
            sum(member.weight for member in fleet.members) / 1000,
            found.weight_bound / 1000,
        )

    def _made(self, fleet: Fleet, settled: Settled, pool: Pool, reason: str | None) -> FleetPlan:
        effort = effort_of("columns", settled, pool, self.started)
        return made_fleet(fleet, settled, costs_alone(fleet, pool), effort, self.solver, reason)

    def _until(self) -> float:
        return max(self.ends_at, time.monotonic() + _ALTERNATIVES_S)
