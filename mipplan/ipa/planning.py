"""From a pipeline that is a chain to the plan of IPA's integer program, posed as a time-cost problem.

With variant and batch size fixed, replicas appear in the throughput constraint and in the cost only, so as few as keep
up are best: what is a product of variables in the program is a constant of a mode. Equation numbers refer to the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from mipplan.baselines import BaselineProblem, filled_ns, pose, rate_checks, rate_to_size_for, size_family
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    Fault,
    InputError,
    check_kinds,
    format_duration,
    is_number,
    shown,
)
from mipplan.options import Configuration, Option, column_problem, find_families
from mipplan.pipeline import FanOut, Pipeline, Stage, choosing, pinned
from mipplan.profiles import Profiles
from mipplan.result import Limit, Plan
from mipplan.solvers import Termination, solve_problem
from mipplan.trace import Trace
from mipplan_formulations import Activity, Arc, Path, Resource, TimeCostProblem

#: Costs of a program are whole numbers: the objective is counted in millionths, but the widest difference between
#: choices of a stage in at least and at most so many steps, however small or large the weights are.
_PER_UNIT, _FEWEST_STEPS, _MOST_STEPS = 10**6, 10**9, 10**12


@dataclass(frozen=True)
class Weights:
    """Weights of the objective (1)."""

    accuracy: float = 1.0
    """α, per unit of accuracy, summed over stages."""
    cost: float = 1.0
    """β, per dollar an hour."""
    batch: float = 1e-6
    """δ, per item of batch size, summed over stages."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A model on one hardware with one batch size, and the fewest replicas that keep up with the rate (3)."""

    model: str
    option: Option
    accuracy: float

    def latency_ns(self, queries_per_ns: Fraction) -> int:
        """Time of a full batch and of waiting for the others of the batch, (b − 1)/λ, rounded up (2)."""
        return filled_ns(self.option.family, queries_per_ns)

    def value(self, weights: Weights) -> float:
        """Its part of the objective (1)."""
        return (
            weights.accuracy * self.accuracy
            - weights.cost * (self.option.microusd_per_hour / MICRODOLLARS_PER_DOLLAR)
            - weights.batch * self.option.family.batch
        )


@dataclass(frozen=True, eq=False)
class Configured:
    """What the program chose."""

    plan: Plan
    """Of the pipeline with the chosen models. Status ``given``: the program says nothing of a tail latency;
    bound and certificate are this project's, for the trace. ``infeasible`` with the reason, or ``unknown``
    if time ran out."""
    models: Mapping[str, str]
    """Chosen model of every stage; empty without a plan."""
    objective: float | None
    """Value of (1), which is maximised."""
    optimal: bool
    """Whether the solver proved that no configuration has a larger one, or that there is none. Values are told apart to
    a billionth of the widest difference between choices of a stage, or better."""


def configure(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    weights: Weights | None = None,
    variants: Mapping[str, Sequence[str]] | None = None,
    mode: str = "mean",
    window_s: float | None = None,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    solver: str = "auto",
    formulation: str = "paths",
    time_limit_s: float | None = 60.0,
) -> Configured:
    """Choose a variant, a batch size and replicas for every stage of a chain by IPA's integer program.

    Parameters
    ----------
    pipeline : Pipeline
        A chain on which every query visits every stage once.
    profiles, trace, slo_s, quantile, seed
        As for `mipplan.plan`. Of the trace, the program knows a rate only.
    weights : Weights, optional
    variants : mapping of str to sequence of str, optional
        Models a stage may use instead of its own (list that, too, if it may stay); by default the variants that the
        pipeline lists. If they differ in accuracy, the pipeline or the column ``accuracy`` of profiles must say it.
        Other stages keep their model.
    mode : {"mean", "peak"}
        The rate λ: the trace's mean, or the most queries in any window divided by its length (IPA predicts a maximum).
    window_s : float, optional
        Length of the windows of ``peak``; the objective by default.
    solver : str
        A name from `mipplan.solvers.available_solvers` or `available_problem_solvers`.
    formulation : str
        As for `mipplan.solvers.solve_problem`.
    time_limit_s : float or None
        Of the solver.

    Returns
    -------
    Configured

    Raises
    ------
    InputError
        Listing every bad argument: no chain, unknown stages or models, accuracies that are missing or outside (0, 1].
    SolverUnavailableError
        If there is no such solver here.

    References
    ----------
    S. Ghafouri et al., "IPA: Inference pipeline adaptation to achieve high accuracy and cost-efficiency", Journal of
    Systems Research 4(1), 2024, doi:10.5070/SR34163500.
    """
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
    weights = Weights() if weights is None else weights
    listed = {name: stage.variants for name, stage in pipeline.stages.items() if len(stage.models) > 1}
    own, stages = pipeline if variants is None else None, pipeline.stages
    variants = listed if variants is None else variants
    _check_lists(variants)
    faults = [*_chain_faults(pipeline, variants), *check_weights(weights)]
    faults += _variant_faults(stages, profiles, variants)
    if faults:
        raise InputError(faults)
    pipeline = pinned(pipeline)
    posed = pose(pipeline, profiles, trace, "ipa", slo_s, quantile, seed, rate_checks(mode, window_s))
    if isinstance(posed, Plan):
        return Configured(posed, {}, None, True)
    rate = rate_to_size_for(posed, mode, window_s)
    sized = {
        name: _size(pipeline, profiles, stage, variants.get(name, (stage.model,)), rate)
        for name, stage in stages.items()
    }
    short = [stage for stage, own in sized.items() if not own]
    if short:
        reason = f"no allowed number of replicas keeps up with the rate at {', '.join(short)}"
        return Configured(posed.without_plan(reason), {}, None, True)
    problem = _pose_program(posed, sized, rate, weights)
    answer = solve_problem(problem, solver, formulation=formulation, time_limit_s=time_limit_s, seed=seed)
    if answer.selection is None:
        proven = answer.termination is Termination.INFEASIBLE
        reason = _reason(problem) if proven else "the solver found nothing in time"
        return Configured(posed.without_plan(reason, 0, None if proven else Limit.TIME), {}, None, proven)
    modes = zip(pipeline.topological_order, answer.selection, strict=True)
    chosen = {stage: sized[stage][mode] for stage, mode in modes}
    return Configured(
        _plan_of(posed, profiles, chosen, own),
        {stage: chosen[stage].model for stage in pipeline.stages},
        sum(variant.value(weights) for variant in chosen.values()),
        answer.termination is Termination.OPTIMAL,
    )


def _chain_faults(pipeline: Pipeline, variants: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    """IPA's program is about chains, every stage of which has the rate of the pipeline."""
    for stage in pipeline.stages:
        for edges, side in ((pipeline.incoming(stage), "into"), (pipeline.outgoing(stage), "out of")):
            if len(edges) > 1:
                message = f"IPA's program needs a chain; {len(edges)} edges lead {side} this stage"
                yield Fault(f"stages.{stage}", message)
    if len(pipeline.edges) < len(pipeline.stages) - 1:
        yield Fault("edges", "IPA's program needs one chain; some stages are not connected")
    for edge in pipeline.edges:
        models = variants.get(edge.parent, (pipeline.stages[edge.parent].model,))
        if any(edge.under(model) != (1.0, FanOut()) for model in models):
            yield Fault(
                f"edges.{edge.parent} → {edge.child}", "IPA's program needs every query to take the edge once"
            )


def check_weights(weights: Weights) -> Iterator[Fault]:
    """Yield what is wrong with weights."""
    if not isinstance(weights, Weights):
        yield Fault("weights", f"expected ipa.Weights, found {weights!r}")
        return
    for name in ("accuracy", "cost", "batch"):
        value = getattr(weights, name)
        if not is_number(value) or not 0 <= value <= 1e6:
            yield Fault(f"weights.{name}", f"expected a number from 0 to 1,000,000, found {value!r}")


def _check_lists(variants: Mapping[str, Sequence[str]]) -> None:
    """Refuse what is no list of models by stage."""
    if not isinstance(variants, Mapping):
        raise InputError.one("variants", f"expected models by stage, found {shown(variants)}")
    InputError.raise_if(
        Fault(f"variants.{stage}", f"expected a list of models, found {shown(models)}")
        for stage, models in variants.items()
        if isinstance(models, str) or not isinstance(models, Sequence)
    )


def _variant_faults(
    stages: Mapping[str, Stage], profiles: Profiles, variants: Mapping[str, Sequence[str]]
) -> Iterator[Fault]:
    for stage, models in variants.items():
        place = f"variants.{stage}"
        if stage not in stages:
            yield Fault(place, f"there is no such stage; there are {', '.join(stages)}")
            continue
        if not models or len(set(models)) < len(models):
            yield Fault(place, "expected at least one model, each once")
        for model in models:
            if model not in profiles.models:
                yield Fault(place, f"there are no profiles of model {model!r}")
            elif (
                len(models) > 1 and _stated(stages[stage], model) is None and _lacks_accuracy(profiles, model)
            ):
                yield Fault(place, f"the profiles of {model!r} lack accuracy, by which variants differ")
    for name, own in stages.items() if any(len(models) > 1 for models in variants.values()) else ():
        place = f"variants.{name}" if name in variants else f"stages.{name}.model"
        for model in variants.get(name, (own.model,)):
            hardware = own.hardware or profiles.hardware_for(model)
            tables = [profiles.table(model, device) for device in hardware if _stated(own, model) is None]
            problems = [column_problem(table) for table in tables if table is not None]
            yield from (Fault(place, problem) for problem in problems if problem)


def _stated(stage: Stage, model: str) -> float | None:
    """Accuracy that the pipeline states of a model, which goes before that of the profiles."""
    return stage.accuracy_of(model) if model in stage.variants else None


def _lacks_accuracy(profiles: Profiles, model: str) -> bool:
    tables = [table for (name, _), table in profiles.tables.items() if name == model]
    return any(table.accuracy is None or np.isnan(table.accuracy).any() for table in tables)


def _size(
    pipeline: Pipeline, profiles: Profiles, stage: Stage, models: Sequence[str], queries_per_ns: Fraction
) -> list[Variant]:
    """Every model, hardware and batch size of a stage, as the request has it, with as few replicas as keep up."""
    sized = []
    for model in models:
        found = find_families(
            _with_models(pipeline, {stage.name: model}), profiles, dict.fromkeys(pipeline.stages, Fraction(0))
        )
        for family in found[stage.name].families:
            table, accuracy = profiles.table(model, family.hardware), _stated(stage, model)
            accuracy = table.accuracy_at(family.batch) if accuracy is None and table is not None else accuracy
            accuracy = accuracy if len(models) > 1 and accuracy is not None else 0.0
            option = size_family(family, queries_per_ns)
            if option is not None:
                sized.append(Variant(model, option, accuracy))
    return sized


def _with_models(pipeline: Pipeline, models: Mapping[str, str]) -> Pipeline:
    document = pipeline.to_document()
    for stage, model in models.items():
        document["stages"][stage]["model"] = model
        document["stages"][stage].pop("variants", None)
    return Pipeline.from_document(document)


def _plan_of(
    posed: BaselineProblem, profiles: Profiles, chosen: Mapping[str, Variant], listing: Pipeline | None
) -> Plan:
    """Write the choice as a plan, certified for the trace; of the pipeline that lists the variants, if one does."""
    models = {stage: variant.model for stage, variant in chosen.items()}
    made = {stage: chosen[stage].option for stage in posed.pipeline.stages}
    if listing is None:
        return posed.running(_with_models(posed.pipeline, models), profiles).given(Configuration(made))
    for stage, (family, replicas) in made.items():
        if listing.stages[stage].variants:
            made[stage] = Option(replace(family, variant=models[stage]), replicas)
    return posed.running(choosing(listing, models), profiles).given(Configuration(made))


def _reason(problem: TimeCostProblem) -> str:
    path = problem.paths[0]
    least = path.lag + sum(int(activity.duration.min()) for activity in problem.activities)
    if least > problem.deadline:
        return (
            f"batches and filling them take at least {format_duration(least)}, more than the objective of "
            f"{format_duration(problem.deadline)}"
        )
    return "the limits on devices leave too few of them"


def _pose_program(
    posed: BaselineProblem, sized: Mapping[str, Sequence[Variant]], queries_per_ns: Fraction, weights: Weights
) -> TimeCostProblem:
    """Write the program for a chain; a mode costs what its value falls short of the stage's best.

    Activities come in the order of the chain, modes are a stage's variants, and `queries_per_ns` is λ.
    """
    order, limits = posed.pipeline.topological_order, posed.limits
    delays_ns = [posed.pipeline.outgoing(stage)[0].delay_ns for stage in order[:-1]]
    values = {name: np.array([variant.value(weights) for variant in sized[name]]) for name in order}
    short = {name: own.max() - own for name, own in values.items()}
    widest = max(float(own.max()) for own in short.values()) or 1.0
    steps = min(max(_PER_UNIT * widest, _FEWEST_STEPS), _MOST_STEPS)
    activities = []
    for name in order:
        variants = sized[name]
        cost = np.rint(short[name] / widest * steps).astype(np.int64)
        latency_ns = np.array([variant.latency_ns(queries_per_ns) for variant in variants], dtype=np.int64)
        options = [variant.option for variant in variants]
        used = [[n if family.hardware == hardware else 0 for hardware in limits] for family, n in options]
        activities.append(Activity(name, cost, latency_ns, np.array(used, dtype=np.int64)))
    nothing = tuple(np.zeros(len(sized[name]), dtype=np.int64) for name in order)
    return TimeCostProblem(
        tuple(activities),
        tuple(Arc(v, v + 1, delay) for v, delay in enumerate(delays_ns)),
        (Path(tuple(range(len(activities))), sum(delays_ns), nothing),),
        posed.deadline_ns,
        tuple(Resource(hardware, limit) for hardware, limit in limits.items()),
    )
