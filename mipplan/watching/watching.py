"""`mipplan.watch`: whether a plan still fits, in traffic, service times and price, and what would be planned now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.calculus import ArrivalCurve, empirical_envelope
from mipplan.core import (
    NS_PER_S,
    Deadline,
    Fault,
    Faults,
    InputError,
    SearchLimits,
    check_kinds,
    check_one_of,
    format_duration,
    is_finite,
    shown,
    usd_text,
)
from mipplan.documents import AnyPath
from mipplan.following import READERS, check_metrics_urls, check_names
from mipplan.logs import RunLog
from mipplan.profiles import Profiles
from mipplan.questions import Problem
from mipplan.replayer import NEVER, check_plan, replay
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.watching.evidence import Evidence, StageEvidence, look_at_metrics, read_evidence
from mipplan.watching.result import Misfit, MisfitKind, Watch


@dataclass(frozen=True)
class WatchParams:
    """From when on a deviation is a misfit.

    Attributes
    ----------
    more : float
        So much more than in any window of the sample, as a share, may come, and as much besides as other traffic of the
        same kind varies by: the square root of that number times the sample's CV (1 at least), and times
        ``√(1 + 2·ln d)`` if it is watched d > 1 times as long, since more windows have a greater maximum. Of gamma
        arrivals with CV 1 to 4 that is exceeded in up to three of forty draws. An arrival curve that a plan is
        certified for may not be left.
    late : float
        Share of batches that may take longer than the table says.
    cheaper : float
        So much cheaper, as a share, a new plan must be.
    """

    more: float = 0.1
    late: float = 0.01
    cheaper: float = 0.1

    def __post_init__(self) -> None:
        InputError.raise_if(
            Fault(f"params.{name}", f"expected a share from 0 to 1, found {shown(value)}")
            for name, value in vars(self).items()
            if not is_finite(value) or not 0 <= value <= 1
        )


def watch(
    plan: Plan,
    *logs: AnyPath | RunLog,
    metrics: Sequence[str] = (),
    system: str = "mipplan",
    names: Mapping[str, str] | None = None,
    duration_s: float = 60.0,
    last_s: float | None = None,
    sample: Trace | None = None,
    replan: bool = True,
    time_limit_s: float = 20.0,
    stop: threading.Event | None = None,
    progress: Callable[[str], None] | None = None,
    params: WatchParams = WatchParams(),
) -> Watch:
    """Say whether a plan still fits what runs, and offer a new one.

    A plan no longer fits if more queries came within some time than its arrival curve allows (of the plan itself, or of
    its sample); if batches take longer than ℓ(k) more often than may be; if a replay of what came misses the objective;
    or if a plan for what came, with service times as they are by now, is cheaper.

    Parameters
    ----------
    plan : Plan
        With choices.
    *logs : path or RunLog
        Logs of one run, as for `mipplan.observe`; or none, and
    metrics : sequence of str
        URLs of metrics in Prometheus' text format, which are looked at for `duration_s`.
    system : str
        Whose metrics: ``mipplan``, ``triton`` or ``ray``.
    names : mapping of str to str, optional
        What stages are called there.
    duration_s : float
    last_s : float, optional
        Of logs only the queries that came so long before the last one; by default all.
    sample : Trace, optional
        What was planned for; by default the plan's own, if it holds it. Without one, and without an arrival curve in
        the plan, nothing is said of the envelope.
    replan : bool
        Whether a new plan is made.
    time_limit_s : float
        For that.
    stop : threading.Event, optional
        Ends looking at metrics early.
    progress : callable, optional
        Told what is done.
    params : WatchParams

    Raises
    ------
    InputError
        With every fault of the arguments; or of the logs or metrics.
    NoPlanError
        If the plan holds no choices.
    """
    say = progress or (lambda _line: None)
    faults = Faults()
    faults.take(lambda: check_plan(plan))
    if sample is not None:
        faults.take(lambda: check_kinds(sample=(sample, Trace)))
    if not isinstance(params, WatchParams):
        faults.add(Fault("params", f"expected WatchParams, found {shown(params)}"))
    faults.take(
        lambda: check_watch(
            logs,
            metrics,
            system=system,
            names=names,
            duration_s=duration_s,
            last_s=last_s,
            time_limit_s=time_limit_s,
            plan=plan,
        )
    )
    faults.check()
    plan.require()
    if logs:
        say("reading logs")
        seen = read_evidence(plan, logs, last_s)
    else:
        say(f"looking at metrics for {duration_s:g} s")
        seen = look_at_metrics(plan, metrics, duration_s=duration_s, system=system, names=names, stop=stop)
    trace = Trace.from_ns(seen.arrival_ns, name="seen")
    notes = list(seen.notes)
    misfits = _envelope(plan, seen, sample, params, notes) + _profiles(seen, params)
    say("replaying what came")
    misfits += _objective(plan, seen, trace, params)
    made = None
    if replan and trace.span_ns and plan.energy is not None and plan.energy.binds:
        notes.append("no new plan is made under a cap on power or with a price of energy")
    elif replan and trace.span_ns:
        say("planning for what came")
        limits = SearchLimits(Deadline.after(time_limit_s), say)
        made = _replan(plan, _drifted(plan, seen, params), trace, limits)
        misfits += _price(plan, made, params)
    return Watch(
        plan, int(seen.arrival_ns.size), trace.span_ns / NS_PER_S, tuple(misfits), made, tuple(notes)
    )


def check_watch(
    logs: Sequence[AnyPath | RunLog],
    metrics: Sequence[str],
    *,
    system: str,
    names: Mapping[str, str] | None,
    duration_s: float,
    last_s: float | None,
    time_limit_s: float,
    plan: Plan | None,
) -> None:
    """Find out what is wrong with arguments of `watch` before anything is looked at; without a plan, of the others.

    Raises `InputError` with every fault.
    """
    faults = Faults()
    if bool(logs) == bool(metrics):
        faults.add(Fault("logs", "give logs, or metrics to look at"))
    faults.take(lambda: check_one_of("system", system, READERS))
    faults.take(lambda: check_names(names, plan.pipeline.stages if isinstance(plan, Plan) else None))
    if last_s is not None and metrics:
        faults.add(Fault("last_s", "goes with logs: metrics are looked at for duration_s"))
    seconds = {"duration_s": duration_s, "time_limit_s": time_limit_s}
    for name, value in (seconds if last_s is None else seconds | {"last_s": last_s}).items():
        if not is_finite(value) or not value > 0:
            faults.add(Fault(name, f"expected a positive number of seconds, found {shown(value)}"))
    faults.take(lambda: check_metrics_urls(metrics))
    faults.check()


def _curve(known: Trace) -> ArrivalCurve:
    """What came in windows of a trace."""
    buckets = empirical_envelope(known.arrival_ns).buckets
    # Beyond its own length a trace knows its rate alone: what it has no more of is no limit of traffic.
    return ArrivalCurve(tuple(bucket for bucket in buckets if bucket[1] >= known.rate_rps) or buckets[:1])


def _spread(known: Trace, seen: Evidence) -> float:
    """By how many square roots of what came in a window of the sample traffic of the same kind varies."""
    ends = seen.arrival_ns if seen.edges_ns is None else seen.edges_ns
    longer = max(1.0, int(ends[-1] - ends[0]) / known.span_ns)
    return float(max(1.0, known.cv) * (1.0 + 2.0 * np.log(longer)) ** 0.5)


def _envelope(
    plan: Plan, seen: Evidence, sample: Trace | None, params: WatchParams, notes: list[str]
) -> list[Misfit]:
    # Of several traces none by itself says what may come.
    own = None if plan.provenance.others else plan.provenance.sample
    known = own if sample is None else sample
    promised = plan.envelope is not None
    if plan.envelope is not None:
        curve, more, spread = ArrivalCurve(plan.envelope), 0.0, 0.0
    elif known is not None and known.span_ns:
        planned_for = known.scale(plan.headroom) if plan.headroom != 1.0 else known
        curve, more, spread = _curve(planned_for), params.more, _spread(known, seen)
    else:
        notes.append("the plan's traffic is not known: give its sample to see whether it has been left")
        return []
    worst, beyond, length_s, begin_s, count = 0.0, 0.0, 0.0, 0.0, 0
    for burst, rate in curve.buckets:
        number, since_ns, until_ns = _fullest(seen, rate)
        length = (until_ns - since_ns) / NS_PER_S
        planned = burst + rate * length
        allowed = (1 + more) * planned + spread * planned**0.5
        if number / allowed > beyond:
            beyond, worst = number / allowed, number / planned
            length_s, begin_s, count = length, since_ns / NS_PER_S, number
    if beyond <= 1.0 + 1e-9:
        return []
    window = format_duration(round(length_s * NS_PER_S))
    text = (
        f"{count:,} queries came within {window} from {begin_s:.4g} s on, {count / worst:.4g} were planned for "
        f"({'the arrival curve' if promised else 'the sample'})"
    )
    return [Misfit(MisfitKind.ENVELOPE, "", text, worst)]


def _fullest(seen: Evidence, rate: float) -> tuple[int, int, int]:
    """Window in which most came beyond a rate: how many, and when it begins and ends."""
    if seen.edges_ns is None:
        times, total = seen.arrival_ns, np.arange(1, seen.arrival_ns.size + 1)
        begins, before = times, total - 1
    else:
        # Between looks nothing is known: windows begin and end at them.
        times = seen.edges_ns
        total = before = np.searchsorted(seen.arrival_ns, seen.edges_ns)
        begins = times
    drop = before - rate * begins / NS_PER_S
    lowest = np.minimum.accumulate(drop)
    excess = total - rate * times / NS_PER_S - lowest
    last = int(excess.argmax())
    first = int(np.flatnonzero(drop[: last + 1] == lowest[last])[0])
    return int(total[last] - before[first]), int(begins[first]), int(times[last])


def _profiles(seen: Evidence, params: WatchParams) -> list[Misfit]:
    return [
        Misfit(MisfitKind.PROFILE, stage, f"{stage}: {_lateness(one, seen)}", one.ratio)
        for stage, one in seen.stages.items()
        if one.is_late(params.late)
    ]


def _lateness(one: StageEvidence, seen: Evidence) -> str:
    """How many batches are late, and how late the P99 or, where only sums are known, the mean of all batches is."""
    many = f"{one.over:,} of {one.batches:,} batches took longer than the table and the allowance"
    if seen.edges_ns is not None:
        return f"{many}; on average batches take {one.ratio:.3g} × the table"
    return many if one.ratio <= 1.0 else f"{many}; P99 of a batch size is up to {one.ratio:.3g} × the table"


def _objective(plan: Plan, seen: Evidence, trace: Trace, params: WatchParams) -> list[Misfit]:
    drifted = _drifted(plan, seen, params)
    found_ns = replay(replace(plan, profiles=drifted), trace).objective_ns(plan.objective)
    what = "in a replay of what came"
    if drifted is not plan.profiles:
        what += ", with all batches of late stages as late as told"
    # What was measured is so; a replay supposes more, and speaks only where nothing was, or nothing was missed yet.
    if seen.latency_ns is not None and (seen.latency_ns > plan.slo_ns or found_ns <= plan.slo_ns):
        found_ns, what = seen.latency_ns, "measured"
    if found_ns <= plan.slo_ns:
        return []
    text = f"{plan.objective.name} is {format_duration(found_ns)} {what}, the objective {plan.objective.text}"
    if (
        plan.objective.others
    ):  # The figure is no quantile: it is how far the worst limit is exceeded, and the first.
        text = f"{plan.objective.text} is missed {what}, by {format_duration(found_ns - plan.slo_ns)}"
    if found_ns >= NEVER:
        text = f"more queries got no good answer than may be late, the objective {plan.objective.text}"
    return [Misfit(MisfitKind.OBJECTIVE, "", text, found_ns / plan.slo_ns)]


def _drifted(plan: Plan, seen: Evidence, params: WatchParams) -> Profiles:
    """Tables as they are by now: those of stages that take longer, stretched."""
    ratios: dict[tuple[str, str], float] = {}
    for stage, one in seen.stages.items():
        if one.ratio > 1.0 and one.is_late(params.late):
            key = plan.pipeline.stages[stage].model, plan.choices[stage].hardware
            ratios[key] = max(ratios.get(key, 1.0), one.ratio)
    if not ratios:
        return plan.profiles
    tables = [
        table.slower(ratios.get((table.model, table.hardware), 1.0))
        for table in plan.profiles.tables.values()
    ]
    return Profiles.from_parts(plan.profiles.hardware.values(), tables)


def _replan(plan: Plan, profiles: Profiles, trace: Trace, limits: SearchLimits) -> Plan:
    """Ask for all that the plan was asked for; an arrival curve is that of what came."""
    asked = replace(plan, profiles=profiles, objective=replace(plan.objective, envelope=None))
    return Problem(asked, (trace,)).planned(limits)


def _price(plan: Plan, made: Plan, params: WatchParams) -> list[Misfit]:
    old, new = plan.usd_per_hour, made.usd_per_hour
    # What came is but one of several traces that a plan was made for.
    if plan.provenance.others or old is None or new is None or not new < old * (1 - params.cheaper):
        return []
    text = (
        f"a plan for what came costs {usd_text(new)} $/h, this one {usd_text(old)} $/h ({new / old - 1:+.0%})"
    )
    return [Misfit(MisfitKind.PRICE, "", text, new / old)]
