"""`mipplan.follow`: the closed loop of `mipplan.tune` on a running system."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mipplan.core import Fault, Faults, InputError, check_time_limit, shown
from mipplan.documents import AnyPath, output_problem
from mipplan.following.acting import FollowParams
from mipplan.following.loop import Followed, FollowLoop
from mipplan.following.result import FollowSummary
from mipplan.following.scraping import Scraper
from mipplan.following.state import AuditLog, FollowState, audit_problem
from mipplan.following.targets import FollowTarget, check_names, open_target, reader_of
from mipplan.following.web import check_metrics_urls
from mipplan.replayer import check_plan
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.tuner import Policy, Setting, check_delay, check_period, read_policies

_DEFAULTS = FollowParams()


def follow(
    plan: Plan,
    target: str | FollowTarget,
    *,
    policy: str | Policy = "lp",
    sample: Trace | None = None,
    metrics: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    namespace: str = "default",
    period_s: float = 1.0,
    activation_delay_s: float = 5.0,
    shadow: bool = False,
    state: AnyPath | None = None,
    audit: AnyPath | None = None,
    time_limit_s: float | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[str], None] | None = None,
    params: FollowParams = _DEFAULTS,
) -> FollowSummary:
    """Let a policy change the replicas of a running system, as `mipplan.tune` does on a trace.

    Several times a period its metrics are looked at; at the end of each the policy sees what was counted, and what it
    decides is told to the target. The policies, the rules by which their wishes are granted, and what they see are
    those of the simulation; but arrivals are counts between two looks (`mipplan.following.ByCounts` simulates that).

    While metrics fail, the last decision stays. While the target fails, commands are tried again, later and later; it
    is told again if it does not have what it was told. Nothing is told twice that was taken, and there is a limit of
    commands a minute.

    Parameters
    ----------
    plan : Plan
        What runs: hardware and batch caps stay.
    target : str or FollowTarget
        ``mipplan:URL``, ``triton:URL``, ``ray:URL`` (the dashboard's) or ``kserve:URL`` (the Kubernetes API's).
    policy : str or Policy
        A name of `mipplan.tuner.POLICIES`, or a policy with parameters of your own; not one of hindsight.
    sample : Trace, optional
        The traffic that was planned for; by default the plan's own, if it holds it.
    metrics : sequence of str
        URLs of metrics in Prometheus' text format, where the target has no place of its own, or others.
    names : mapping of str to str, optional
        What stages are called at the target (models, deployments), where that is not as ``mipplan export`` has it.
    namespace : str
        Of Kubernetes; for Ray Serve the application.
    period_s, activation_delay_s : float
        As for `mipplan.tune`: what the policy counts on.
    shadow : bool
        Decide and log, and change nothing: every decision starts from what the target has.
    state : path, optional
        A file that holds the last decision: after a restart it goes on from there, and for some time no stage gets
        fewer replicas. Neither read nor written in shadow mode.
    audit : path, optional
        A file to which a JSON line is added for every change, command and failure.
    time_limit_s : float, optional
        How long to follow; by default until `stop`, or Ctrl-C.
    stop : threading.Event, optional
    progress : callable, optional
        Told what happens, in lines.
    params : FollowParams

    Raises
    ------
    InputError
        With every fault of the arguments, or if no first look at the metrics succeeds.
    NoPlanError
        If the plan holds no choices.
    """
    ready = check_follow(
        plan,
        target,
        policy=policy,
        sample=sample,
        metrics=metrics,
        names=names,
        namespace=namespace,
        period_s=period_s,
        activation_delay_s=activation_delay_s,
        shadow=shadow,
        state=state,
        audit=audit,
        time_limit_s=time_limit_s,
        params=params,
    )
    opened = ready.target
    setting = Setting(plan.require(), ready.sample, 0, ready.period_ns, ready.delay_ns)
    followed = Followed(setting, opened, ready.policy, shadow)
    saved = None if state is None or shadow else FollowState.load(state, followed.identity)
    log = AuditLog(audit)
    scraper = Scraper(opened, reader_of(opened, plan, names), ready.urls, params.metrics_timeout_s)
    try:
        run = FollowLoop(followed, scraper, log, progress or (lambda _line: None), params)
        return run.run(stop or threading.Event(), time_limit_s, state, saved)
    finally:
        log.close()


class _Ready(NamedTuple):
    """Arguments of `follow` that were looked at."""

    target: FollowTarget
    policy: Policy
    sample: Trace
    period_ns: int
    delay_ns: int
    urls: list[str]


def check_follow(
    plan: Plan,
    target: str | FollowTarget,
    *,
    policy: str | Policy,
    sample: Trace | None,
    metrics: Sequence[str],
    names: Mapping[str, str] | None,
    namespace: str,
    period_s: float,
    activation_delay_s: float,
    shadow: bool,
    state: AnyPath | None,
    audit: AnyPath | None,
    time_limit_s: float | None,
    params: FollowParams = _DEFAULTS,
) -> _Ready:
    """Look at arguments of `follow`, and ask nobody yet.

    Raises `InputError` with every fault.
    """
    faults = Faults()
    opened = faults.take(lambda: _target_of(plan, target, names, namespace))
    chosen = faults.take(lambda: _policy_of(policy))
    period = faults.take(lambda: check_period(period_s))
    delay = faults.take(lambda: check_delay(activation_delay_s))
    known = faults.take(lambda: _sample_of(plan, sample))
    faults.take(lambda: check_time_limit(time_limit_s))
    if not isinstance(params, FollowParams):
        faults.add(Fault("params", f"expected FollowParams, found {shown(params)}"))
    problems = {
        "state": None if state is None or shadow else output_problem(state),
        "audit": None if audit is None else audit_problem(audit),
    }
    faults.add(*(Fault(name, problem) for name, problem in problems.items() if problem is not None))
    faults.take(lambda: check_metrics_urls(metrics))
    if opened and not metrics and not opened.value.metrics_urls:
        faults.add(Fault("metrics", f"{opened.value.name} needs the URLs of its metrics"))
    faults.check()
    urls = list(metrics or opened.value.metrics_urls)
    return _Ready(opened.value, chosen.value, known.value, period.value, delay.value, urls)


def _target_of(
    plan: Plan, target: str | FollowTarget, names: Mapping[str, str] | None, namespace: str
) -> FollowTarget:
    check_plan(plan)
    if isinstance(target, str):
        return open_target(plan, target, names=names, namespace=namespace)
    if not all(hasattr(target, name) for name in ("name", "metrics_urls", "reads", "serving", "scale")):
        raise InputError.one("target", f"expected KIND:http://HOST:PORT, found {shown(target)}")
    check_names(names, plan.choices)
    return target


def _policy_of(policy: str | Policy) -> Policy:
    (made,) = read_policies([policy])
    if not isinstance(made, Policy):
        raise InputError.one("policy", f"{made.name} knows the traffic to come: it cannot follow")
    return made


def _sample_of(plan: Plan, sample: Trace | None) -> Trace:
    check_plan(plan)
    known = plan.provenance.sample if sample is None else sample
    if not isinstance(known, Trace):
        raise InputError.one(
            "sample", "give the trace that was planned for: the plan's file does not hold it"
        )
    if known.span_ns == 0:
        raise InputError.one("sample", "all its queries arrive at once: it has no rate")
    return known
