"""A plan's prediction against the log of a system that served it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mipplan.core import NS_PER_S, Fault, Faults, InputError, check_slo, format_duration, quantile_ns, shown
from mipplan.documents import AnyPath
from mipplan.logs import RunLog
from mipplan.observing import run_of
from mipplan.pipeline import CollectionWindow, Dispatch, DispatchLaw, Routing, Stagger, System
from mipplan.replayer import Noise, check_plan, read_settings, replay
from mipplan.result import Plan, fingerprint, systems_text
from mipplan.trace import Trace
from mipplan.validation.bootstrap import ResamplingParams, compare_figures
from mipplan.validation.causes import CauseParams, causes_of, run_causes, verdict_of
from mipplan.validation.replayed import allowance_ns, held_plan, replayed_log
from mipplan.validation.result import Cause, StageComparison, Truth, TruthVerdict
from mipplan.validation.stages import Sides, compare_hops, compare_stages, grows

_SEND_ERRORS = {"p50": 0.5, "p99": 0.99, "max": 1.0}
_NO_STAGES = "no log of stages: which term is off cannot be told; give the server's log as well"


def truth(
    plan: Plan,
    *logs: AnyPath | RunLog,
    slo_s: float | None = None,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    system: System = None,
    window_s: CollectionWindow = None,
    engine: str = "auto",
    seed: int | None = None,
    noise: Noise = None,
    shift_ns: Mapping[str, int] | None = None,
    progress: Callable[[str], None] | None = None,
    params: ResamplingParams | None = None,
    rules: CauseParams | None = None,
) -> Truth:
    """Compare what a plan predicts with what a system did that served it.

    Predicted is the replay of the plan on the arrivals that were really sent, its timed stages with the allowance that
    the server's log states. Compared are distributions of latencies, never single queries.

    Parameters
    ----------
    plan : Plan
        What was served.
    *logs : path or RunLog
        Logs of the queries, and of the stages if there are any; as for `read_log`.
    slo_s : float, optional
        For the miss rate; the plan's by default.
    dispatch, discipline, stagger_s, system, window_s, engine, seed, noise
        As for `mipplan.replay`: what the system really does, where the plan says otherwise.
    shift_ns
        As for `read_log`.
    progress : callable, optional
        Told what is being done.
    params : ResamplingParams, optional
        Intervals, and what is tolerated.
    rules : CauseParams, optional
        From where on a term is called off.

    Returns
    -------
    Truth

    Raises
    ------
    InputError
        With every fault of the arguments, or of the logs.
    NoPlanError
        If the plan holds no choices.

    References
    ----------
    Intervals: stationary block bootstrap (Politis and Romano 1994), of both sides at once; block length by Politis and
    White 2004. Service times: order statistics.
    """
    say = progress or (lambda _line: None)
    check_plan(plan)
    plan.require()
    faults = Faults()
    manner: dict[str, Any] = {"discipline": discipline, "dispatch": dispatch, "stagger_s": stagger_s}
    manner |= {"system": system, "window_s": window_s}
    settings = faults.take(lambda: read_settings([plan], **manner))
    for name, given, kind in (("params", params, ResamplingParams), ("rules", rules, CauseParams)):
        if given is not None and not isinstance(given, kind):
            faults.add(Fault(name, f"expected {kind.__name__}, found {shown(given)}"))
    slo_ns = plan.slo_ns if slo_s is None else faults.take(lambda: check_slo(slo_s)).or_else(0)
    say("reading the logs")
    read = faults.take(lambda: run_of(logs, shift_ns, plan))
    if read:
        faults.take(lambda: _check_run(read.value))
    faults.check()
    run, rules, params = read.value, rules or CauseParams(), params or ResamplingParams()
    queries = run.queries
    say(f"replaying {len(queries):,} queries")
    start_ns = int(queries.sent_ns[0])
    trace = Trace(queries.sent_ns - start_ns, "sent")
    laws = {stage: settings.value.law_at(plan, stage) for stage in plan.choices}
    held = held_plan(plan, run, laws)
    result = replay(held, trace, engine=engine, seed=seed, noise=noise, **manner)
    predicted = replayed_log(held, result, start_ns)
    say("comparing")
    figures = compare_figures(queries.latency_ns, result, queries.ok, slo_ns, params)
    sides = Sides(plan, held, run, predicted, result, laws, settings.value.systems_of(plan), params)
    stages = compare_stages(sides)
    hops = compare_hops(sides) if len(run.stages) else ()
    late_ns = queries.send_error_ns
    late_s = {name: quantile_ns(late_ns, quantile) / NS_PER_S for name, quantile in _SEND_ERRORS.items()}
    answered = int(np.count_nonzero(queries.ok))
    verdict = verdict_of(
        figures,
        any(stage.grows for stage in stages)
        or grows(queries.sent_ns[queries.ok], queries.latency_ns[queries.ok]),
        any(stage.predicted_grows for stage in stages) or grows(queries.sent_ns, result.latency_ns),
    )
    caps = {stage: choice.batch for stage, choice in plan.choices.items()}
    eager = [stage for stage, law in laws.items() if law is DispatchLaw.EAGER and _is_prompt(sides, stage)]
    causes = [
        *run_causes(late_s["p99"], len(queries) - answered, len(queries), rules),
        *causes_of(stages, hops, figures, caps, eager, len(queries), result.mean_latency_s, rules),
    ]
    own_law = (f"predicted by the law of {systems_text(result.systems)}",) if result.systems else ()
    drawn = ("predicted with service times drawn at random",) if noise else ()
    longer = f"timed batches are held to the server's allowance of {format_duration(allowance_ns(run))}"
    to_more = () if held is plan else (longer,)
    notes = (*own_law, *drawn, *to_more, *_notes(plan, run, stages, verdict, causes))
    return Truth(
        plan,
        len(queries),
        answered,
        figures,
        stages,
        hops,
        verdict,
        tuple(causes),
        notes,
        late_s,
        params.confidence,
        slo_ns,
    )


def _is_prompt(sides: Sides, stage: str) -> bool:
    """Whether a token may wait beside an idle replica only for less than a batch: no long window, no queues apart."""
    system = sides.system.get(stage)
    if system is None:
        return True
    return system.routing is Routing.CENTRAL and system.window_ns < int(sides.plan.service_ns(stage).min())


def _check_run(run: RunLog) -> None:
    """Refuse logs that cannot be compared with a plan.

    Raises `InputError` with every reason.
    """
    faults = []
    if len(run.queries) < 2:
        what = "hold no queries" if not len(run.queries) else "hold a single query"
        faults.append(
            Fault("logs", f"{what}: arrivals and latencies are in the log that `mipplan drive` writes")
        )
    elif run.queries.sent_ns[-1] == run.queries.sent_ns[0]:
        faults.append(Fault("logs", "all queries were sent at once: there is no run to look at"))
    elif not run.queries.ok.any():
        faults.append(Fault("logs", "no query was answered well: there is no latency to compare"))
    InputError.raise_if(faults)


def _notes(
    plan: Plan, run: RunLog, stages: tuple[StageComparison, ...], verdict: TruthVerdict, causes: list[Cause]
) -> Iterator[str]:
    if not len(run.stages):
        yield _NO_STAGES
    else:
        silent = [stage for stage in plan.choices if stage not in run.stages.stages]
        if silent:
            yield f"no row of {', '.join(silent)} in the log: nothing is known of it but what the latencies say"
        if verdict in (TruthVerdict.MODEL_WRONG, TruthVerdict.SATURATED_UNLIKE_REPLAY) and not causes:
            yield "no term stands out: look at the waits of each stage"
    for stage in stages:
        if stage.failed_batches:
            yield (
                f"failed batches at {stage.stage}: {stage.failed_batches:,}; how long they kept their replicas is "
                "unknown, so stalls are not looked for there"
            )
    hashes = {source.plan for source in run.sources if source.plan is not None}
    if hashes - {fingerprint(plan.to_document())}:
        yield "the log says that another plan was served, or another version of this one"
