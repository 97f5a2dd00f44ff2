"""Frontiers: the axes along which the least cost is asked for, one entry of a register each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mipplan.core import (
    Deadline,
    Fault,
    Faults,
    InputError,
    SearchLimits,
    array_of,
    check_all,
    check_jobs,
    counted,
    effective_jobs,
    is_finite,
    is_whole,
    run_apart,
    shown,
)
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.questions.axes import FrontierAxis, axis_of
from mipplan.questions.costs import Frontier, FrontierStep
from mipplan.questions.problems import Problem, check_no_budget, first_plan
from mipplan.questions.staircases import PointWalker, StepRange, Walk, merged
from mipplan.tokens import read_traces
from mipplan.trace import Trace

#: Where an axis can only be planned value by value, so many values are, because each takes a search of its own.
_POINTS = 7
#: Very tight objectives have hundreds of steps; beyond so many nobody reads on.
MOST_STEPS = 400


def frontier(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    over: str = "slo",
    start: float | None = None,
    end: float | None = None,
    points: Sequence[float] | None = None,
    most_steps: int = MOST_STEPS,
    time_limit_s: float | None = 60.0,
    n_jobs: int = 1,
    progress: Callable[[str], None] | None = None,
    **planning: Any,
) -> Frontier:
    """Find what the objective costs along an axis: every step of the least cost, and the plan on each.

    Parameters
    ----------
    pipeline : Pipeline
    profiles : Profiles
    trace : Trace, or sequence of Trace
        As for `mipplan.plan`: plans keep the objective on each of several by itself.
    over : {"slo", "rate", "burstiness", "price:HARDWARE", "accuracy", "reliability"}
        The latency objective; a factor on the arrival rate, in steps of 0.01, or on the coefficient of variation of
        its gaps, in steps of 0.05 (burstier only); the price of a hardware type; the least accuracy (of a pipeline with
        variants); the share of scenarios kept (with ``guarantee="reliable"``).
    start, end : float, optional
        Ends of the axis, in seconds, factors, $/h or shares; around the present value by default.
    points : sequence of float, optional
        Plan at these values alone. Where cheapest plans are not proven by what services certify (guarantees ``replay``
        and ``reliable``, sharp certificates, timed dispatch), variants make other tokens, or the traffic changes under
        an objective by windows (`per_s`), single values are planned in any case: these, or seven.
    most_steps : int
        The walk of an axis, or of each part of it (`n_jobs`), ends after this many steps.
    time_limit_s : float or None
        For the whole; what was found by then is returned (`Frontier.complete`).
    n_jobs : int
        Parts of the axis that are walked at once, through joblib; its backends (Ray) apply.
    progress : callable, optional
        Called with one line of text as the work proceeds; only with one job.
    **planning
        As for `mipplan.plan`: ``slo_s``, ``quantile``, ``guarantee``, ``dispatch`` and others.

    Returns
    -------
    Frontier

    Raises
    ------
    InputError
        Listing every bad argument.

    References
    ----------
    `mipplan.questions.staircases` says why the steps are exact.
    """
    check_all(
        lambda: axis_of(over),
        lambda: Deadline.after(time_limit_s),
        lambda: check_no_budget(planning),
        lambda: _check_walk(over, (start, end), points, most_steps, n_jobs),
    )
    limits = SearchLimits(Deadline.after(time_limit_s), progress or (lambda _: None))
    made = first_plan(pipeline, profiles, trace, limits, planning)
    problem = Problem(made, read_traces(trace), planning.get("confidence"), planning.get("drift"))
    return frontier_of(problem, over, (start, end), points, most_steps, n_jobs, limits)


def frontier_of(
    problem: Problem,
    over: str,
    ends: tuple[float | None, float | None],
    points: Sequence[float] | None,
    most_steps: int,
    n_jobs: int,
    limits: SearchLimits,
) -> Frontier:
    """Find the frontier of a problem whose plan is at hand; see `frontier`."""
    axis, what = axis_of(over)
    faults = Faults()
    if (obstacle := axis.obstacle(problem, what)) is not None:
        raise InputError.one("over", obstacle)
    present = axis.present(problem, what)
    low, high = (
        faults.take(partial(_end, axis, name, end, share * present))
        for name, end, share in (("start", ends[0], axis.span[0]), ("end", ends[1], axis.span[1]))
    )
    if low and high and low.value > high.value:
        faults.add(Fault("start", "lies above the end"))
    faults.take(lambda: _check_walk(over, ends, points, most_steps, n_jobs))
    if points is not None and axis.change is None:
        faults.add(Fault("points", f"every step along {axis.title} is found: name where it starts and ends"))
    faults.check()
    walks_steps = axis.walker is not None and problem.has_exact_plans and points is None
    walks_steps &= axis.grows(problem) and (axis.change is None or not problem.is_several)
    values: tuple[int, ...] = ()
    if not walks_steps:
        given = points if points is not None else axis.values or _spread(low.value, high.value, axis.ticks)
        values = tuple(sorted({_tick(axis, "points", value) for value in given}))
        bounds = (values[0], values[-1])
    else:
        bounds = (low.value, high.value)
    task = _Task(problem, over, values, most_steps)
    single = [(value, value) for value in values] if n_jobs != 1 else [bounds]
    parts = single if values else _parts(*bounds, effective_jobs(n_jobs))
    walks = _walked(task, parts, n_jobs, limits)
    steps = [step for walk in walks for step in walk.steps]
    if not values:
        steps = merged(
            steps,
            lambda one, other: _figures(one, axis, what) == _figures(other, axis, what),
            upper=axis.upper,
        )
    return Frontier(
        over,
        axis.title.format(what),
        axis.unit,
        problem.plan,
        present,
        tuple(_made(step, axis, what) for step in steps),
        exact=axis.exact and not values,
        resolution=1.0 / axis.ticks,
        solves=sum(walk.solves for walk in walks),
        complete=all(walk.complete for walk in walks) and all(step.plan or step.proven for step in steps),
        notes=_notes(axis, values, steps),
    )


@dataclass(frozen=True)
class _Task:
    """What a worker walks a part of."""

    problem: Problem
    over: str
    values: tuple[int, ...]
    most_steps: int

    def walk(self, low: int, high: int, limits: SearchLimits) -> Walk:
        """Walk from one whole value to another."""
        axis, what = axis_of(self.over)
        change, walker = axis.change, axis.walker
        if change is not None and (self.values or walker is None):
            points = PointWalker(lambda tick: change(self.problem, what, tick / axis.ticks), self.values)
            return points.walk(low, high, self.most_steps, limits)
        assert walker is not None, "an axis is walked, or its values are planned"
        return walker(self.problem, what, limits, high).walk(low, high, self.most_steps, limits)


def _walk_apart(task: _Task, low: int, high: int, left_s: float, end: float, rounds: int) -> Walk:
    """Walk in another process, whose clock is its own; the days' clock (`end`) says what of the time waiting took.

    Where there are more parts than workers, `rounds` of them, this one included, have to do with the time left.
    """
    own_s = max(0.0, min(left_s, end - time.time()))
    return task.walk(low, high, SearchLimits(Deadline(time.monotonic() + own_s / rounds)))


def _walked(task: _Task, parts: list[tuple[int, int]], n_jobs: int, limits: SearchLimits) -> list[Walk]:
    """Walk all parts, one after the other or at once."""
    jobs = effective_jobs(n_jobs)
    if len(parts) == 1 or jobs == 1:
        walks: list[Walk] = []
        for low, high in parts:
            walks.append(task.walk(low, high, limits))
            if walks[-1].interrupted:  # what was walked until then is the answer
                break
        return walks
    left_s = limits.deadline.left_s()
    tasks = [
        partial(_walk_apart, task, *part, left_s, time.time() + left_s, -(-(len(parts) - number) // jobs))
        for number, part in enumerate(parts)
    ]
    return [walk or Walk(complete=False, interrupted=True) for walk in run_apart(tasks, n_jobs)]


def _parts(low: int, high: int, count: int) -> list[tuple[int, int]]:
    """Cut a range of whole numbers into parts that follow each other."""
    size = high - low + 1
    count = max(1, min(count, size))
    edges = [low + size * part // count for part in range(count + 1)]
    return [(first, after - 1) for first, after in itertools.pairwise(edges)]


def _check_walk(
    over: str,
    ends: tuple[float | None, float | None],
    points: Sequence[float] | None,
    most_steps: object,
    n_jobs: object,
) -> None:
    """Refuse what no problem can be walked by; raises `InputError` listing every fault."""
    faults = Faults()
    axis = faults.take(lambda: axis_of(over))
    faults.take(lambda: check_jobs(n_jobs))
    if not is_whole(most_steps) or most_steps < 1:
        faults.add(Fault("most_steps", f"expected a whole number above 0, found {shown(most_steps)}"))
    values = [(name, end) for name, end in zip(("start", "end"), ends, strict=True) if end is not None]
    if points is not None and (array_of(points).ndim != 1 or not len(array_of(points))):
        faults.add(Fault("points", "expected a list of at least one value"))
    elif points is not None:
        values += [("points", value) for value in points]
    for name, value in values if axis else ():
        faults.take(partial(_tick, axis.value[0], name, value))
    faults.check()


def _end(axis: FrontierAxis, name: str, given: float | None, otherwise: float) -> int:
    return _nearest(axis, otherwise) if given is None else _tick(axis, name, given)


def _least_tick(axis: FrontierAxis) -> int:
    """Traffic can be made burstier only; all else begins at the smallest part that is told apart."""
    return axis.ticks if axis.title.startswith("the burst") else 1


def _nearest(axis: FrontierAxis, value: float) -> int:
    """Return the tick nearest to a value that nobody named, of those that there are."""
    return max(_least_tick(axis), round(min(value, axis.most) * axis.ticks))


def _tick(axis: FrontierAxis, name: str, value: object) -> int:
    """Return a value that was named in ticks; raises `InputError` if it is none of the axis."""
    # No share at all is where an axis of shares begins, but no value of it that a plan could be asked for.
    least = 0 if axis.unit == "share" and name != "points" else _least_tick(axis)
    if least > 1 and is_finite(value) and value < 1:
        raise InputError.one(
            name, f"traffic can be made burstier only: expected 1 or more, found {shown(value)}"
        )
    if not is_finite(value) or not 0 <= value <= axis.most or round(float(value) * axis.ticks) < least:
        what = {"s": "seconds", "$/h": "dollars per hour", "x": "a factor", "share": "a share"}[axis.unit]
        lowest = f"{least / axis.ticks:.9f}".rstrip("0").rstrip(".")
        message = f"expected {what} from {lowest} to {axis.most:,.12g}, found {shown(value)}"
        raise InputError.one(name, message)
    return _nearest(axis, float(value))


def _spread(low: int, high: int, ticks: int) -> list[float]:
    return [(low + (high - low) * place / (_POINTS - 1)) / ticks for place in range(_POINTS)]


def _line(step: StepRange, what: str) -> tuple[int, int] | None:
    """Cost of a step as devices and others: n and a of a + n·p; of no hardware, none and all."""
    if step.plan is None or step.plan.microusd_per_hour is None:
        return None
    device = step.plan.profiles.hardware.get(what)
    devices = sum(choice.replicas for choice in step.plan.choices.values() if choice.hardware == what)
    price = 0 if device is None else device.microusd_per_hour
    return devices, step.plan.microusd_per_hour - devices * price


def _figures(step: StepRange, axis: FrontierAxis, what: str) -> tuple[int, int] | None:
    return _line(step, what if axis.unit == "$/h" else "")


def _made(step: StepRange, axis: FrontierAxis, what: str) -> FrontierStep:
    line = _figures(step, axis, what)
    start, end = (None if line is None else line[1] + line[0] * tick for tick in (step.low, step.high))
    return FrontierStep(step.low / axis.ticks, step.high / axis.ticks, step.plan, start, end, step.proven)


def _notes(axis: FrontierAxis, values: tuple[int, ...], steps: list[StepRange]) -> tuple[str, ...]:
    first = "planned at these values alone: nothing is said of what lies between" if values else axis.note
    open_ones = sum(not step.proven for step in steps)
    last = f"of {counted(open_ones, 'step')} it is not proven that no plan is cheaper" if open_ones else None
    return tuple(note for note in (first, last) if note is not None)
