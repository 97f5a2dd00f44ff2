"""The classic certificate: exits bounded by one latency T and one rate R per stage.

The proof is in [theory, section 3][3-the-certificate].

It needs the tokens and each stage's service (T, R), nothing else: neither the options a planner considered nor
a solver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mipplan.calculus import StageService, latest_start_ns, stage_service
from mipplan.core import InputError, Int64, check_all, listed
from mipplan.pipeline import Discipline, DispatchLaw, Edge, Laws
from mipplan.result import CertificateKind, CriticalStage, Plan
from mipplan.tokens import Workload


def check_discipline(discipline: Discipline) -> None:
    """Raise `InputError` if no theorem covers the discipline, where not all stages are timed."""
    if discipline is not Discipline.OLDEST_FIRST:
        message = (
            "there is no certificate for fifo under eager or paced dispatch yet: certify oldest_first, or refine "
            "under timed dispatch, where the replay is the certificate under either discipline"
        )
        raise InputError.one("discipline", message)


def check_sharp(certificate: str, laws: Laws) -> None:
    """Raise `InputError` if the sharp certificate is asked for, and a stage is paced: there is none for it."""
    paced = paced_stages(laws)
    if certificate == CertificateKind.SHARP and paced:
        are = "is" if len(paced) == 1 else "are"
        message = (
            f"the sharp one is about eager dispatch, and {listed(paced)} {are} paced; take classic or auto"
        )
        raise InputError.one("certificate", message)


def check_covered(laws: Laws, discipline: str, certificate: str) -> None:
    """Raise `InputError` listing all that no theorem about services covers under these laws."""
    check_all(lambda: check_discipline(Discipline(discipline)), lambda: check_sharp(certificate, laws))


def paced_stages(laws: Laws) -> list[str]:
    """Names of the stages that are paced, sorted."""
    return sorted(stage for stage, law in laws.items() if law is DispatchLaw.PACED)


def plan_services(plan: Plan) -> dict[str, StageService]:
    """Service curve of each stage under the plan's choices and laws."""
    pipeline, laws = plan.require().pipeline, plan.laws
    return {
        stage: stage_service(
            plan.service_ns(stage), choice.replicas, not pipeline.incoming(stage), laws[stage]
        )
        for stage, choice in plan.choices.items()
    }


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


def critical_path(
    workload: Workload, own_ns: Callable[[str, int], int], exits: Mapping[str, Int64], query: int
) -> tuple[CriticalStage, ...]:
    """Follow the query's last exit back to its source, at each join along the latest arrival.

    `own_ns` says how much of the time at a stage, by stage and token, is no wait.
    """
    path: list[CriticalStage] = []
    for stage, token, arrival_ns, edge in reversed(list(last_way(workload, exits, query))):
        latency_ns = own_ns(stage, token)
        wait_ns = int(exits[stage][token]) - latency_ns - arrival_ns
        path.append(CriticalStage(stage, latency_ns, wait_ns, 0 if edge is None else edge.delay_ns))
    return tuple(path)


def last_way(
    workload: Workload, exits: Mapping[str, Int64], query: int
) -> Iterator[tuple[str, int, int, Edge | None]]:
    """The way to a query's last exit, from its end: stage, token, arrival (ns), and the edge it came along if any."""
    ends = [
        (stage, token)
        for stage, tokens in workload.stages.items()
        for token in range(*np.searchsorted(tokens.query, [query, query + 1]).tolist())
    ]
    stage, token = max(ends, key=lambda end: int(exits[end[0]][end[1]]))
    while True:
        tokens = workload.stages[stage]
        arrivals = [
            (int(exits[messages.edge.parent][parent]) + messages.edge.delay_ns, messages.edge, int(parent))
            for messages in tokens.messages
            for parent in messages.parent[messages.child == token]
        ]
        source = (int(workload.ingress_ns[tokens.query[token]]), None, 0)
        arrival_ns, edge, sender = max(arrivals, key=lambda arrival: arrival[0], default=source)
        yield stage, token, arrival_ns, edge
        if edge is None:
            return
        stage, token = edge.parent, sender
