"""Plans of all planners side by side: made on the first part of a trace, judged on that and on the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mipplan.baselines import coarse_grained, half_slo, inferline
from mipplan.comparison.result import Comparison, ComparisonRow, Contender, Judgement
from mipplan.core import (
    Fault,
    InputError,
    Report,
    check_all,
    check_one_of,
    check_seed,
    check_time_limit,
    interrupts_seen,
    listed,
    shown,
    suggestion,
)
from mipplan.options import check_names
from mipplan.pipeline import Discipline, Dispatch, Pipeline, are_timed
from mipplan.planner import plan
from mipplan.profiles import Profiles
from mipplan.refinement import refine
from mipplan.replayer import replay
from mipplan.result import Effort, Plan, check_laws, resolve_objective
from mipplan.trace import Trace, check_split, split_trace
from mipplan.verification import certify

#: The rest of the trace is replayed with 5 draws, unless told otherwise.
_SEEDS = 5
#: Seeds are below this, for the generators of draws.
_SEED_LIMIT = 2**128

#: Words that people use for planners besides their names.
_ALSO_CALLED = {"greedy": Contender.INFERLINE, "coarse": Contender.COARSE_MEAN, "optimal": Contender.REFINED}


def compare(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    split: float = 0.5,
    discipline: str = "oldest_first",
    per_s: float | None = None,
    share: float | None = None,
    dispatch: Dispatch = None,
    planners: Sequence[str] = tuple(Contender),
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Plan with several planners on the first part of a trace, and judge all plans on that part and on the rest.

    No planner sees the rest, nor the token draws it is replayed with. All plans are replayed under the same
    discipline, each part from an empty pipeline.

    Parameters
    ----------
    pipeline, profiles, slo_s, quantile, per_s, share
        As for `mipplan.plan`; baselines plan for the same objective.
    trace : Trace
    split : float
        Share of the trace's time to plan on, in (0, 1).
    discipline : {"oldest_first", "fifo"}
        Of the replays that judge, and of those that refinement searches by. InferLine's own estimator is ``fifo``,
        whatever the judge; certificates cover ``oldest_first`` only, unless all stages are timed.
    dispatch : str or mapping of str to str, optional
        Law of all plans and replays, as for `mipplan.plan`.
    planners : sequence of str
        Of `Contender`: ``certified``, ``refined``, ``inferline``, ``coarse_mean``, ``coarse_peak``, ``half_slo``.
    seed : int
        Of the token draws planned with.
    seeds : sequence of int, optional
        Of the token draws that the rest is replayed with; by default the five numbers after `seed`. The seed
        planned with is refused: it would draw for the rest, query by query, what was planned with. Where the
        pipeline draws nothing, the first alone is used, as all would give the same.
    time_limit_s : float or None
        Of each search (refinement: the certified plan it starts from, then its own).
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Comparison
        A row for each planner, also for those that found no plan. After Ctrl-C: the rows that were complete.

    Raises
    ------
    InputError
        Listing every bad argument.
    SolverUnavailableError
        If there is no solver for the certified plan.
    """
    check_all(
        lambda: resolve_objective(pipeline, slo_s, quantile, seed, per_s=per_s, share=share),
        lambda: check_rules(split, discipline, planners, seed, seeds, time_limit_s),
        lambda: split_trace(trace, split),
        lambda: check_names(pipeline, profiles),
        lambda: check_laws(pipeline, dispatch),
    )
    contenders, drawn = _contenders(planners), _seeds(seed, seeds)
    if not pipeline.is_random:
        drawn = drawn[:1]
    planned_on, judged_on = split_trace(trace, split)
    pipeline = pipeline.asking(per_s=per_s, share=share)
    task = PlanningTask(
        pipeline, profiles, planned_on, slo_s, quantile, seed, discipline, time_limit_s, dispatch
    )
    evaluator = Evaluator(planned_on, judged_on, discipline, seed, drawn)
    rows: list[ComparisonRow] = []
    # Ctrl-C ends the comparison, and what was complete is the answer.
    with interrupts_seen() as interrupts, suppress(KeyboardInterrupt):
        for contender in contenders:

            def report(line: str, contender: Contender = contender) -> None:
                if progress is not None:
                    progress(f"{contender}: {line}")

            report("planning")
            row = evaluator.judged(task.make(contender, report), report)
            if interrupts:
                break
            rows.append(row)
    left_out = contenders[len(rows) :]
    objective = resolve_objective(pipeline, slo_s, quantile, seed)
    return Comparison(
        objective, discipline, float(split), drawn, planned_on, judged_on, tuple(rows), left_out
    )


@dataclass(frozen=True)
class PlanningTask:
    """What every planner is given: the part of the trace to plan on, and nothing of the rest."""

    pipeline: Pipeline
    profiles: Profiles
    trace: Trace
    slo_s: float | None
    quantile: float | None
    seed: int
    discipline: str  # That the plans are judged under; only refinement can make use of it.
    time_limit_s: float | None  # Of each search.
    dispatch: Dispatch = None  # The law of all plans.
    _made: dict[Contender, ComparisonRow] = field(default_factory=dict, init=False, compare=False, repr=False)

    def make(self, contender: Contender, report: Report) -> ComparisonRow:
        """Have a planner make its plan, once; it is not judged yet."""
        if contender not in self._made:
            self._made[contender] = self._make(contender, report)
        return self._made[contender]

    def _make(self, contender: Contender, report: Report) -> ComparisonRow:
        searching = {"time_limit_s": self.time_limit_s, "progress": report}
        if contender is Contender.REFINED:
            # The time of the certified plan counts for both.
            start = self.make(Contender.CERTIFIED, report)
            made = _timed(contender, refine, start.plan, self.trace, discipline=self.discipline, **searching)
            calls = start.estimator_calls + made.estimator_calls
            return replace(made, planning_s=start.planning_s + made.planning_s, estimator_calls=calls)
        planners: dict[Contender, tuple[Callable[..., Plan], dict[str, Any]]] = {
            Contender.CERTIFIED: (plan, searching),
            Contender.INFERLINE: (inferline, searching),
            Contender.COARSE_MEAN: (coarse_grained, {"mode": "mean"}),
            Contender.COARSE_PEAK: (coarse_grained, {"mode": "peak"}),
            Contender.HALF_SLO: (half_slo, {}),
        }
        planner, more = planners[contender]
        asked = {
            "slo_s": self.slo_s,
            "quantile": self.quantile,
            "seed": self.seed,
            "dispatch": self.dispatch,
            **more,
        }
        return _timed(contender, planner, self.pipeline, self.profiles, self.trace, **asked)


def _timed(
    contender: Contender, planner: Callable[..., Plan], *given: object, **asked: object
) -> ComparisonRow:
    started = time.monotonic()
    made = planner(*given, **asked)
    elapsed_s = time.monotonic() - started
    replays = 0 if made.refinement is None else made.refinement.replays
    effort = made.effort or Effort(replays, elapsed_s)
    return ComparisonRow(contender, made, effort.seconds, effort.estimator_calls)


@dataclass(frozen=True)
class Evaluator:
    """Judges all plans alike, whoever made them: by replays and by the certificate."""

    planned_on: Trace
    judged_on: Trace
    discipline: str
    seed: int  # Of the draws planned with.
    seeds: Sequence[int]  # Of the draws on the rest.

    def judged(self, row: ComparisonRow, report: Report) -> ComparisonRow:
        """Add to a planner's row how its plan did, if it has one."""
        if not row.plan.choices:
            return row
        report(f"replaying {len(self.planned_on):,} queries planned on")
        # Certificates of plans that services certify are shown for oldest first, which they are made for.
        queue = self.discipline if are_timed(row.plan.laws) else Discipline.OLDEST_FIRST
        certified = certify(row.plan, self.planned_on, discipline=queue, seed=self.seed)
        in_sample = self._judge(row.plan, self.planned_on, self.seed)
        over_seeds = []
        for seed in self.seeds:
            report(f"replaying {len(self.judged_on):,} queries held out, seed {seed}")
            over_seeds.append(self._judge(row.plan, self.judged_on, seed))
        return replace(
            row, certificate_ns=certified.bound_ns, in_sample=in_sample, over_seeds=tuple(over_seeds)
        )

    def _judge(self, plan: Plan, trace: Trace, seed: int) -> Judgement:
        replayed = replay(plan, trace, discipline=self.discipline, seed=seed)
        quantile_ns = replayed.objective_ns(plan.objective)
        misses = int(np.count_nonzero(replayed.latency_ns > plan.slo_ns))
        return Judgement(seed, replayed.queries, quantile_ns, misses, quantile_ns <= plan.slo_ns)


def check_rules(
    split: float,
    discipline: str,
    planners: Sequence[str],
    seed: int,
    seeds: Sequence[int] | None,
    time_limit_s: float | None,
) -> None:
    """Refuse what `compare` cannot compare by, whatever the pipeline.

    Raises `InputError` listing every fault.
    """
    check_all(
        lambda: check_split(split),
        lambda: check_one_of("discipline", discipline, Discipline, repr),
        lambda: _contenders(planners),
        lambda: _seeds(seed, seeds),
        lambda: check_time_limit(time_limit_s),
    )


def _contenders(planners: Sequence[str]) -> tuple[Contender, ...]:
    known = [contender.value for contender in Contender]
    if isinstance(planners, str) or not planners:
        raise InputError.one("planners", f"expected some of {listed(known)}, found {shown(planners)}")
    wrong = [f"there is no {shown(name)}{_hint(name, known)}" for name in planners if name not in known]
    wrong += [f"names {name} twice" for name in known if list(planners).count(name) > 1]
    if wrong:
        raise InputError(Fault("planners", problem) for problem in wrong)
    return tuple(Contender(name) for name in planners)


def _hint(name: object, known: Sequence[str]) -> str:
    """Name what may have been meant."""
    if isinstance(name, str) and name in _ALSO_CALLED:
        return f"; did you mean {shown(_ALSO_CALLED[name].value)}?"
    return suggestion(name, known) or f"; there are {listed(known)}"


def _seeds(seed: int, seeds: Sequence[int] | None) -> tuple[int, ...]:
    planned_with = check_seed(seed)
    if seeds is None:
        return tuple((planned_with + step) % _SEED_LIMIT for step in range(1, _SEEDS + 1))
    drawn = tuple(check_seed(other) for other in seeds)
    if not drawn or len(set(drawn)) < len(drawn) or planned_with in drawn:
        expected = f"expected different numbers, other than the seed planned with ({seed})"
        raise InputError.one("seeds", f"{expected}, found {shown(seeds)}")
    return drawn
