"""The certificate: a proven bound on every query's latency, for this trace, seed and plan.

The proof is in [theory, section 3][3-the-certificate].

It needs the tokens and each stage's service (T, R), nothing else: neither the options a planner considered nor
a solver. `mipplan verify` re-checks a plan file through this module alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mipplan.calculus import StageService, analyse_paths, latest_start_ns, stage_service
from mipplan.core import NS_PER_S, InputError, Int64, Printable, Summary, format_duration, quantile_ns
from mipplan.pipeline import Discipline, are_timed
from mipplan.result import CriticalStage, Figures, Plan
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


@dataclass(frozen=True, repr=False)
class Certificate(Printable):
    """What is guaranteed."""

    latency_ns: Int64
    """Shape (n,). Proven bound on each query's latency."""
    quantile: float
    bound_ns: int
    """Its quantile over queries (``method="higher"``)."""
    critical_path: tuple[CriticalStage, ...]
    """How a query at the quantile comes to its bound, from source to last exit."""

    @property
    def bound_s(self) -> float:
        """`bound_ns` in seconds."""
        return self.bound_ns / NS_PER_S

    def _summary(self) -> Summary:
        return Summary(
            f"Certificate: P{100 * self.quantile:g} ≤ {format_duration(self.bound_ns)} "
            f"for {self.latency_ns.size:,} queries",
            figures=(("any query", f"≤ {format_duration(int(self.latency_ns.max()))}"),),
            headings=("critical path", ">T", ">wait", ">delay before"),
            rows=(
                (step.stage, *map(format_duration, (step.latency_ns, step.wait_ns, step.delay_ns)))
                for step in self.critical_path
            ),
            count=len(self.critical_path),
            what="stages",
        )

    def _line(self) -> str:
        bound = f"P{100 * self.quantile:g} ≤ {format_duration(self.bound_ns)}"
        return f": {bound} for {self.latency_ns.size} queries, {len(self.critical_path)} stages on the critical path"


def certify_stages(plan: Plan, trace: Trace, *, seed: int | None = None) -> Certificate:
    """Bound the latency of every query of `trace` under `plan` by the services of its stages; errors as for `certify`.

    References
    ----------
    [Theorem (sample path)][theorem-sample-path] and [Theorem (paced)][theorem-paced]. They cover queues that serve the
    oldest first (``discipline="oldest_first"``); under ``fifo`` they are no theorems.
    """
    plan.require()
    check_discipline(plan.discipline)
    workload = realise(plan.pipeline, trace, plan.seed if seed is None else seed)
    return certify_services(workload, plan_services(plan), plan.quantile)


def check_discipline(discipline: Discipline) -> None:
    """Raise `InputError` if no theorem covers the discipline, where not all stages are timed."""
    if discipline is not Discipline.OLDEST_FIRST:
        message = (
            "there is no certificate for fifo under eager or paced dispatch yet: certify oldest_first, or refine "
            "under timed dispatch, where the replay is the certificate under either discipline"
        )
        raise InputError.one("discipline", message)


def plan_services(plan: Plan) -> dict[str, StageService]:
    """Service curve of each stage under the plan's choices and laws."""
    pipeline, laws = plan.require().pipeline, plan.laws
    return {
        stage: stage_service(
            plan.service_ns(stage), choice.replicas, not pipeline.incoming(stage), laws[stage]
        )
        for stage, choice in plan.choices.items()
    }


def certify_services(
    workload: Workload, services: Mapping[str, StageService], quantile: float
) -> Certificate:
    """Evaluate the theorem for given services and trace back the critical path of a query at the quantile."""
    exits = CertificateEvaluator(workload).exits_ns(services)
    return state_certificate(workload, exits, lambda stage, _: services[stage].latency_ns, quantile)


def state_certificate(
    workload: Workload, exits: Mapping[str, Int64], own_ns: Callable[[str, int], int], quantile: float
) -> Certificate:
    """Say what bounds on the exits of all tokens amount to, given how much of each, by stage and token, is no wait."""
    latency_ns = workload.latency_ns(exits)
    latency_ns.flags.writeable = False
    bound = quantile_ns(latency_ns, quantile)
    query = int(np.flatnonzero(latency_ns == bound)[0])
    return Certificate(latency_ns, quantile, bound, _critical_path(workload, own_ns, exits, query))


def certified_figures(plan: Plan, workload: Workload) -> Figures:
    """Add bound and certificate by services to the figures of a plan with choices.

    Under fifo there are none; where all stages are timed, the replay is the certificate.
    """
    if plan.discipline is not Discipline.OLDEST_FIRST or are_timed(plan.laws):
        return plan.figures
    services = plan_services(plan)
    return replace(
        plan.figures,
        bound_ns=analyse_paths(workload, plan.quantile).bound_ns(services),
        certificate_ns=certify_services(workload, services, plan.quantile).bound_ns,
    )


class CertificateEvaluator:
    """Certificates of many plans on one workload, recomputing only what changed since the last one.

    A stage's exits depend on its own service and its parents' exits; a search that alters one stage at a time
    leaves most of them as they were.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._services: dict[str, StageService] = {}
        self._exits: dict[str, Int64] = {}

    def latency_ns(self, services: Mapping[str, StageService]) -> Int64:
        """Bound on each query's latency under `services`, ns, shape (n,)."""
        return self.workload.latency_ns(self.exits_ns(services))

    def exits_ns(self, services: Mapping[str, StageService]) -> Mapping[str, Int64]:
        """Bound on the exit of every token of every stage, ns; it stands until the next call."""
        stale: list[str] = []
        for stage in self.workload.stages:
            above = {edge.parent for edge in self.workload.pipeline.incoming(stage)}
            if self._services.get(stage) != services[stage] or not above.isdisjoint(stale):
                stale.append(stage)
        # All are forgotten before the first is replaced: an interrupt in between leaves nothing that is wrong.
        for stage in stale:
            self._services.pop(stage, None)
        for stage in stale:
            self._exits[stage] = stage_exits_ns(self.workload, stage, services[stage], self._exits)
            self._services[stage] = services[stage]
        return self._exits

    def forget(self) -> None:
        """Let go of the last services and their exits: they take as much memory as the workload itself."""
        self._services.clear()
        self._exits = {}


def stage_exits_ns(
    workload: Workload, stage: str, service: StageService, exits: Mapping[str, Int64]
) -> Int64:
    """Bound X_v(i) on the exit of every token of one stage, given its parents' in `exits`; shape (tokens,).

    ``X = T + max_{j ≤ i} (E(j) + (i − j)/R)``: the [theorem (sample path)][theorem-sample-path].
    """
    arrival = workload.arrival_ns(stage, exits)
    number = workload.stages[stage].number
    return latest_start_ns(arrival, service.period_ns, service.tokens, number) + service.latency_ns


def _critical_path(
    workload: Workload, own_ns: Callable[[str, int], int], exits: Mapping[str, Int64], query: int
) -> tuple[CriticalStage, ...]:
    """Follow the query's last exit back to its source, at each join along the latest arrival."""
    ends = [
        (stage, token)
        for stage, tokens in workload.stages.items()
        for token in range(*np.searchsorted(tokens.query, [query, query + 1]).tolist())
    ]
    stage, token = max(ends, key=lambda end: int(exits[end[0]][end[1]]))
    path: list[CriticalStage] = []
    while True:
        tokens, latency_ns = workload.stages[stage], own_ns(stage, token)
        arrivals = [
            (int(exits[messages.edge.parent][parent]) + messages.edge.delay_ns, messages.edge, int(parent))
            for messages in tokens.messages
            for parent in messages.parent[messages.child == token]
        ]
        source = (int(workload.ingress_ns[tokens.query[token]]), None, 0)
        arrival_ns, edge, sender = max(arrivals, key=lambda arrival: arrival[0], default=source)
        wait_ns = int(exits[stage][token]) - latency_ns - arrival_ns
        path.append(CriticalStage(stage, latency_ns, wait_ns, 0 if edge is None else edge.delay_ns))
        if edge is None:
            return tuple(reversed(path))
        stage, token = edge.parent, sender
