"""Where a serving system does other than a plan assumes, and what that does to the plan's guarantee.

What each system does was read in its source and measured with sleeping models (``docs/how-to/deploy.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mipplan.core import format_duration, listed
from mipplan.exporters.deployment import Deployment
from mipplan.pipeline import Discipline, DispatchLaw, are_timed
from mipplan.result import Guarantee

_FIFO_PLAN = "plan with `--discipline fifo --runs 0.9:0:settled`"
_MEASURE = (
    "measure the model in this server (`mipplan profile`), with serialisation and the server's turnaround"
)
_DISPATCHER = "put a dispatcher in front that makes the batches"


@dataclass(frozen=True)
class Departure:
    """Something of a plan that a system does not keep."""

    subject: str
    what: str
    #: What it does to the guarantee, and what helps.
    effect: str
    #: Whether the plan's certificate is no bound on latencies any more.
    voids: bool = False


@dataclass(frozen=True)
class ServingRules:
    """How a system makes batches."""

    system: str
    #: Whether batches take the oldest query first; otherwise in order of arrival at the stage.
    is_oldest_first: bool = False
    #: Whether our dispatcher makes them, which may be given an allowance.
    is_ours: bool = False
    #: Whether all replicas of a stage take from one queue.
    is_central: bool = True
    laws: frozenset[DispatchLaw] = frozenset({DispatchLaw.EAGER})
    #: An idle replica that took a token collects more for up to this long.
    window_ns: int = 0
    #: Outputs of a batch go on this far apart.
    stagger_ns: int = 0


def departures_of(deployment: Deployment, rules: ServingRules) -> list[Departure]:
    """Find what a system with these rules does not keep of a plan; empty if its guarantee holds there."""
    found = (_order, _laws, _queues, _window, _outputs, _delays, _proof)
    return [departure for find in found for departure in find(deployment, rules)]


def several_machines(deployment: Deployment, remedy: str) -> list[Departure]:
    """Say so where a server that runs on one machine is to have GPUs of several types."""
    types = sorted({stage.choice.hardware for stage in deployment.stages if stage.is_gpu})
    if len(types) < 2 or deployment.emulate:
        return []
    what = f"the server sees the GPUs of one machine, the plan has several types ({listed(types)})"
    return [Departure("machines", what, remedy)]


def _order(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    plan = deployment.plan
    # Where queries enter, order of arrival is the order of the queries; timed plans are the same under either.
    later = [stage.name for stage in deployment.stages if stage.incoming]
    if rules.is_oldest_first or plan.discipline is Discipline.FIFO or not later or are_timed(plan.laws):
        return
    yield Departure(
        "order",
        f"{rules.system} serves tokens in order of arrival at a stage (fifo), the plan assumes the oldest query first",
        f"The certificate is no theorem under fifo, where queries can overtake each other at {listed(later)}; "
        f"{_FIFO_PLAN}, or {_DISPATCHER}",
        voids=True,
    )


def _laws(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    meant = {
        DispatchLaw.PACED: "batches are made at once, the plan spreads them over the time of a batch (paced)",
        DispatchLaw.TIMED: "results go on as soon as a batch is done, the plan holds them until its table says (timed)",
    }
    for law, what in meant.items():
        stages = [name for name, own in deployment.plan.laws.items() if own is law]
        if stages and law not in rules.laws:
            yield Departure(
                "dispatch",
                f"{what} at {listed(stages)}",
                "The certificate is void; `mipplan verify` with `--dispatch eager` says what the choices keep there, "
                f"or {_DISPATCHER}",
                voids=True,
            )


def _queues(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    several = [stage.name for stage in deployment.stages if stage.choice.replicas > 1]
    if several and not rules.is_central:
        yield Departure(
            "queue",
            f"every replica of {listed(several)} has a queue of its own, the plan assumes one for all",
            "The certificate is void, and latencies are longer than replayed: queries wait behind one replica while "
            f"another is idle, and batches stay smaller; {_DISPATCHER}",
            voids=True,
        )


def _window(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    plan = deployment.plan
    planned_ns = plan.pipeline.windows_ns(plan.laws)
    waiting = [
        stage.name
        for stage in deployment.stages
        if stage.choice.batch > 1 and planned_ns[stage.name] < rules.window_ns
    ]
    if waiting:
        window = format_duration(rules.window_ns).replace(" ", "")
        yield Departure(
            "collection",
            f"an idle replica of {listed(waiting)} that took a query waits for more, for up to {window}, the plan "
            "assumes less",
            f"The certificate does not cover it; plan with `--window {window}` or `window: {window}` in the pipeline "
            "file; mostly queries are faster even so, since bursts are spread over replicas",
            voids=True,
        )


def _outputs(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    plan = deployment.plan
    staggers_ns = plan.pipeline.staggers_ns(plan.laws)
    apart = [
        stage.name
        for stage in deployment.stages
        if stage.choice.batch > 1 and plan.pipeline.outgoing(stage.name)
        if staggers_ns[stage.name] < rules.stagger_ns
    ]
    if apart:
        gap = format_duration(rules.stagger_ns).replace(" ", "")
        yield Departure(
            "outputs",
            f"the outputs of a batch of {listed(apart)} reach the next stage about {gap} apart, the plan assumes less",
            "The certificate does not cover it, and replays of bursts are some 10 % too fast; plan with "
            f"`--stagger {gap}` or `stagger: {gap}` in the pipeline file",
            voids=True,
        )


def _delays(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    plan = deployment.plan
    least = float(plan.discipline is Discipline.FIFO) if plan.runs is None else plan.runs.least_delay
    if least and not rules.is_ours and any(edge.delay_ns for edge in plan.pipeline.edges):
        yield Departure(
            "delays",
            f"hops take what they take, the plan assumes at least {least:g} times their delays",
            f"The certificate does not cover early ones; say 0 for delays in `--runs`, or {_DISPATCHER}",
            voids=True,
        )


def _proof(deployment: Deployment, rules: ServingRules) -> Iterator[Departure]:
    """Say so where there is nothing to keep: the system is not to blame."""
    plan = deployment.plan
    if plan.guarantee is Guarantee.REPLAY and not are_timed(plan.laws):
        yield Departure(
            "proof",
            "the plan was found by replays of its trace",
            "No theorem covers it, on any server",
            voids=True,
        )
    elif plan.certificate_ns is None and plan.guarantee is not Guarantee.RELIABLE:
        yield Departure(
            "proof",
            "the plan has no certificate: it was made from choices, not planned",
            f"Nothing is proven; `mipplan verify` judges it on a trace before it goes to {rules.system}",
            voids=True,
        )


def assumptions(deployment: Deployment, rules: ServingRules) -> list[str]:
    """What has to be so for the plan's figures to hold on a system with these rules, in sentences."""
    plan = deployment.plan
    hops = sorted({format_duration(edge.delay_ns) for edge in plan.pipeline.edges})
    needed = [
        f"No batch takes longer than its table says: {_MEASURE}.",
        "All replicas are there before the traffic comes, and each has a device for itself.",
    ]
    habits = [
        f"collects for at most {format_duration(rules.window_ns)} (a full batch begins at once)"
        if rules.window_ns
        else "",
        f"hands on outputs at most {format_duration(rules.stagger_ns)} apart" if rules.stagger_ns else "",
    ]
    if any(habits):
        kept = " and ".join(habit for habit in habits if habit)
        needed.append(f"{rules.system} {kept}: that was measured, and is not promised by it.")
    if plan.runs is not None:
        needed.append(f"The runs are those that the certificate is about: {plan.runs.text}.")
        if any(plan.pipeline.staggers_ns(plan.laws).values()):
            needed.append("A replica hands on the outputs of a batch before those of its next one.")
    if plan.pipeline.edges:
        needed.append(f"A hop between stages takes at most its delay ({listed(hops)}).")
    if plan.envelope is not None:
        needed.append("Traffic keeps to the arrival curve that was planned for.")
    elif plan.trace is not None:
        traffic = " or ".join(f"{one.queries:,} queries of {one.name}" for one in plan.traces)
        more = "" if plan.headroom == 1.0 else f", at {plan.headroom:g} times their rate"
        needed.append(f"Traffic is as in the trace that was planned for ({traffic}{more}).")
    return needed
