"""`mipplan.tune`: policies in closed loop on a trace, each replayed exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from mipplan.core import (
    NS_PER_S,
    Fault,
    InputError,
    check_all,
    check_seed,
    is_number,
    is_whole,
    listed,
    positive_ns,
    seconds_to_ns,
    shown,
    suggestion,
)
from mipplan.replayer import (
    Discipline,
    EngineFeature,
    ReplaySettings,
    check_manner,
    check_plan,
    check_trace,
    replay,
    resolve_engine,
)
from mipplan.result import Plan
from mipplan.trace import Trace, split_trace
from mipplan.tuner.closed_loop import run_closed_loop
from mipplan.tuner.observation import Observation
from mipplan.tuner.outcome import Tuning, TuningRun
from mipplan.tuner.policies import POLICIES
from mipplan.tuner.policies.policy import Clairvoyant, Controller, Policy, Setting

#: Instants of control beyond which a run would take for ever.
MOST_DECISIONS = 1_000_000
#: More replicas of a stage are a slip.
_MOST_REPLICAS = 1_000_000_000
#: Those that a user compares, unless told otherwise.
USUAL = ("lp", "inferline", "hpa", "ray", "static")
#: Share of a trace's time that stands for the sample planned for, unless that is given.
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
    discipline: str = "oldest_first",
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
        Called with one line of text as the work proceeds.

    Returns
    -------
    Tuning
        A run for each policy. After Ctrl-C: those that were complete.

    Raises
    ------
    InputError
        With every argument that cannot be used.
    NoPlanError
        If the plan holds no choices.
    """
    chosen: list[Policy | Clairvoyant] = []
    check_all(
        lambda: check_plan(plan),
        lambda: check_trace(trace),
        lambda: None if sample is None else _check_sample(sample),
        lambda: chosen.extend(read_policies(policies)),
        lambda: check_period(period_s),
        lambda: check_delay(activation_delay_s),
        lambda: check_manner(discipline, engine, seed),
        lambda: None if sample is not None or not isinstance(trace, Trace) else split_trace(trace, split),
    )
    plan.require()
    known, judged = split_trace(trace, split) if sample is None else (sample, trace)
    setting = Setting(
        plan, known, int(judged.arrival_ns[0]), seconds_to_ns(period_s), seconds_to_ns(activation_delay_s)
    )
    _check_length(judged, setting)
    drawn = check_seed(plan.seed if seed is None else seed)
    runs: list[TuningRun] = []
    try:
        for policy in chosen:
            if progress is not None:
                progress(f"{policy.name}: {len(judged):,} queries in closed loop")
            runs.append(simulate(setting, judged, policy, discipline=discipline, engine=engine, seed=drawn))
    except KeyboardInterrupt:
        if not runs:
            raise
    return Tuning(
        plan,
        known,
        judged,
        setting.period_ns / NS_PER_S,
        setting.delay_ns / NS_PER_S,
        drawn,
        discipline,
        tuple(runs),
        left_out=tuple(policy.name for policy in chosen[len(runs) :]),
    )


def simulate(
    setting: Setting,
    trace: Trace,
    policy: Policy | Clairvoyant,
    *,
    discipline: str = "oldest_first",
    engine: str = "auto",
    seed: int = 0,
) -> TuningRun:
    """Run one policy on a trace, from `setting.start_ns` on.

    Raises
    ------
    InputError
        If the policy answers something else than whole numbers of replicas for stages that there are.
    """
    plan = setting.plan
    if isinstance(policy, Clairvoyant):
        schedules, latency_ns = policy.schedules(setting, trace, seed), None
    else:
        needed = frozenset({EngineFeature.SCHEDULE, EngineFeature.RESUME})
        run = run_closed_loop(
            setting,
            trace,
            _Checked(policy.name, policy.start(setting), setting.stages),
            ReplaySettings(Discipline(discipline)),
            resolve_engine(engine, needed, len(trace)),
            seed,
        )
        schedules, latency_ns = run.schedules, run.latency_ns
    result = replay(plan, trace, discipline=discipline, engine=engine, seed=seed, schedule=schedules)
    if latency_ns is not None and not np.array_equal(result.latency_ns, latency_ns):
        raise AssertionError("what the controller saw is not what its commands lead to")
    return TuningRun(
        policy.name,
        isinstance(policy, Clairvoyant),
        plan.slo_s,
        plan.quantile,
        MappingProxyType(dict(schedules)),
        result,
    )


class _Checked:
    """A controller whose answers are looked at: a stage misspelt would keep its replicas without a word."""

    def __init__(self, name: str, controller: Controller, stages: Sequence[str]) -> None:
        self._name, self._controller, self._stages = name, controller, frozenset(stages)

    def decide(self, seen: Observation) -> Mapping[str, int]:
        wanted = self._controller.decide(seen)
        place = f"policy {self._name}"
        if not isinstance(wanted, Mapping):
            raise InputError.one(place, f"expected a mapping of stages to replicas, found {shown(wanted)}")
        faults = []
        for stage, count in wanted.items():
            if stage not in self._stages:
                hint = suggestion(stage, self._stages) or f"; there are {listed(sorted(self._stages))}"
                faults.append(Fault(place, f"there is no stage {shown(stage)}{hint}"))
            elif not is_whole(count) or count > _MOST_REPLICAS:
                message = f"expected a whole number of replicas for {stage}, found {shown(count)}"
                faults.append(Fault(place, message))
        if faults:
            raise InputError(faults)
        return wanted


def read_policies(policies: Sequence[str | Policy | Clairvoyant]) -> list[Policy | Clairvoyant]:
    """Return the policies of these names; those given as such stay what they are.

    Raises
    ------
    InputError
        With every name that is unknown or there twice.
    """
    if isinstance(policies, str) or not isinstance(policies, Sequence) or not policies:
        raise InputError.one("policies", f"expected some of {listed(POLICIES)}, found {shown(policies)}")
    faults: list[Fault] = []
    chosen: list[Policy | Clairvoyant] = []
    for policy in policies:
        if isinstance(policy, str):
            if policy in POLICIES:
                chosen.append(POLICIES[policy]())
            else:
                hint = suggestion(policy, POLICIES) or f"; there are {listed(POLICIES)}"
                faults.append(Fault("policies", f"there is no {shown(policy)}{hint}"))
        elif isinstance(policy, Policy | Clairvoyant):
            chosen.append(policy)
        else:
            faults.append(Fault("policies", f"expected a name or a policy, found {shown(policy)}"))
    names = [policy.name for policy in chosen]
    faults += [
        Fault("policies", f"names {name} twice") for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    if faults:
        raise InputError(faults)
    return chosen


def _check_sample(sample: object) -> None:
    if not isinstance(sample, Trace):
        raise InputError.one("sample", f"expected a Trace, found {shown(sample)}")
    if sample.span_ns == 0:
        raise InputError.one("sample", "all its queries arrive at once: it has no rate")


def check_period(period_s: object) -> None:
    """Refuse what is no time between two instants of control; raises `InputError`."""
    if positive_ns(period_s) is None:
        raise InputError.one("period_s", f"expected a positive number of seconds, found {shown(period_s)}")


def check_delay(delay_s: object) -> None:
    """Refuse what is no activation delay; raises `InputError`."""
    if not is_number(delay_s) or (delay_s != 0 and positive_ns(delay_s) is None):
        message = f"expected 0 or a positive number of seconds, found {shown(delay_s)}"
        raise InputError.one("activation_delay_s", message)


def _check_length(trace: Trace, setting: Setting) -> None:
    decisions = trace.span_ns // setting.period_ns
    if decisions > MOST_DECISIONS:
        raise InputError.one(
            "period_s",
            f"makes {decisions:,} decisions on this trace, more than {MOST_DECISIONS:,}; take a longer one",
        )
