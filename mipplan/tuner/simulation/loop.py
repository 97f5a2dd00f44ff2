"""`mipplan.tune`: policies in closed loop on a trace, one control period at a time, each replayed exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from mipplan.core import (
    NS_PER_S,
    Fault,
    Faults,
    InputError,
    Int64,
    check_seed,
    is_number,
    is_whole,
    listed,
    positive_ns,
    shown,
    suggestion,
)
from mipplan.replayer import (
    NEVER,
    ChunkedReplay,
    Discipline,
    Engine,
    EngineFeature,
    ReplaySettings,
    ReplicaSchedule,
    Served,
    StageTask,
    check_at_once,
    check_manner,
    check_plan,
    check_trace,
    replay,
    resolve_engine,
)
from mipplan.result import Plan
from mipplan.trace import Trace, split_trace
from mipplan.tuner.policies import (
    USUAL,
    Clairvoyant,
    Observation,
    Policy,
    Setting,
    StageObservation,
    read_policies,
)
from mipplan.tuner.simulation.outcome import StagesOnDemand, Tuning, TuningRun
from mipplan.tuner.simulation.state import ReplicaState, StageMetrics

#: With more instants of control than this a run would take for ever.
_MOST_DECISIONS = 1_000_000
#: At most so many periods are served at once: more gain nothing, and are in vain when something is commanded.
_MOST_AHEAD = 256
#: Latency of a query that was not finished yet.
_UNKNOWN = -1
#: More replicas of a stage than this are a slip.
_MOST_REPLICAS = 1_000_000_000
#: This share of a trace's time stands for the sample planned for, unless that is given.
SPLIT = 0.2


def tune(
    plan: Plan,
    trace: Trace,
    *,
    policies: Sequence[str | Policy | Clairvoyant] = USUAL,
    sample: Trace | None = None,
    split: float = SPLIT,
    period_s: float = 1.0,
    activation_delay_s: float = 5.0,
    discipline: str | None = None,
    engine: str = "auto",
    seed: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Tuning:
    """Let policies change a plan's replica counts as a trace goes by, and replay each exactly.

    Hardware and batch caps stay the plan's, and so do the replicas until the first instant of control. At each such
    instant a policy sees what happened before it, and nothing else; what it decides counts from then on, and a
    replica that it orders serves `activation_delay_s` later. A replica that goes finishes its batch. Replicas are paid
    from their order on.

    Parameters
    ----------
    plan : Plan
        With choices.
    trace : Trace
    policies : sequence of str or Policy
        Names (`POLICIES`), or policies with parameters of your own.
    sample : Trace, optional
        The traffic that was planned for; then the whole trace is run. By default the first part of the trace stands for
        it, and the rest is run.
    split : float
        That part, as a share of the trace's time, in (0, 1).
    period_s : float
        Time between two instants of control.
    activation_delay_s : float
        Not negative.
    discipline, engine, seed
        As for `mipplan.replay`.
    progress : callable, optional
        Called with one line of text, with each further percent of a policy's queries.

    Returns
    -------
    Tuning
        A run for each policy. After Ctrl-C: those that were complete, and that of the policy under way as far as it
        came (`TuningRun.until_s`).

    Raises
    ------
    InputError
        With every argument that cannot be used.
    NoPlanError
        If the plan holds no choices.
    """
    faults = Faults()
    faults.take(lambda: check_plan(plan))
    faults.take(lambda: check_trace(trace))
    read = faults.take(lambda: read_policies(policies))
    period = faults.take(lambda: check_period(period_s))
    delay = faults.take(lambda: check_delay(activation_delay_s))
    faults.take(lambda: check_manner(discipline, engine, seed))
    parts = faults.take(lambda: _read_parts(trace, sample, split))
    faults.check()
    chosen, (known, judged) = read.value, parts.value
    setting = Setting(plan.require(), known, int(judged.arrival_ns[0]), period.value, delay.value)
    decisions = judged.span_ns // setting.period_ns
    if decisions > _MOST_DECISIONS:
        message = f"makes {decisions:,} decisions on this trace, more than {_MOST_DECISIONS:,}"
        raise InputError.one("period_s", f"{message}; take a longer one")
    drawn = check_seed(plan.seed if seed is None else seed)
    runs: list[TuningRun] = []

    def tell(policy: str, percent: int) -> None:
        if progress is not None:
            progress(f"{policy}: {percent}% of {len(judged):,} queries in closed loop")

    try:
        for policy in chosen:
            tell(policy.name, 0)
            manner = (discipline, engine, drawn, partial(tell, policy.name))
            runs.append(simulate(setting, judged, policy, *manner))
            if runs[-1].until_s is not None:
                break
    except KeyboardInterrupt:
        if not runs:
            raise
    period_s, delay_s = setting.period_ns / NS_PER_S, setting.delay_ns / NS_PER_S
    left_out = tuple(policy.name for policy in chosen[len(runs) :])
    queued = discipline or plan.discipline.value
    return Tuning(plan, known, judged, period_s, delay_s, drawn, queued, tuple(runs), left_out)


def simulate(
    setting: Setting,
    trace: Trace,
    policy: Policy | Clairvoyant,
    discipline: str | None = None,
    engine: str = "auto",
    seed: int = 0,
    told: Callable[[int], None] | None = None,
) -> TuningRun:
    """Run one policy on a trace, from `setting.start_ns` on; `told` how many percent are done.

    Ctrl-C ends the run where it is, if two queries came before. Raises `InputError` if the policy answers something
    else than whole numbers of replicas for stages that there are.
    """
    plan, judged, until_s = setting.plan, trace, None
    check_at_once(plan, ReplaySettings(), "replicas are constant")
    notes: tuple[str, ...] = ()
    latency_ns: Int64 | None = None
    if isinstance(policy, Clairvoyant):
        schedules = policy.schedules(setting, trace, seed)
    else:
        controller = policy.start(setting)
        notes = tuple(getattr(controller, "notes", ()))
        needed = frozenset({EngineFeature.SCHEDULE, EngineFeature.RESUME}) | ReplaySettings().needed([plan])
        schedules, latency_ns = run_closed_loop(
            setting,
            trace,
            lambda seen: checked_counts(policy.name, controller.decide(seen), setting.stages),
            ReplaySettings(None if discipline is None else Discipline(discipline)),
            resolve_engine(engine, needed, len(trace) * len(setting.stages)),
            seed,
            told,
        )
        if latency_ns[-1] == _UNKNOWN:
            judged = Trace(trace.arrival_ns[: latency_ns.size], trace.name, trace.note)
            until_s = int(judged.arrival_ns[-1]) / NS_PER_S
    # A run can be sent to another process, so whatever it holds can be pickled.
    manner: dict[str, Any] = {"discipline": discipline, "seed": seed, "schedule": dict(schedules)}
    commanded, result = MappingProxyType(manner["schedule"]), replay(plan, judged, engine=engine, **manner)
    if until_s is not None and latency_ns is not None:  # what was under way when it ended had no latency yet
        latency_ns = np.where(latency_ns == _UNKNOWN, result.latency_ns, latency_ns)
    if latency_ns is not None and not np.array_equal(result.latency_ns, latency_ns):
        raise AssertionError("what the controller saw is not what its commands lead to")
    stages = StagesOnDemand(setting.stages, partial(replay, plan, judged, engine=result.engine, **manner))
    clairvoyant, result = isinstance(policy, Clairvoyant), replace(result, stages=stages)
    return TuningRun(policy.name, clairvoyant, plan.slo_s, plan.quantile, commanded, result, until_s, notes)


def checked_counts(policy: str, wanted: object, stages: Collection[str]) -> Mapping[str, int]:
    """Return a controller's answer; a stage misspelt would keep its replicas without a word.

    Raises `InputError` with every fault.
    """
    place = f"policy {policy}"
    if not isinstance(wanted, Mapping):
        raise InputError.one(place, f"expected a mapping of stages to replicas, found {shown(wanted)}")
    faults = []
    for stage, count in wanted.items():
        if stage not in stages:
            hint = suggestion(stage, stages) or f"; there are {listed(sorted(stages))}"
            faults.append(Fault(place, f"there is no stage {shown(stage)}{hint}"))
        elif not is_whole(count) or count > _MOST_REPLICAS:
            message = f"expected a whole number of replicas for {stage}, found {shown(count)}"
            faults.append(Fault(place, message))
    InputError.raise_if(faults)
    return {stage: int(count) for stage, count in wanted.items()}  # numbers of NumPy go into no file


def _read_parts(trace: Trace, sample: Trace | None, split: float) -> tuple[Trace, Trace]:
    """The traffic that was planned for, and what is run; raises `InputError`."""
    if sample is None:
        check_trace(trace)
        return split_trace(trace, split)
    if not isinstance(sample, Trace):
        raise InputError.one("sample", f"expected a Trace, found {shown(sample)}")
    if sample.span_ns == 0:
        raise InputError.one("sample", "all its queries arrive at once: it has no rate")
    return sample, trace


def check_period(period_s: object) -> int:
    """Return the time between two instants of control in ns; raises `InputError`."""
    period_ns = positive_ns(period_s)
    if period_ns is None:
        raise InputError.one("period_s", f"expected a positive number of seconds, found {shown(period_s)}")
    return period_ns


def check_delay(delay_s: object) -> int:
    """Return an activation delay in ns; raises `InputError`."""
    delay_ns = positive_ns(delay_s)
    if delay_ns is None and not (is_number(delay_s) and delay_s == 0):
        message = f"expected 0 or a positive number of seconds, found {shown(delay_s)}"
        raise InputError.one("activation_delay_s", message)
    return delay_ns or 0


def control_instants(trace: Trace, setting: Setting) -> Int64:
    """Every instant of control: period by period, until after the last arrival."""
    last_ns = int(trace.arrival_ns[-1])
    count = max(0, -(-(last_ns + 1 - setting.start_ns) // setting.period_ns))
    return setting.start_ns + setting.period_ns * np.arange(1, count + 1, dtype=np.int64)


def run_closed_loop(
    setting: Setting,
    trace: Trace,
    decide: Callable[[Observation], Mapping[str, int]],
    settings: ReplaySettings,
    engine: Engine,
    seed: int,
    told: Callable[[int], None] | None = None,
) -> tuple[dict[str, ReplicaSchedule], Int64]:
    """Replay a trace while a controller looks at it and changes replicas; return these and every query's latency.

    After Ctrl-C those of the queries before the last instant of control, `_UNKNOWN` for those still under way then,
    and for the last one: so it is seen that Ctrl-C came, even if it came after the last arrival.

    At an instant of control everything before it is seen, and what is decided counts from that very instant on. So
    the replay up to it is final when the controller looks at it, and the run as a whole is the replay of the
    schedules that come of it. No arrival may come before `setting.start_ns`.

    Most of the time nothing is commanded, and what is ordered serves later. So several periods are served at once, as
    if nothing were. The controller then looks at one after the other, up to the first that its commands change: from
    there they are served again.
    """
    state = ReplicaState(setting)
    metrics = {stage: StageMetrics() for stage in setting.stages}
    answers: dict[str, tuple[StageTask, Served]] = {}
    replay = ChunkedReplay(
        [setting.plan], settings, engine, seed, lambda stage, *answer: answers.update({stage: answer})
    )
    latency_ns = np.full(len(trace), _UNKNOWN, dtype=np.int64)

    def collect() -> None:
        released = replay.release([0])
        latency_ns[released.query] = released.latency_ns[0]

    edges = np.append(setting.start_ns, control_instants(trace, setting))
    cuts = np.searchsorted(trace.arrival_ns, edges).tolist()
    instants, closed, percent, ahead = edges.tolist(), 0, 0, 1
    try:
        while closed < len(instants) - 1:
            first = done = closed
            last = min(first + ahead, len(instants) - 1)
            capacities = state.capacities(instants[first])
            replay.set_capacity(capacities)
            tried = replay.fork()
            tried.advance(trace.arrival_ns[cuts[first] : cuts[last]], instants[last] - 1)
            figures = [
                metric.read(*answers[stage], edges[first : last + 1], capacities[stage])
                for stage, metric in metrics.items()
            ]
            same_ns = NEVER
            for row in zip(*figures, strict=True):
                before_ns, now_ns = instants[done], instants[done + 1]
                if now_ns > same_ns:
                    break
                stages = {
                    stage: StageObservation(count, *numbers)
                    for (stage, count), numbers in zip(state.replicas.items(), row, strict=True)
                }
                arrival_ns = trace.arrival_ns[cuts[done] : cuts[done + 1]]
                seen = Observation(now_ns, now_ns - before_ns, arrival_ns, stages)
                same_ns = min(same_ns, state.command(now_ns, decide(seen)))
                done += 1
            if done == last:
                replay, ahead = tried, min(2 * ahead, _MOST_AHEAD)
            else:
                replay.advance(trace.arrival_ns[cuts[first] : cuts[done]], instants[done] - 1)
                ahead = done - first
            # Before latencies are taken in: if Ctrl-C comes now, those known are final at this instant, and not later.
            closed = done
            collect()
            for metric in metrics.values():
                metric.close(instants[done])
            if told is not None and 100 * cuts[closed] // len(trace) > percent:
                percent = 100 * cuts[closed] // len(trace)
                told(percent)
    except KeyboardInterrupt:
        if cuts[closed] < 2:
            raise
        seen_ns = latency_ns[: cuts[closed]]
        seen_ns[-1] = _UNKNOWN
        return state.schedules(instants[closed]), seen_ns
    replay.set_capacity(state.capacities(instants[closed]))
    replay.advance(trace.arrival_ns[cuts[closed] :], NEVER)
    collect()
    return state.schedules(), latency_ns
