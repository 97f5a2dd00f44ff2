"""The axes along which the least cost is asked for: one register, with how a problem is moved along each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mipplan.core import (
    MAX_DURATION_NS,
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    InputError,
    SearchLimits,
    listed,
    shown,
    suggestion,
)
from mipplan.perturbation import clustered
from mipplan.profiles import MAX_USD_PER_HOUR
from mipplan.questions.problems import Problem, WarmPlanner
from mipplan.questions.staircases import AccuracyWalker, ObjectiveWalker, PriceWalker, TrafficWalker, Walker
from mipplan.result import Guarantee


@dataclass(frozen=True)
class FrontierAxis:
    """One thing that a frontier is asked over."""

    title: str
    unit: str
    ticks: int
    """Values are whole numbers of parts this small: 10⁹ for nanoseconds."""
    present: Callable[[Problem, str], float]
    """Where a problem stands; the text is what follows the colon in the axis's name."""
    span: tuple[float, float]
    """The ends that are walked by default, as shares of where the problem stands."""
    change: Callable[[Problem, str, float], Problem] | None
    """The problem at another value; None: single values are not planned, since all of them are walked."""
    walker: Callable[[Problem, str, SearchLimits, int], Walker] | None = None
    """What walks the axis where cheapest plans are proven; None: single values are planned. The number is the largest
    value."""
    exact: bool = False
    upper: bool = False
    """Whether the plan at the upper end of a step serves all of it, as of traffic; else that at the lower end."""
    most: float = 1e9
    """The largest value that there is."""
    values: tuple[float, ...] = ()
    """Planned where there is no walker; else values between the ends."""
    obstacle: Callable[[Problem, str], str | None] = lambda *_: None
    """Why it cannot be asked of a problem."""
    note: str | None = None
    grows: Callable[[Problem], bool] = lambda _: True
    """Whether a plan that keeps the objective at two values keeps it between, as a walk takes it; else single values
    are planned."""


def _with_slo(problem: Problem, _: str, slo_s: float) -> Problem:
    objective = replace(problem.plan.objective, slo_ns=round(slo_s * NS_PER_S), others=())
    return problem.changed(objective=objective)


def _one_limit(problem: Problem, _: str) -> str | None:
    if problem.plan.objective.others:
        return "the objective limits several quantiles: ask with one, such as --slo 300ms"
    return _no_budget(problem, "")


def _no_budget(problem: Problem, _: str) -> str | None:
    has_budget = problem.plan.budget_microusd_per_hour is not None
    return "the plan is the fastest within a budget: there is no cost to look for" if has_budget else None


def _price(problem: Problem, hardware: str) -> float:
    return problem.profiles.hardware[hardware].usd_per_hour


def _with_price(problem: Problem, hardware: str, usd_per_hour: float) -> Problem:
    device = replace(problem.profiles.hardware[hardware], usd_per_hour=usd_per_hour)
    return problem.changed(profiles=problem.profiles.with_hardware(device))


def _known_hardware(problem: Problem, hardware: str) -> str | None:
    known = list(problem.profiles.hardware)
    if hardware in known:
        return _no_budget(problem, "")
    hint = suggestion(hardware, known) or f"; there are {listed(known)}"
    return f"write price:HARDWARE: there is no hardware {shown(hardware)}{hint}"


def faster(problem: Problem, factor: float) -> Problem:
    """Return the problem with its traffic multiplied, and with it the rates of an arrival curve.

    Raises `InputError` if that leaves no time between the queries of a trace, or too much.
    """
    objective, traces = problem.plan.objective, [trace.scale(factor) for trace in problem.traces]
    if not all(trace.span_ns for trace in traces):
        message = (
            f"at {factor:g} times the rate all queries arrive at once: a trace without length has no rate"
        )
        raise InputError.one("rate", message)
    if objective.envelope is not None:
        curve = tuple((burst, rate * factor) for burst, rate in objective.envelope)
        return replace(problem.changed(objective=replace(objective, envelope=curve)), traces=traces)
    return replace(problem, traces=traces)


def burstier(problem: Problem, factor: float) -> Problem:
    """Return the problem with burstier traffic: the coefficient of variation of the gaps multiplied (`clustered`)."""
    if factor == 1.0:
        return problem
    return replace(problem, traces=[clustered(one, factor, problem.plan.seed) for one in problem.traces])


def _has_rate(problem: Problem, _: str) -> str | None:
    if not all(trace.span_ns for trace in problem.traces):
        return "all queries arrive at once: the trace has no rate"
    return _no_budget(problem, "")


def _bursts(problem: Problem, _: str) -> str | None:
    if problem.plan.envelope is not None:
        return "the plan holds for all traffic inside an arrival curve, however bursty"
    return _has_rate(problem, "")


def _is_over_all(problem: Problem) -> bool:
    """Whether the objective has no windows: queries move between those as the traffic changes, so that some rate may be
    harder than a higher one.
    """
    return problem.plan.objective.per_ns is None


def _is_reliable(problem: Problem, _: str) -> str | None:
    if problem.plan.guarantee is Guarantee.RELIABLE:
        return None
    return "goes with the guarantee reliable only: plan with --guarantee reliable"


def _own_accuracy(problem: Problem) -> float:
    """That of the plan, or what was asked for where there is none, in whole ticks."""
    own = problem.plan.accuracy or problem.plan.min_accuracy or 0.0
    return max(1, int(round(own * _ACCURACY_TICKS, 3))) / _ACCURACY_TICKS


def _trades_accuracy(problem: Problem, _: str) -> str | None:
    if not any(stage.variants for stage in problem.pipeline.stages.values()):
        return "no stage has variants to choose from: there is one accuracy"
    if not problem.has_exact_plans:
        return "accuracy is traded for cost by plans with a classic certificate"
    return None


def _changed(
    change: Callable[[Problem, float], Problem], ticks: int
) -> tuple[Callable[[Problem, str, float], Problem], Callable[..., Walker]]:
    """How traffic is changed along an axis, and what walks along it."""

    def walker(problem: Problem, _: str, limits: SearchLimits, __: int) -> Walker:
        return TrafficWalker(lambda tick: change(problem, tick / ticks), limits)

    return lambda problem, _, factor: change(problem, factor), walker


_RATE_TICKS, _CV_TICKS, _ACCURACY_TICKS = 100, 20, 1_000_000
_MONOTONE = "between two values the cost is taken to grow with {}; every value named was planned or certified"

#: What a frontier can be asked over; ``price`` is followed by a colon and the name of a hardware type.
AXES_OF_COST: Mapping[str, FrontierAxis] = MappingProxyType(
    {
        "slo": FrontierAxis(
            "the latency objective",
            "s",
            NS_PER_S,
            lambda problem, _: problem.plan.slo_s,
            (2 / 3, 2.0),
            _with_slo,
            lambda problem, _, limits, high: ObjectiveWalker(problem, limits, high),
            exact=True,
            most=MAX_DURATION_NS / NS_PER_S,
            obstacle=_one_limit,
        ),
        "rate": FrontierAxis(
            "the arrival rate",
            "x",
            _RATE_TICKS,
            lambda *_: 1.0,
            (0.5, 2.0),
            *_changed(faster, _RATE_TICKS),
            upper=True,
            obstacle=_has_rate,
            grows=_is_over_all,
        ),
        "burstiness": FrontierAxis(
            "the burstiness of the traffic",
            "x",
            _CV_TICKS,
            lambda *_: 1.0,
            (1.0, 3.0),
            *_changed(burstier, _CV_TICKS),
            upper=True,
            obstacle=_bursts,
            note=_MONOTONE.format("burstiness"),
            grows=_is_over_all,
        ),
        "price": FrontierAxis(
            "the price of {}",
            "$/h",
            MICRODOLLARS_PER_DOLLAR,
            _price,
            (0.25, 2.0),
            _with_price,
            lambda problem, hardware, limits, _: PriceWalker(
                WarmPlanner(problem, limits), problem.profiles, hardware
            ),
            exact=True,
            most=MAX_USD_PER_HOUR,
            obstacle=_known_hardware,
        ),
        "accuracy": FrontierAxis(
            "the least accuracy",
            "share",
            _ACCURACY_TICKS,
            lambda problem, _: _own_accuracy(problem),
            (0.0, float("inf")),
            None,
            lambda problem, _, limits, __: AccuracyWalker(problem, limits, _ACCURACY_TICKS),
            exact=True,
            upper=True,
            most=1.0,
            obstacle=_trades_accuracy,
        ),
        "reliability": FrontierAxis(
            "the share of scenarios kept",
            "share",
            1_000,
            lambda problem, _: problem.asked_confidence,
            (0.0, 1.0),
            lambda problem, _, share: replace(problem, confidence=share),
            most=0.999,
            values=(0.5, 0.8, 0.9, 0.95, 0.99),
            obstacle=_is_reliable,
        ),
    }
)


def axis_of(over: str) -> tuple[FrontierAxis, str]:
    """Return the axis of a name, and what follows its colon; raises `InputError` if there is none."""
    name, colon, what = str(over).partition(":")
    known = [*(key for key in AXES_OF_COST if key != "price"), "price:HARDWARE"]
    if name not in AXES_OF_COST or bool(colon) != (name == "price"):
        hint = suggestion(over, known) or f"; there are {listed(known)}"
        raise InputError.one("over", f"there is no axis {shown(over)}{hint}")
    return AXES_OF_COST[name], what
