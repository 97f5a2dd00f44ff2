"""`mipplan.plan_fleet`: pipelines in, the cheapest set of certified plans on shared hardware out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mipplan.core import MICRODOLLARS_PER_DOLLAR, Deadline, SearchLimits, listed, usd_text
from mipplan.fleet.joint import JointSearch
from mipplan.fleet.master import Pool
from mipplan.fleet.problem import WEIGHT_UNIT, Fleet, FleetObjective, FleetSolution
from mipplan.fleet.read import FleetSettings, PipelineArgument, read_fleet
from mipplan.fleet.result import Admission, FleetEffort, FleetPlan, SloRelaxation, make_fleet_plan
from mipplan.fleet.solve import CheckpointFile, ColumnSearch
from mipplan.fleet.workers import WorkerParams, WorkerPool
from mipplan.profiles import Profiles
from mipplan.result import RunClass
from mipplan.solvers import resolve_solver

#: At most this many names are listed in a sentence, so that it stays one.
_MOST_NAMED = 5


@dataclass(frozen=True)
class FleetParams:
    """What is tried where columns leave a question open, or where not all pipelines fit."""

    #: Fleets of at most this many pipelines are put into one MILP if columns leave a gap.
    most_joint: int = 30
    #: That MILP is given at most this many seconds.
    joint_s: float = 60.0
    #: Of the time left where not all fits, what a set to admit may be looked for at most; its plans have as much of it.
    admission_share: float = 0.4
    #: A set to admit whose weight left out is within this share of the bound is good enough.
    weight_gap: float = 1e-3
    #: Objectives are relaxed at most this many times.
    most_factor: float = 1000.0
    #: The factor is found to within this share of what is needed.
    factor_precision: float = 0.01
    #: From one factor that is too small the next is at most this many times as large: mostly little is needed.
    factor_stride: float = 1.5
    workers: WorkerParams = field(default_factory=WorkerParams)


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
    dispatch: str | None = None,
    discipline: str | None = None,
    runs: RunClass | None = None,
    progress: Callable[[str], None] | None = None,
) -> FleetPlan:
    """Find the cheapest certified plans of many pipelines that share limited hardware.

    Parameters
    ----------
    pipelines : mapping of str to (Pipeline, Trace[, slo_s[, weight[, accuracy]]])
        By name. The objective in seconds is the pipeline's own by default (or None); the weight, 1 by default, counts
        if not all pipelines fit. Of stages that list variants one is chosen, such that the pipeline has at least that
        accuracy, if any.
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
    dispatch : {"eager", "paced", "timed"}, optional
        When all stages of all pipelines make batches; by default as each pipeline says. Plans of pipelines that are
        timed throughout are found by replays, for which each price takes a search.
    discipline : {"oldest_first", "fifo"}, optional
        Which waiting tokens a batch takes first, at all stages of all pipelines; by default as each pipeline says.
    runs : RunClass, optional
        The runs that certificates of ``fifo`` queues are to hold for; by default the serving model's, in which batches
        may finish early.
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
    settings = FleetSettings(
        budget, quantile, seed, gap, time_limit_s, method, checkpoint, dispatch, discipline, runs, n_jobs
    )
    fleet = read_fleet(pipelines, profiles, limits, settings)
    search = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    planner = FleetPlanner(fleet, float(gap), search, n_jobs, resolve_solver(solver), started)
    if method == "joint":
        return planner.jointly()
    return planner.by_columns(checkpoint, alternatives=alternatives, joint_too=method == "auto")


@dataclass(frozen=True)
class FleetPlanner:
    """One request on its way to a result."""

    fleet: Fleet
    gap: float
    search: SearchLimits
    n_jobs: int | None
    solver: str
    started: float  # on the clock of `time.monotonic`
    params: FleetParams = FleetParams()

    def jointly(self) -> FleetPlan:
        """Put all pipelines into one MILP."""
        self.search.report("planning every pipeline by itself")
        solution = JointSearch(self.fleet, self.solver, self.search).run().within_budget(self.fleet.budget)
        reason = None
        if solution.chosen is None:
            what = "no set of certified plans fits" if solution.infeasible else "stopped before one was found"
            shared = _shared_text(self.fleet)
            reason = f"{what} within {shared}" if shared else what
        effort = self._effort("joint")
        return make_fleet_plan(self.fleet, solution, solution.alone, effort, self.solver, reason)

    def by_columns(self, checkpoint: str | Path | None, *, alternatives: bool, joint_too: bool) -> FleetPlan:
        """Generate columns, and where not all fits, look for what would do."""
        fleet = self.fleet
        file = None if checkpoint is None else CheckpointFile.of(checkpoint, fleet, self.gap)
        before = None if file is None else file.read()
        pool = Pool.empty(len(fleet.members)) if before is None else before.pool
        with WorkerPool.open(fleet, self.n_jobs, self.params.workers) as workers:
            if before is not None:
                workers.states = list(before.states)
                pool.alone = pool.alone or _proven_alone(fleet, pool)
                self.search.report(f"going on from round {before.progress.rounds} of {checkpoint}")
            objective = FleetObjective.of_cost(fleet)
            columns = ColumnSearch(objective, pool, workers, self.gap, self.search, file, before)
            solution = columns.run().within_budget(fleet.budget)
            is_open = not (solution.infeasible or solution.interrupted or solution.within(self.gap))
            if is_open and joint_too:
                solution = self._decided_jointly(solution)
            is_stopped = solution.interrupted or self.search.deadline.is_over
            reason = None if solution.chosen is not None else _reason(fleet, solution, pool, is_stopped)
            made = self._made(fleet, solution, pool, reason)
            if made.plans or not alternatives or not solution.infeasible or solution.interrupted:
                return made
            return self._with_alternatives(made, pool, workers)

    def _decided_jointly(self, solution: FleetSolution) -> FleetSolution:
        """Where columns leave open whether a small fleet fits, or too wide a gap, let the joint MILP decide."""
        is_small = len(self.fleet.members) <= self.params.most_joint and self.fleet.is_one_program
        if not is_small or self.search.deadline.is_over:
            return solution
        ends = min(self.search.deadline.at, Deadline.after(self.params.joint_s).at)
        found = JointSearch(self.fleet, self.solver, replace(self.search, deadline=Deadline(ends))).run()
        choices = [choice for choice in (solution.chosen, found.chosen) if choice is not None]
        bounds = [bound for bound in (solution.lower_bound, found.lower_bound) if bound is not None]
        chosen = min(choices, key=lambda choice: choice.cost, default=None)
        bound = max(bounds, default=None)
        decided = replace(
            solution,
            chosen=chosen,
            lower_bound=bound,
            infeasible=found.infeasible,
            interrupted=found.interrupted,
        )
        return decided.within_budget(self.fleet.budget)

    def _with_alternatives(self, made: FleetPlan, pool: Pool, workers: WorkerPool) -> FleetPlan:
        """Add a set to admit and objectives with which all fit; Ctrl-C leaves out what is not there yet."""
        try:
            made = replace(made, admission=self._admission(pool, workers))
            relaxation, useless = self._relaxation()
            if useless:
                made = replace(made, reason=f"{made.reason}; looser latency objectives would not help")
            return replace(made, relaxation=relaxation)
        except KeyboardInterrupt:
            return made

    def _admission(self, pool: Pool, workers: WorkerPool) -> Admission | None:
        """Find the set of greatest weight that fits limits and budget, then its cheapest plans.

        None if time runs out, or no pipeline at all can be admitted.
        """
        fleet = self.fleet
        weight, share = FleetObjective.of_weight(fleet), self.params.admission_share
        search = replace(self.search, deadline=self.search.deadline.share(share))
        heaviest = ColumnSearch(weight, pool, workers, self.params.weight_gap, search).run()
        if heaviest.interrupted:
            raise KeyboardInterrupt
        if heaviest.chosen is None or heaviest.lower_bound is None:
            return None
        total = sum(member.weight for member in fleet.members)
        bound = total - max(0, math.ceil(heaviest.lower_bound / WEIGHT_UNIT))
        kept = [index for index, column in enumerate(heaviest.chosen.columns) if column is not None]
        if not kept:
            return None
        subset = replace(fleet, members=tuple(fleet.members[index] for index in kept))
        alone = {place: pool.alone[index] for place, index in enumerate(kept) if index in pool.alone}
        known = Pool([list(pool.columns[index]) for index in kept], alone=alone)
        search = replace(self.search, deadline=self.search.deadline.share(share))
        solution, _ = self._cheapest(subset, self.gap, search, known)
        if solution.chosen is None:
            return None
        return Admission(
            self._made(subset, solution, known, None),
            tuple(member.name for index, member in enumerate(fleet.members) if index not in set(kept)),
            sum(member.weight for member in subset.members) / 1000,
            total / 1000,
            bound / 1000,
        )

    def _relaxation(self) -> tuple[SloRelaxation | None, bool]:
        """Find the least factor by which to multiply all objectives so that all pipelines fit.

        A factor is too small if that is proven, or if no fleet was found. None is returned if no fleet was found with
        any factor, in the time there is; and whether it is proven that none helps.
        """
        fleet, params = self.fleet, self.params
        search = self.search
        # Any fleet will do while looking; with a budget it must be a cheap one.
        enough = 1.0 if fleet.budget is None else self.gap
        low, proven, high = 1.0, True, params.most_factor
        best: tuple[FleetSolution, Pool] | None = None
        factor = high  # if objectives are not the reason at all, this tells
        while not search.deadline.is_over:
            search.report(f"with objectives times {factor:.4g}")
            solution, pool = self._cheapest(fleet.relaxed(factor), enough, search)
            if solution.interrupted:
                raise KeyboardInterrupt
            if solution.chosen is not None:
                best, high = (solution, pool), factor
            else:
                low, proven = factor, solution.infeasible
            if best is None or high <= low * (1.0 + params.factor_precision):
                break
            # Mostly little is needed: upwards in small steps, and halving between the last two.
            factor = min(low * params.factor_stride, math.sqrt(low * high))
        if best is None:
            return None, proven and low >= params.most_factor
        if enough != self.gap:
            better = self._cheapest(fleet.relaxed(high), self.gap, search)
            best = better if better[0].chosen is not None else best
        made = self._made(fleet.relaxed(high), *best, None)
        return SloRelaxation(high, low, proven, made), False

    def _cheapest(
        self, fleet: Fleet, gap: float, search: SearchLimits, known: Pool | None = None
    ) -> tuple[FleetSolution, Pool]:
        """Search the cheapest plans of another fleet than that of the request, with workers of its own."""
        pool = known or Pool.empty(len(fleet.members))
        with WorkerPool.open(fleet, self.n_jobs, self.params.workers) as workers:
            found = ColumnSearch(FleetObjective.of_cost(fleet), pool, workers, gap, search).run()
        return found.within_budget(fleet.budget), pool

    def _effort(self, method: str, rounds: int = 0, columns: int = 0) -> FleetEffort:
        return FleetEffort(method, rounds, columns, round(time.monotonic() - self.started, 3))

    def _made(self, fleet: Fleet, solution: FleetSolution, pool: Pool, reason: str | None) -> FleetPlan:
        effort = self._effort("columns", solution.rounds, sum(map(len, pool.columns)))
        alone = [pool.alone.get(index, 0) for index in range(len(pool.columns))]
        return make_fleet_plan(fleet, solution, alone, effort, self.solver, reason)


def _proven_alone(fleet: Fleet, pool: Pool) -> dict[int, int]:
    """What pipelines cost by themselves, of which checkpoints of earlier versions do not tell.

    The first known plan was found at the hardware's own prices: unless it is timed, none is cheaper.
    """
    known = zip(fleet.members, pool.columns, strict=True)
    return {
        index: columns[0].cost(fleet.prices)
        for index, (member, columns) in enumerate(known)
        if columns and not member.is_timed
    }


def _reason(fleet: Fleet, solution: FleetSolution, pool: Pool, is_stopped: bool) -> str:
    """Say why there is no set of plans."""
    count = len(fleet.members)
    if pool.hopeless:
        names = [fleet.members[index].name for index in sorted(pool.hopeless)]
        verb = "has" if len(names) == 1 else "have"
        return (
            f"{len(names)} of {count} pipelines {verb} no certified plan even alone on this hardware: "
            f"{listed(names, _MOST_NAMED)} (mipplan plan says why)"
        )
    budget = fleet.budget
    if budget is not None and solution.lower_bound is not None and solution.lower_bound > budget:
        return (
            f"all pipelines together cost at least {usd_text(solution.lower_bound / MICRODOLLARS_PER_DOLLAR)} $/h, "
            f"more than the budget of {budget / MICRODOLLARS_PER_DOLLAR:,.10g} $/h"
        )
    if solution.infeasible:
        return f"no set of certified plans for all {count} pipelines fits within {_shared_text(fleet)}"
    if budget is not None and solution.lower_bound is not None and not is_stopped:
        return (
            f"what was found costs more than the budget of {budget / MICRODOLLARS_PER_DOLLAR:,.10g} $/h, and that "
            f"nothing costs less is proven down to {usd_text(solution.lower_bound / MICRODOLLARS_PER_DOLLAR)} $/h "
            "only; ask for a smaller gap"
        )
    return "the search stopped before a set of plans was found that fits; allow more time"


def _shared_text(fleet: Fleet) -> str:
    """What a fleet's pipelines share, in words."""
    parts = [f"{limit} {name}" for name, limit in fleet.limits.items()]
    if fleet.budget is not None:
        parts.append(f"{fleet.budget / MICRODOLLARS_PER_DOLLAR:g} $/h")
    return ", ".join(parts)
