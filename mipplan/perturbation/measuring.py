"""Measure what a plan bears: replay it along every axis, and look for the least perturbation under which it misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from mipplan.core import Report, check_all, first_true
from mipplan.perturbation.perturbations import AXES, Amount, Axis, Case
from mipplan.perturbation.result import AxisFragility, Fragility, FragilityBreak, FragilityPoint
from mipplan.replayer import check_manner, check_plan, replay, replay_many
from mipplan.result import Objective, Plan, ReplayResult
from mipplan.tokens import find_samples, read_traces
from mipplan.trace import Trace

_UNPERTURBED = Amount(1.0, "as planned", 0.0)


def fragility(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    *,
    discipline: str | None = None,
    engine: str = "auto",
    seed: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Fragility:
    """Replay a plan under more traffic, burstier traffic, slower service, more tokens, lost replicas and other seeds.

    All replays go by the plan's own dispatch laws, and use the same draws but on the axis of other seeds. Along a
    continuous axis (rate, burstiness, service times, tokens per query) the gap between the last grid point that keeps
    the objective and the first that misses is halved until the least factor that misses is known to 0.1 % (of the CV,
    0.01). Replays are not monotone: a larger batch may make a query faster, so an even smaller factor may miss as well.
    It takes at most 56 replays and one for each stage; of several traces and seeds as many for each, and every figure
    is that of the sample where it is worst.

    Parameters
    ----------
    plan : Plan
        Any with choices: planned, from a file, or of `Plan.from_choices`.
    trace : Trace, or sequence of Trace
    discipline : {"oldest_first", "fifo"}, optional
        As the plan says by default.
    engine : str
        As for `mipplan.replay`.
    seed : int, optional
        Of the token draws and of burstier gaps; the plan's own by default, which may be several.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Fragility
        After Ctrl-C: what was replayed until then. If the plan misses its objective as it is, no break is looked for.

    Raises
    ------
    InputError
        With every argument that cannot be used.
    NoPlanError
        If the plan holds no choices.
    """
    check_all(
        lambda: check_plan(plan), lambda: read_traces(trace), lambda: check_manner(discipline, engine, seed)
    )
    drawn = (plan.seed, plan.seeds) if seed is None else (seed, 1)
    samples = find_samples(plan.require().pipeline, trace, *drawn)
    cases = tuple(Case(plan, sample.trace, sample.seed, sample.name) for sample in samples)
    complete, tell = set[str](), progress or (lambda _: None)
    judge = _Judge(
        cases, discipline, engine, lambda line: tell(f"{line} ({len(complete) / len(AXES):.0%} of all)")
    )
    judge.report("as planned")
    case, result, unperturbed = judge.worst(_UNPERTURBED, cases)
    found: dict[str, AxisFragility] = {}
    with suppress(KeyboardInterrupt):  # what was replayed until then is the answer
        for axis in AXES.values():
            points: list[FragilityPoint] = []
            # Where one sample has nothing to change, as with all queries at once, there is no common amount.
            obstacle = next(filter(None, map(axis.obstacle, cases)), None)
            found[axis.name] = AxisFragility(axis.name, axis.title, (), None, obstacle)
            # Other seeds are those after the last.
            for amount in axis.amounts(cases[-1]) if obstacle is None else ():
                points.append(judge.judged(axis, amount))
                first = _first_missed(axis, points) if unperturbed.keeps else None
                found[axis.name] = AxisFragility(axis.name, axis.title, tuple(points), first)
            if unperturbed.keeps and axis.steps is not None and found[axis.name].missed:
                exact = judge.bisected(axis, axis.steps, points)
                found[axis.name] = AxisFragility(axis.name, axis.title, tuple(points), exact)
            complete.add(axis.name)
    axes = tuple(found.get(name) or AxisFragility(name, axis.title, ()) for name, axis in AXES.items())
    left_out = tuple(name for name in AXES if name not in complete)
    manner = (result.discipline, result.engine, case.seed, judge.objective.quantile)
    names = tuple(case.name for case in cases) if len(cases) > 1 else ()
    return Fragility(plan, case.trace, *manner, unperturbed, axes, judge.replays, left_out, names)


def of_a_run(objective: Objective) -> Objective:
    """Return what a run is held to: every query counts where every query is guaranteed, inside an arrival curve."""
    return (
        objective if objective.envelope is None else replace(objective, quantile=1.0, per_ns=None, share=1.0)
    )


def _first_missed(axis: Axis, points: list[FragilityPoint]) -> FragilityBreak | None:
    first = next((point for point in points if not point.keeps), None)
    return None if first is None else FragilityBreak(axis.name, first.value, first.label, first.size)


@dataclass
class _Judge:
    """Replays cases and says what came of them."""

    cases: tuple[Case, ...]
    discipline: str | None
    engine: str
    report: Report
    replays: int = field(default=0, init=False)

    @property
    def objective(self) -> Objective:
        """Every query counts where the plan guarantees every query."""
        return of_a_run(self.cases[0].plan.objective)

    def replayed(self, case: Case) -> ReplayResult:
        self.replays += 1
        return replay(case.plan, case.trace, discipline=self.discipline, engine=self.engine, seed=case.seed)

    def keeps(self, case: Case) -> bool:
        """Whether the objective is kept, without replaying more than that takes."""
        if self.objective.others or case.plan.collects:  # of these a verdict knows nothing
            return self.replayed(case).objective_ns(self.objective) <= self.objective.slo_ns
        self.replays += 1
        verdicts = replay_many(
            [case.plan],
            case.trace,
            discipline=self.discipline,
            engine=self.engine,
            seed=case.seed,
            slo_s=self.cases[0].plan.slo_s,
            quantile=None if self.objective.envelope is None else 1.0,
        )
        return verdicts[0].keeps

    def judged(self, axis: Axis, amount: Amount) -> FragilityPoint:
        self.report(f"{axis.title}: {amount.label}")
        perturbed = self.perturbed(axis, amount)
        if not perturbed:
            return FragilityPoint(amount.value, amount.label, amount.size, keeps=False)
        return self.worst(amount, perturbed)[2]

    def perturbed(self, axis: Axis, amount: Amount) -> list[Case]:
        """All samples after a perturbation, those that come to the same once; none if a stage has no replica left."""
        made = [axis.perturb(case, amount) for case in self.cases]
        distinct = {(id(case.trace), case.seed): case for case in made if case is not None}
        return list(distinct.values()) if axis.name == "seed" else [case for case in made if case is not None]

    def worst(self, amount: Amount, cases: Sequence[Case]) -> tuple[Case, ReplayResult, FragilityPoint]:
        """Replay samples one after the other, and keep the one whose latency quantile is greatest."""
        found: tuple[int, Case, ReplayResult] | None = None
        for case in cases:
            result = self.replayed(case)
            figure_ns = result.objective_ns(self.objective)
            if found is None or figure_ns > found[0]:
                found = figure_ns, case, result
        if found is None:
            raise AssertionError("there is at least one sample")
        _, case, result = found
        return case, result, self.point(amount, case, result)

    def point(self, amount: Amount, case: Case, result: ReplayResult) -> FragilityPoint:
        slo_ns = case.plan.slo_ns
        busiest = max(result.stages, key=result.utilisation)
        return FragilityPoint(
            amount.value,
            amount.label,
            amount.size,
            keeps=result.objective_ns(self.objective) <= slo_ns,
            quantile_ns=result.objective_ns(replace(self.objective, others=())),
            miss_rate=int((result.latency_ns > slo_ns).sum()) / result.queries,
            busiest=busiest,
            utilisation=result.utilisation(busiest),
            cv=case.trace.cv if case.trace.span_ns else None,
            sample=case.name or None,
        )

    def bisected(self, axis: Axis, steps: int, points: list[FragilityPoint]) -> FragilityBreak:
        """Find the least factor that misses, above the grid point before the first that does."""
        number = next(number for number, point in enumerate(points) if not point.keeps)
        below, first = [steps, *(round(float(point.value) * steps) for point in points)][number : number + 2]

        def misses(step: int) -> bool:
            amount = axis.at(step)
            self.report(f"{axis.title}: {amount.label}, looking for the first that misses")
            perturbed = self.perturbed(axis, amount)
            return not perturbed or not all(map(self.keeps, perturbed))

        least = axis.at(first_true(below + 1, first, misses))
        return FragilityBreak(axis.name, least.value, least.label, least.size, 1.0 / steps)
