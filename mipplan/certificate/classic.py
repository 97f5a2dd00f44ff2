"""The classic certificate: exits bounded by one latency T and one rate R per stage.

The proof is in [theory, section 3][3-the-certificate]. Where queues are served by arrival at the stage (``fifo``),
younger tokens may be ahead. How many is counted in two ways, from stage to stage and by bounds on all arrivals:
[queues in order of arrival][queues-in-order-of-arrival].

It needs the tokens and each stage's service (T, R), nothing else: neither the options a planner considered nor
a solver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mipplan.calculus import StageService, latest_start_ns, stage_service
from mipplan.core import InputError, Int64, check_all, listed
from mipplan.pipeline import Discipline, DispatchLaw, Edge, Join, Laws
from mipplan.result import CertificateKind, CriticalStage, Plan, RunClass
from mipplan.tokens import Workload


def check_discipline(discipline: Discipline, *, inside_curve: bool = False) -> None:
    """Raise `InputError` if no plans are made for the discipline, where the replay is not the certificate."""
    if discipline is Discipline.OLDEST_FIRST:
        return
    if inside_curve:
        message = (
            "no theorem covers fifo queues inside an arrival curve, under any dispatch: plan for oldest_first"
        )
    else:
        message = (
            "no plans are made for fifo under eager or paced dispatch: plan for oldest_first and judge the choices by "
            "mipplan.certify, or refine under timed dispatch, where the replay is the certificate under either"
        )
    raise InputError.one("discipline", message)


def check_sharp(certificate: str, laws: Laws, runs: RunClass | None = None) -> None:
    """Raise `InputError` if the sharp certificate is asked for, or its runs are, and a stage is paced: it has none."""
    paced = paced_stages(laws)
    if not paced or (certificate != CertificateKind.SHARP and runs is None):
        return
    are = f"{listed(paced)} {'is' if len(paced) == 1 else 'are'} paced"
    if certificate == CertificateKind.SHARP:
        message = f"the sharp one is about eager dispatch, and {are}; take classic or auto"
        raise InputError.one("certificate", message)
    raise InputError.one("runs", f"go with a sharp certificate, which is about eager dispatch, and {are}")


def check_covered(
    laws: Laws, discipline: str, certificate: str, runs: RunClass | None = None, *, inside_curve: bool = False
) -> None:
    """Raise `InputError` listing all that no theorem about services covers under these laws."""
    check_all(
        lambda: check_discipline(Discipline(discipline), inside_curve=inside_curve),
        lambda: check_sharp(certificate, laws, runs),
    )


def paced_stages(laws: Laws) -> list[str]:
    """Names of the stages that are paced, sorted."""
    return sorted(stage for stage, law in laws.items() if law is DispatchLaw.PACED)


def plan_services(plan: Plan) -> dict[str, StageService]:
    """Service curve of each stage under the plan's choices and laws."""
    pipeline, laws = plan.require().pipeline, plan.laws
    staggers_ns = pipeline.staggers_ns(laws)
    return {
        stage: stage_service(
            plan.service_ns(stage),
            choice.replicas,
            not pipeline.incoming(stage),
            laws[stage],
            staggers_ns[stage],
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


def fifo_exits_ns(
    workload: Workload,
    services: Mapping[str, StageService],
    overtakings: Mapping[str, Overtaking],
    runs: RunClass,
) -> dict[str, Int64]:
    """Bound on the exit of every token of every stage where queues are served by arrival, ns.

    References
    ----------
    [Theorem (fifo)][theorem-fifo].
    """
    exits: dict[str, Int64] = {}
    earliest: dict[str, Int64] = {}
    passing: dict[str, int | None] = {}
    early = workload if runs.least_delay == 1.0 else sped_up(workload, runs)
    for stage, tokens in workload.stages.items():
        service = services[stage]
        arrival_ns, rate = workload.arrival_ns(stage, exits), (service.period_ns, service.tokens)
        earliest[stage] = early.arrival_ns(stage, earliest)
        passing[stage] = younger = _overtakers(workload, stage, passing, overtakings)
        start_ns = in_order_ns = latest_start_ns(arrival_ns, *rate)
        if younger != 0:
            start_ns = _by_interval_ns(arrival_ns, earliest[stage], *rate)
            if younger is not None:
                everyone = np.arange(tokens.count, dtype=np.int64)
                probes = (everyone, np.minimum(everyone + np.int64(younger), tokens.count - 1))
                start_ns = np.minimum(start_ns, latest_start_ns(arrival_ns, *rate, probes=probes))
            # What bounds the oldest first is no bound here. But the planner's relaxation lies below it.
            start_ns = np.maximum(start_ns, in_order_ns)
        exits[stage] = start_ns + service.latency_ns
    return exits


@dataclass(frozen=True)
class Overtaking:
    """How many tokens may pass a given one while it is in service; more with more replicas."""

    service_ns: Int64  # ℓ(1), …, ℓ(b).
    replicas: int
    runs: RunClass
    stagger_ns: int = 0

    def along(self, edge: Edge) -> int | None:
        """At most so many tokens that were behind a token arrive before it along an edge; None: no limit is known.

        Copies of one token count as one.

        References
        ----------
        [Lemma (overtaking by arrival)][lemma-overtaking-by-arrival].
        """
        slack_ns = self.slack_ns(edge)
        if self.replicas == 1 and slack_ns == 0:
            return 0
        if self.runs.least_service == 0.0:
            return None
        late_ns = slack_ns + self.spread_ns
        room_ns = np.array([int(self.service_ns.max()) + late_ns, late_ns])
        beside, behind = most_served(room_ns, self.runs.least_service_ns(self.service_ns)).tolist()
        return int((self.replicas - 1) * beside + (behind + self.service_ns.size - 1 if slack_ns else 0))

    def slack_ns(self, edge: Edge) -> int:
        """By how much the times that messages take along an edge may differ, if that can change their order."""
        return slack_ns(edge, self.runs, self.spread_ns, self.service_ns)

    @property
    def spread_ns(self) -> int:
        """Longest time from the end of a batch until the last of its outputs is sent on."""
        return (self.service_ns.size - 1) * self.stagger_ns


def _overtakers(
    workload: Workload,
    stage: str,
    passing: Mapping[str, int | None],
    overtakings: Mapping[str, Overtaking],
) -> int | None:
    """At most so many younger tokens arrive at a stage before a token of it; None: no limit is known."""
    tokens = workload.stages[stage]
    merges = workload.pipeline.stages[stage].join is Join.ALL
    found: list[int] = [0]
    for messages in tokens.messages:
        edge, parent = messages.edge, overtakings[messages.edge.parent]
        ahead, along = passing[edge.parent], parent.along(edge)
        if ahead is None or along is None:
            return None
        copies = 1 if merges or not messages.parent.size else int(np.bincount(messages.parent).max())
        found.append(copies * (ahead + along) + (copies - 1 if parent.slack_ns(edge) else 0))
    if merges:
        # A token is overtaken along the edge of its last message, if everybody gets one along that edge.
        complete = all(np.unique(messages.child).size == tokens.count for messages in tokens.messages)
        return max(found) if complete else None
    return max(found) if len(found) <= 2 else None  # Tokens of several edges come in any order.


def _by_interval_ns(arrival_ns: Int64, earliest_ns: Int64, period_ns: int, tokens: int) -> Int64:
    """Bound on starts by counting who may arrive between the start of a backlogged period and a token, ns.

    ``max_{s ≤ E(i)} ( s − N_E(s⁻)/R ) + (N_A(E(i)) − 1)/R``, rounded up; s needs only be one of the E.
    """
    by_latest, by_earliest = np.sort(arrival_ns), np.sort(earliest_ns)
    last = np.searchsorted(by_latest, arrival_ns, side="right") - 1
    before = np.searchsorted(by_earliest, arrival_ns, side="right") - 1
    return latest_start_ns(by_latest, period_ns, tokens, probes=(last, before))


def slack_ns(edge: Edge, runs: RunClass, spread_ns: int, service_ns: Int64) -> int:
    """By how much the times of messages along an edge may differ, if that can change the order of one replica's.

    The outputs of a batch are sent on in its order, and before those of the replica's next batch, which takes at least
    as long as they need: (Σ) in [staggered outputs][staggered-outputs]. Where even the shortest batch of the table does
    not, nothing is known of their order.
    """
    in_order = spread_ns <= int(service_ns.min())
    return edge.delay_ns - runs.least_delay_ns(edge.delay_ns) + (0 if in_order else spread_ns)


def most_served(room_ns: Int64, least_ns: Int64) -> Int64:
    """Most tokens of batches one after another that take less than `room_ns` together; `least_ns` by size, from 1."""
    batches = np.maximum(0, -(-room_ns // least_ns.min()) - 1)
    most = batches * least_ns.size
    by_rate = np.zeros_like(most)
    for size, took_ns in enumerate(least_ns.tolist(), start=1):
        by_rate = np.maximum(by_rate, (room_ns - 1) * size // took_ns)
    served: Int64 = np.minimum(most, by_rate)
    return served


def sped_up(workload: Workload, runs: RunClass) -> Workload:
    """The same tokens where every message takes the least time it may."""

    def hastened(edge: Edge) -> Edge:
        return replace(edge, delay_ns=runs.least_delay_ns(edge.delay_ns))

    stages = {
        name: replace(
            tokens, messages=tuple(replace(sent, edge=hastened(sent.edge)) for sent in tokens.messages)
        )
        for name, tokens in workload.stages.items()
    }
    return replace(workload, stages=MappingProxyType(stages))


def critical_path(
    workload: Workload,
    own_ns: Callable[[str, int], int],
    exits: Mapping[str, Int64],
    query: int,
    sent: Mapping[str, Int64] | None = None,
) -> tuple[CriticalStage, ...]:
    """Follow the query's last exit back to its source, at each join along the latest arrival.

    `own_ns` says how much of the time at a stage, by stage and token, is no wait.
    """
    path: list[CriticalStage] = []
    for stage, token, arrival_ns, left_ns, edge in reversed(list(last_way(workload, exits, query, sent))):
        sending_ns = left_ns - int(exits[stage][token])
        latency_ns = own_ns(stage, token) + sending_ns
        wait_ns = left_ns - latency_ns - arrival_ns
        path.append(CriticalStage(stage, latency_ns, wait_ns, 0 if edge is None else edge.delay_ns))
    return tuple(path)


def last_way(
    workload: Workload, exits: Mapping[str, Int64], query: int, sent: Mapping[str, Int64] | None = None
) -> Iterator[tuple[str, int, int, int, Edge | None]]:
    """The way to a query's last exit, from its end.

    Stage, token, arrival (ns), when it left or was sent on (ns), and the edge it came along if any.
    """
    sent = exits if sent is None else sent
    ends = [
        (stage, token)
        for stage, tokens in workload.stages.items()
        for token in range(*np.searchsorted(tokens.query, [query, query + 1]).tolist())
    ]
    stage, token = max(ends, key=lambda end: int(exits[end[0]][end[1]]))
    left_ns = int(exits[stage][token])
    while True:
        tokens = workload.stages[stage]
        arrivals = [
            (int(sent[messages.edge.parent][parent]) + messages.edge.delay_ns, messages.edge, int(parent))
            for messages in tokens.messages
            for parent in messages.parent[messages.child == token]
        ]
        source = (int(workload.ingress_ns[tokens.query[token]]), None, 0)
        arrival_ns, edge, sender = max(arrivals, key=lambda arrival: arrival[0], default=source)
        yield stage, token, arrival_ns, left_ns, edge
        if edge is None:
            return
        stage, token, left_ns = edge.parent, sender, arrival_ns - edge.delay_ns
