"""The classic certificate: exits bounded by one latency T and one rate R per stage.

The proof is in [theory, section 3][3-the-certificate]. Where queues are served by arrival at the stage (``fifo``),
younger tokens may be ahead. How many is counted in two ways, from stage to stage and by bounds on all arrivals:
[queues in order of arrival][queues-in-order-of-arrival].

It needs the tokens and each stage's service (T, R), nothing else: neither the options a planner considered nor
a solver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mipplan.calculus import TIME_CHECK, StageService, latest_start_ns, stage_service
from mipplan.core import TOLD, Fault, Faults, InputError, Int64, check_all
from mipplan.pipeline import Discipline, Edge, Join
from mipplan.result import CertificateKind, CriticalStage, Plan, RunClass
from mipplan.tokens import Workload


def check_discipline(discipline: Discipline) -> None:
    """Raise `InputError` if no theorem covers the discipline inside an arrival curve."""
    if discipline is Discipline.FIFO:
        message = (
            "no theorem covers fifo queues inside an arrival curve, under any dispatch: plan for oldest_first"
        )
        raise InputError.one("discipline", message)


def check_covered(
    discipline: str, certificate: str, runs: RunClass | None = None, *, inside_curve: bool = False
) -> None:
    """Raise `InputError` listing all that no theorem about services covers."""
    by_arrival = Discipline(discipline) is Discipline.FIFO
    check_all(
        lambda: check_discipline(Discipline(discipline)) if inside_curve else None,
        lambda: check_by_arrival(certificate, runs) if by_arrival else None,
    )


def check_by_arrival(certificate: str, runs: RunClass | None) -> None:
    """Raise `InputError` for what the certificate of fifo queues is not, and does not hold for."""
    faults = Faults()
    if certificate == CertificateKind.SHARP:
        faults.add(Fault("certificate", "the sharp one is about oldest first, and this is fifo"))
    if runs is not None and not runs.is_settled:
        message = 'expected "settled": tokens that come at one instant are ahead of each other in token order'
        faults.add(Fault("runs.ties", message))
    faults.check()


def plan_services(plan: Plan, overtaking: RunClass | None = None) -> dict[str, StageService]:
    """Service curve of each stage under the plan's choices and laws; for fifo queues with what may overtake."""
    pipeline, laws = plan.require().pipeline, plan.laws
    staggers_ns, windows_ns = pipeline.staggers_ns(laws), pipeline.windows_ns(laws)
    services = {}
    for stage, choice in plan.choices.items():
        table, replicas = plan.service_ns(stage), choice.replicas
        times_ns = staggers_ns[stage], windows_ns[stage]
        own = stage_service(table, replicas, not pipeline.incoming(stage), laws[stage], *times_ns)
        if overtaking is not None:
            slacks_ns = delay_slacks_ns(pipeline.outgoing(stage), overtaking)
            (passing,) = most_passing(table, np.array([replicas]), slacks_ns, overtaking, *times_ns).tolist()
            own = replace(own, passing=tuple(passing))
        services[stage] = own
    return services


class CertificateEvaluator:
    """Certificates of many plans on one workload, recomputing only what changed since the last one.

    A stage's exits depend on its own service and its parents' exits; a search that alters one stage at a time
    leaves most of them as they were.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        pipeline = workload.pipeline
        self._above = {name: {edge.parent for edge in pipeline.incoming(name)} for name in workload.stages}
        self._known: dict[str, object] = {}
        self._exits: dict[str, Int64] = {}

    def latency_ns(self, services: Mapping[str, StageService]) -> Int64:
        """Bound on each query's latency under `services`, ns, shape (n,)."""
        return self.workload.latency_ns(self.exits_ns(services))

    def exits_ns(self, services: Mapping[str, StageService]) -> Mapping[str, Int64]:
        """Bound on the exit of every token of every stage, ns; it stands until the next call."""
        stale = self._stale(services)
        for done, stage in enumerate(stale):
            TOLD.get()(f"recomputing the certificate: {done / len(stale):.0%} of the stages")
            self._exits[stage] = stage_exits_ns(self.workload, stage, services[stage], self._exits)
            self._known[stage] = services[stage]
        return self._exits

    def _stale(self, decisive: Mapping[str, object]) -> list[str]:
        """Stages whose exits are not known any more, given what they depend on beside those of their parents."""
        stale: list[str] = []
        for stage in self.workload.stages:
            if self._known.get(stage) != decisive[stage] or not self._above[stage].isdisjoint(stale):
                stale.append(stage)
        # All are forgotten before the first is replaced: an interrupt in between leaves nothing that is wrong.
        for stage in stale:
            self._known.pop(stage, None)
        return stale

    def forget(self) -> None:
        """Let go of the last services and their exits: they take as much memory as the workload itself."""
        self._known.clear()
        self._exits = {}


def stage_exits_ns(
    workload: Workload, stage: str, service: StageService, exits: Mapping[str, Int64]
) -> Int64:
    """Bound X_v(i) on the exit of every token of one stage, given its parents' in `exits`; shape (tokens,).

    ``X = T + max_{j ≤ i} (E(j) + (i − j)/R)``: the [theorem (sample path)][theorem-sample-path].
    """
    TIME_CHECK.get()()
    arrival = workload.arrival_ns(stage, exits)
    number = workload.stages[stage].number
    exit_ns = latest_start_ns(arrival, service.period_ns, service.tokens, number)
    exit_ns += service.latency_ns
    return exit_ns


class FifoEvaluator(CertificateEvaluator):
    """The same where queues are served by arrival, for a class of runs: services say how many tokens may pass.

    Of a `restricted` workload, whose evaluator as a `whole` is given as well, it bounds the exits from below: a token
    that is left out counts as arrived before any moment after the earliest at which it may be.

    References
    ----------
    [Theorem (fifo)][theorem-fifo].
    """

    def __init__(self, workload: Workload, runs: RunClass, whole: FifoEvaluator | None = None) -> None:
        super().__init__(workload)
        #: A: when tokens arrive at the earliest, which no service decides; those left out, and all, by time.
        self._earliest_ns: dict[str, Int64] = {}
        self._others_ns: dict[str, Int64] = {}
        self._sorted_ns: dict[str, Int64] = {}
        self._inflows: dict[str, _Inflow] = {}
        if whole is not None:
            self._inflows, self._sorted_ns = whole._inflows, whole._sorted_ns
            for stage, tokens in workload.stages.items():
                others = np.delete(whole._earliest_ns[stage], () if tokens.number is None else tokens.number)
                self._others_ns[stage] = np.sort(others, kind="stable")
            return
        early = workload if runs.least_delay == 1.0 else sped_up(workload, runs)
        for stage in workload.stages:
            self._inflows[stage] = _Inflow.of(workload, stage, runs)
            self._earliest_ns[stage] = early.arrival_ns(stage, self._earliest_ns)
            self._sorted_ns[stage] = np.sort(self._earliest_ns[stage], kind="stable")

    def exits_ns(self, services: Mapping[str, StageService]) -> Mapping[str, Int64]:
        """Bound on the exit of every token of every stage, ns; it stands until the next call."""
        younger: dict[str, int | None] = {}
        for stage in self.workload.stages:
            younger[stage] = self._inflows[stage].overtakers(younger, services)
        decisive = {stage: (replace(services[stage], passing=()), younger[stage]) for stage in younger}
        for stage in self._stale(decisive):
            self._exits[stage] = self._stage_exits_ns(stage, services[stage], younger[stage])
            self._known[stage] = decisive[stage]
        return self._exits

    def _stage_exits_ns(self, stage: str, service: StageService, younger: int | None) -> Int64:
        TIME_CHECK.get()()
        arrival_ns, number = self.workload.arrival_ns(stage, self._exits), self.workload.stages[stage].number
        count, rate = self._sorted_ns[stage].size, (service.period_ns, service.tokens)
        start_ns = latest_start_ns(arrival_ns, *rate, number)
        if younger != 0 and arrival_ns.size:
            in_order_ns = start_ns
            start_ns = self._by_interval_ns(stage, arrival_ns, *rate)
            if younger is not None:
                everyone = np.arange(arrival_ns.size, dtype=np.int64)
                behind = (everyone if number is None else number) + np.int64(min(younger, count))
                probes = (everyone, np.minimum(behind, count - 1))
                start_ns = np.minimum(start_ns, latest_start_ns(arrival_ns, *rate, number, probes))
            # What bounds the oldest first is no bound here. But the planner's relaxation lies below it.
            start_ns = np.maximum(start_ns, in_order_ns)
        return start_ns + service.latency_ns

    def _by_interval_ns(self, stage: str, arrival_ns: Int64, period_ns: int, tokens: int) -> Int64:
        """Bound on starts by counting who may arrive between the start of a backlogged period and a token, ns.

        ``max_{s ≤ E(i)} ( s − N_E(s⁻)/R ) + (N_A(E(i)) − 1)/R``, rounded up; s needs only be one of the E.
        """
        in_order = bool((arrival_ns[1:] >= arrival_ns[:-1]).all())
        by_latest = arrival_ns if in_order else np.sort(arrival_ns, kind="stable")
        last = np.searchsorted(by_latest, arrival_ns, side="right") - 1
        before = np.searchsorted(self._sorted_ns[stage], arrival_ns, side="right") - 1
        since, others_ns = np.arange(arrival_ns.size, dtype=np.int64), self._others_ns.get(stage)
        if others_ns is not None:
            since += np.searchsorted(others_ns, by_latest, side="left")
        return latest_start_ns(by_latest, period_ns, tokens, since, (last, before))


@dataclass(frozen=True)
class _Inflow:
    """What decides how many younger tokens may arrive at a stage before a token of it, but for what passes above."""

    #: Of each incoming edge: the parent, which of the numbers of its service counts, and the most messages of a token.
    senders: tuple[tuple[str, int, int], ...]
    ordered: bool  # Whether token order says anything about the order of arrival.

    @classmethod
    def of(cls, workload: Workload, stage: str, runs: RunClass) -> _Inflow:
        tokens, pipeline = workload.stages[stage], workload.pipeline
        merges, senders = pipeline.stages[stage].join is Join.ALL, []
        for messages in tokens.messages:
            edge = messages.edge
            slacks_ns = delay_slacks_ns(pipeline.outgoing(edge.parent), runs)
            copies = 1 if merges or not messages.parent.size else int(np.bincount(messages.parent).max())
            senders.append((edge.parent, slacks_ns.index(_delay_slack_ns(edge, runs)), copies))
        if merges:
            # A token is overtaken along the edge of its last message, if everybody gets one along that edge.
            ordered = all(
                np.bincount(messages.child, minlength=tokens.count).all() for messages in tokens.messages
            )
        else:
            ordered = len(senders) <= 1  # Tokens of several edges come in any order.
        return cls(tuple(senders), ordered)

    def overtakers(self, above: Mapping[str, int | None], services: Mapping[str, StageService]) -> int | None:
        """At most so many, given those of the stages above; None: no limit is known."""
        most = 0
        for parent, place, copies in self.senders:
            ahead, passing = above[parent], services[parent].passing[place]
            if ahead is None or passing >= NO_LIMIT or not self.ordered:
                return None
            along, apart = divmod(passing, 2)
            most = max(most, copies * (ahead + along) + (copies - 1 if apart else 0))
        return most


#: As many tokens as there may be: no limit is known.
NO_LIMIT = 2**62


def most_passing(
    service_ns: Int64,
    replicas: Int64,
    slacks_ns: Sequence[int],
    runs: RunClass,
    stagger_ns: int = 0,
    window_ns: int = 0,
) -> Int64:
    """How many tokens that were behind a token may be sent before it, for many numbers of replicas; shape (m, slacks).

    Told for messages whose times differ by up to each of `slacks_ns`. It is twice the number of tokens, and 1 more
    where copies of one token may overtake each other, too: fewer tokens are always better, copies or not. It grows
    with replicas and slack. `NO_LIMIT` where none is known.

    References
    ----------
    [Lemma (overtaking by arrival)][lemma-overtaking-by-arrival],
    [staggered outputs][lemma-overtaking-staggered], [collected batches][lemma-overtaking-collecting].
    """
    batch, spread_ns = service_ns.size, (service_ns.size - 1) * stagger_ns
    own_ns = int(service_ns.max()) + min(batch - 1, 1) * window_ns
    columns = [np.empty((replicas.size, 0), dtype=np.int64)]
    for slack_ns in slacks_ns:
        apart_ns = slack_ns + _disorder_ns(spread_ns, service_ns)
        if runs.least_service == 0.0:
            column = np.where((replicas > 1) | (apart_ns > 0), NO_LIMIT, 0)
        else:
            late_ns = apart_ns + spread_ns
            room_ns = np.array([own_ns + late_ns, late_ns])
            beside, behind = most_served(room_ns, runs.least_service_ns(service_ns)).tolist()
            column = 2 * ((replicas - 1) * beside + (behind + batch - 1 if apart_ns else 0)) + (apart_ns > 0)
        columns.append(column[:, None])
    return np.concatenate(columns, axis=1)


def delay_slacks_ns(edges: Iterable[Edge], runs: RunClass) -> tuple[int, ...]:
    """By how much the delays of messages along the edges of a stage may differ, each once, ascending."""
    return tuple(sorted({_delay_slack_ns(edge, runs) for edge in edges}))


def _delay_slack_ns(edge: Edge, runs: RunClass) -> int:
    return edge.delay_ns - runs.least_delay_ns(edge.delay_ns)


def _disorder_ns(spread_ns: int, service_ns: Int64) -> int:
    """By how much the times at which one replica sends on what it served may differ, if that can change their order.

    The outputs of a batch are sent on in its order, and before those of the replica's next batch, which takes at least
    as long as they need: (Σ) in [staggered outputs][staggered-outputs]. Where even the shortest batch of the table does
    not, nothing is known of their order.
    """
    return 0 if spread_ns <= int(service_ns.min()) else spread_ns


def slack_ns(edge: Edge, runs: RunClass, spread_ns: int, service_ns: Int64) -> int:
    """By how much the times of messages along an edge may differ, if that can change the order of one replica's."""
    return _delay_slack_ns(edge, runs) + _disorder_ns(spread_ns, service_ns)


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
