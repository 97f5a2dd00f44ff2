"""Plans of all planners side by side: made on the first part of a trace, judged on that and on the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from mipplan.baselines import coarse_grained, half_slo, inferline
from mipplan.comparison.result import Comparison, ComparisonRow, Contender, Judgement
from mipplan.core import (
    Fault,
    Faults,
    InputError,
    Report,
    check_all,
    check_kinds,
    check_one_of,
    check_seed,
    check_time_limit,
    interrupts_seen,
    listed,
    seeds_after,
    shown,
    suggestion,
)
from mipplan.options import check_accuracies, check_names, check_power
from mipplan.pipeline import Discipline, Dispatch, Pipeline, check_accuracy, choosing, is_accurate, may_draw
from mipplan.planner import plan
from mipplan.profiles import EnergyTerms, Profiles
from mipplan.refinement import refine
from mipplan.replayer import replay
from mipplan.result import Effort, Plan, RunEnergy, check_laws, relevant_profiles, resolve_objective
from mipplan.tokens import Sample, check_seeds, find_samples, read_traces
from mipplan.trace import Trace, check_split, split_trace
from mipplan.verification import certify

#: The rest of the trace is replayed with 5 draws, unless told otherwise.
_SEEDS = 5

#: Words that people use for planners besides their names.
_ALSO_CALLED = {"greedy": Contender.INFERLINE, "coarse": Contender.COARSE_MEAN, "optimal": Contender.REFINED}


def compare(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    split: float = 0.5,
    discipline: str | None = None,
    per_s: float | None = None,
    share: float | None = None,
    dispatch: Dispatch = None,
    accuracy: float | None = None,
    energy: EnergyTerms | None = None,
    planners: Sequence[str] = tuple(Contender),
    seed: int = 0,
    draws: int = 1,
    seeds: Sequence[int] | None = None,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Plan with several planners on the first part of a trace, and judge all plans on that part and on the rest.

    Of several traces each is split: a plan keeps the objective if it does on each by itself. Baselines know one trace:
    of the plans that one makes for each the dearest stands.

    No planner sees the rest, nor the token draws it is replayed with. All plans are replayed under the same
    discipline, each part from an empty pipeline.

    Parameters
    ----------
    pipeline, profiles, slo_s, quantile, per_s, share
        As for `mipplan.plan`; baselines plan for the same objective.
    trace : Trace, or sequence of Trace
    split : float
        Share of the trace's time to plan on, in (0, 1).
    discipline : {"oldest_first", "fifo"}, optional
        Of certificates, of the replays that judge, and of those that refinement searches by. Under ``fifo``
        certificates are for the runs of ``RunClass()``. InferLine's own estimator is ``fifo``, whatever the judge.
    dispatch : str or mapping of str to str, optional
        Law of all plans and replays, as for `mipplan.plan`.
    accuracy : float, optional
        The least accuracy of the pipeline, in (0, 1]: ``certified`` and ``refined`` choose variants that keep it. The
        others run the models that the pipeline names; with less they are judged, but are not the cheapest.
    energy : EnergyTerms, optional
        Tell what the replays took of energy; without a cap on power, or prices, which baselines would not keep.
    planners : sequence of str
        Of `Contender`: ``certified``, ``refined``, ``inferline``, ``coarse_mean``, ``coarse_peak``, ``half_slo``.
    seed : int
        Of the token draws planned with.
    draws : int
        So many draws of every trace are planned with, by the seeds from `seed` on.
    seeds : sequence of int, optional
        Of the token draws that the rest is replayed with; by default the five numbers after those. A seed
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
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
    check_all(
        lambda: resolve_objective(pipeline, slo_s, quantile, seed, per_s=per_s, share=share),
        lambda: check_rules(split, discipline, planners, seed, seeds, time_limit_s, draws),
        lambda: [split_trace(one, split) for one in read_traces(trace)],
        lambda: check_names(pipeline, profiles),
        lambda: check_laws(pipeline, dispatch),
        lambda: None if accuracy is None else check_accuracy(accuracy),
        lambda: None if accuracy is None else check_accuracies(pipeline, profiles),
        lambda: None if energy is None else _check_energy(pipeline, profiles, energy),
    )
    contenders, drawn = _contenders(planners), _seeds(seed, seeds, draws)
    discipline = discipline or pipeline.discipline
    if not may_draw(pipeline):
        drawn = drawn[:1]
    parts = [split_trace(one, split) for one in read_traces(trace)]
    (planned_on, judged_on), *others = parts
    pipeline = pipeline.asking(per_s=per_s, share=share)
    given = (pipeline, profiles, [first for first, _ in parts], slo_s, quantile, seed, discipline)
    task = PlanningTask(*given, time_limit_s, dispatch, draws, accuracy, energy)
    evaluator = Evaluator(task.samples, [rest for _, rest in parts], discipline, drawn)
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
    asked, found = replace(objective, min_accuracy=accuracy), (tuple(rows), left_out, tuple(others), draws)
    return Comparison(asked, discipline, float(split), drawn, planned_on, judged_on, *found)


@dataclass(frozen=True)
class PlanningTask:
    """What every planner is given: the parts of the traces to plan on, and nothing of the rest."""

    pipeline: Pipeline
    profiles: Profiles
    traces: Sequence[Trace]
    slo_s: float | None
    quantile: float | None
    seed: int
    discipline: str  # That the plans are judged under; baselines know nothing of it.
    time_limit_s: float | None  # Of each search.
    dispatch: Dispatch = None  # The law of all plans.
    draws: int = 1  # Of every trace, from the seed on.
    accuracy: float | None = None  # The least, for those that choose variants.
    energy: EnergyTerms | None = None  # What is told of energy; no plan depends on it.
    _made: dict[Contender, ComparisonRow] = field(default_factory=dict, init=False, compare=False, repr=False)

    def samples(self, pipeline: Pipeline) -> tuple[Sample, ...]:
        """Every trace with every draw, each of which a plan must keep by itself; variants chosen may draw."""
        return find_samples(pipeline, self.traces, self.seed, self.draws)

    def make(self, contender: Contender, report: Report) -> ComparisonRow:
        """Have a planner make its plan, once; it is not judged yet."""
        if contender not in self._made:
            self._made[contender] = self._described(self._make(contender, report))
        return self._made[contender]

    def _described(self, row: ComparisonRow) -> ComparisonRow:
        """Add what baselines know nothing of: accuracy, for their plans keep no variants, and terms of energy."""
        made, least = row.plan, self.accuracy
        if not made.choices:
            return row
        own = {n: made.pipeline.stages[n].model for n, s in self.pipeline.stages.items() if len(s.models) > 1}
        accuracy = replace(made, pipeline=choosing(self.pipeline, own)).accuracy
        accurate = None if least is None else is_accurate(accuracy, least, len(made.choices))
        if self.energy is not None:
            powered = relevant_profiles(made.pipeline, self.profiles, power=True)
            made = replace(made, profiles=powered, objective=replace(made.objective, energy=self.energy))
        return replace(row, plan=made, accuracy=accuracy, accurate=accurate)

    def _make(self, contender: Contender, report: Report) -> ComparisonRow:
        searching = {"time_limit_s": self.time_limit_s, "progress": report}
        if contender is Contender.REFINED:
            # The time of the certified plan counts for both.
            start = self.make(Contender.CERTIFIED, report)
            if not start.plan.choices and self.discipline == Discipline.FIFO:
                # Of `fifo` queues less can be certified, and any plan will do to begin with.
                start = self._certified(report, Discipline.OLDEST_FIRST, start.planning_s)
            asked = {"discipline": self.discipline, "seeds": self.draws, **searching}
            made = _timed(contender, refine, start.plan, self.traces, **asked)
            calls = start.estimator_calls + made.estimator_calls
            return replace(made, planning_s=start.planning_s + made.planning_s, estimator_calls=calls)
        baselines: dict[Contender, tuple[Callable[..., Plan], dict[str, Any]]] = {
            Contender.INFERLINE: (inferline, searching),
            Contender.COARSE_MEAN: (coarse_grained, {"mode": "mean"}),
            Contender.COARSE_PEAK: (coarse_grained, {"mode": "peak"}),
            Contender.HALF_SLO: (half_slo, {}),
        }
        if contender is Contender.CERTIFIED:
            return self._certified(report, self.discipline)
        planner, more = baselines[contender]
        return _dearest(
            [
                _timed(contender, planner, *self._given, s.trace, seed=s.seed, **self._same, **more)
                for s in self.samples(self.pipeline)
            ]
        )

    def _certified(self, report: Report, discipline: str, before_s: float = 0.0) -> ComparisonRow:
        """The cheapest certified plan; it took some time before that, too."""
        asked = {
            "discipline": discipline,
            "accuracy": self.accuracy,
            "time_limit_s": self.time_limit_s,
            "progress": report,
            **self._same,
        }
        drawn = {"seed": self.seed, "seeds": self.draws}
        made = _timed(Contender.CERTIFIED, plan, *self._given, self.traces, **asked, **drawn)
        return replace(made, planning_s=before_s + made.planning_s)

    @property
    def _given(self) -> tuple[Pipeline, Profiles]:
        return self.pipeline, self.profiles

    @property
    def _same(self) -> dict[str, Any]:
        """What every planner is asked for."""
        return {"slo_s": self.slo_s, "quantile": self.quantile, "dispatch": self.dispatch}


def _dearest(rows: Sequence[ComparisonRow]) -> ComparisonRow:
    """Return the dearest plan of those made for one sample each, or the first that is none; effort is that of all."""
    none = next((row for row in rows if row.plan.microusd_per_hour is None), None)
    dearest = none or max(rows, key=lambda row: row.plan.microusd_per_hour or 0)
    calls = sum(row.estimator_calls for row in rows)
    return replace(dearest, planning_s=sum(row.planning_s for row in rows), estimator_calls=calls)


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

    planned_on: Callable[[Pipeline], Sequence[Sample]]  # Of a plan, by the pipeline as it runs it.
    judged_on: Sequence[Trace]
    discipline: str
    seeds: Sequence[int]  # Of the draws on the rest.

    def judged(self, row: ComparisonRow, report: Report) -> ComparisonRow:
        """Add to a planner's row how its plan did, if it has one."""
        if not row.plan.choices:
            return row
        samples = self.planned_on(row.plan.pipeline)
        report(f"replaying {sum(len(one.trace) for one in samples):,} queries planned on")
        certified_ns = max(
            certify(row.plan, one.trace, discipline=self.discipline, seed=one.seed).bound_ns
            for one in samples
        )
        in_sample = self._judge(row.plan, samples)
        over_seeds = []
        for seed in self.seeds:
            report(f"replaying {sum(map(len, self.judged_on)):,} queries held out, seed {seed}")
            over_seeds.append(self._judge(row.plan, [Sample(trace, seed) for trace in self.judged_on]))
        return replace(row, certificate_ns=certified_ns, in_sample=in_sample, over_seeds=tuple(over_seeds))

    def _judge(self, plan: Plan, samples: Sequence[Sample]) -> Judgement:
        """Replay samples one after the other: the greatest quantile of any, and the misses of all."""
        queries, misses, quantile_ns, keeps, taken = 0, 0, 0, True, list[RunEnergy]()
        for sample in samples:
            replayed = replay(plan, sample.trace, discipline=self.discipline, seed=sample.seed)
            quantile_ns = max(quantile_ns, replayed.objective_ns(replace(plan.objective, others=())))
            keeps &= replayed.objective_ns(plan.objective) <= plan.slo_ns
            misses += int(np.count_nonzero(replayed.latency_ns > plan.slo_ns))
            queries += replayed.queries
            taken += [] if replayed.energy is None else [replayed.energy]
        energy = RunEnergy.of_all(taken) if taken else None
        return Judgement(samples[0].seed, queries, quantile_ns, misses, keeps, energy)


def _check_energy(pipeline: Pipeline, profiles: Profiles, terms: EnergyTerms) -> None:
    check_power(pipeline, profiles, terms)
    if terms.binds:
        raise InputError.one("energy", "baselines keep no cap on power, and know no price: ask without these")


def check_rules(
    split: float,
    discipline: str | None,
    planners: Sequence[str],
    seed: int,
    seeds: Sequence[int] | None,
    time_limit_s: float | None,
    draws: int = 1,
) -> None:
    """Refuse what `compare` cannot compare by, whatever the pipeline.

    Raises `InputError` listing every fault.
    """
    check_all(
        lambda: check_split(split),
        lambda: None if discipline is None else check_one_of("discipline", discipline, Discipline, repr),
        lambda: _contenders(planners),
        lambda: _seeds(seed, seeds, draws),
        lambda: check_time_limit(time_limit_s),
    )


def _contenders(planners: Sequence[str]) -> tuple[Contender, ...]:
    known = [contender.value for contender in Contender]
    if isinstance(planners, str) or not isinstance(planners, Sequence) or not planners:
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


def _seeds(seed: int, seeds: Sequence[int] | None, draws: int = 1) -> tuple[int, ...]:
    faults, given = Faults(), seeds if isinstance(seeds, Iterable) else ()
    faults.take(lambda: check_seed(seed))
    faults.take(lambda: check_seeds(draws, "draws"))
    if not isinstance(seeds, Iterable | None):
        faults.add(Fault("seeds", f"expected a list of numbers, found {shown(seeds)}"))
    drawn = tuple(faults.take(partial(check_seed, other, "seeds")) for other in given)
    faults.check()
    planned_with = range(seed, seed + draws)
    if seeds is None:
        return tuple(seeds_after(planned_with[-1], _SEEDS))
    numbers = tuple(other.value for other in drawn)
    if not numbers or len(set(numbers)) < len(numbers) or not set(numbers).isdisjoint(planned_with):
        last = f" to {planned_with[-1]}" if draws > 1 else ""
        expected = f"expected different numbers, other than the seed planned with ({seed}{last})"
        raise InputError.one("seeds", f"{expected}, found {shown(seeds)}")
    return numbers
