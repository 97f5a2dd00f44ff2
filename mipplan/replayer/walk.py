"""Walk a workload's stages in topological order under several plans, all queries at once or piece by piece.

Plans that are alike at a stage and at all stages above it share a *variant* there, which is served once.

**Pieces.** Pipelines are feed-forward. When all queries that enter up to an instant H are known, so is everything that
arrives at a source up to H, and every dispatch there up to H is final. A batch takes at least 1 ns, so whatever arrives
at a stage up to H comes from dispatches above it before H: stage after stage, all dispatches up to H are final.
Later ones wait for the next piece. Queries with a token not yet dispatched stay in a *window*, with what is
known of their tokens; the others are released. So the answer is bit-equal to one replay of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from mipplan.core import TOLD, Bool, Int64, frozen
from mipplan.replayer.losses import look_for_rejected
from mipplan.replayer.settings import ReplaySettings, blank_task, stage_identity
from mipplan.replayer.stage_task import (
    ALWAYS,
    NEVER,
    UNKNOWN,
    Capacity,
    Engine,
    Served,
    StageTask,
    check_end,
    no_times,
)
from mipplan.result import Following, Plan, ReplayResult, StageReplay, StageTotals
from mipplan.tokens import Workload, joined, realise_queries, without_first


@dataclass
class _Variant:
    """A stage as at least one plan configures it, below parents as that plan configures them.

    `parents` has the variant of each parent stage, and `blank` is a task without a token. Where it is served piece by
    piece, `times_ns` has the window's tokens, `UNKNOWN` if not dispatched: when they left, and, in a second row if that
    is another time (`stagger_ns`), when what they make was sent on. `busy_until_ns` has the batches under way,
    `busy_due_ns` when they should end by the table that rule P goes by.
    """

    parents: dict[str, int]
    blank: StageTask
    totals: StageTotals
    stagger_ns: int
    times_ns: Int64
    busy_until_ns: Int64 = field(default_factory=no_times)
    busy_due_ns: Int64 = field(default_factory=no_times)

    @property
    def exit_ns(self) -> Int64:
        """When each token left."""
        exit_ns: Int64 = self.times_ns[0]
        return exit_ns

    def sent_of(self, served: Served) -> Int64:
        """When what these tokens make is sent on."""
        sent_ns = served.sent_ns(self.stagger_ns, fifo=self.blank.fifo)
        return sent_ns if self.blank.system is None else np.minimum(sent_ns, UNKNOWN)


class _Walk:
    """Plans of one pipeline, and their variants at every stage walked so far."""

    def __init__(self, plans: Sequence[Plan], settings: ReplaySettings, engine: Engine) -> None:
        self._plans, self._settings, self._engine = plans, settings, engine
        self._pipeline = plans[0].pipeline
        self._variants: dict[str, dict[int, _Variant]] = {}
        self._variant_of: list[dict[str, int]] = [{} for _ in plans]

    def _enter(self, stage: str) -> None:
        """Make the variants of a stage; those of its parents must have been made."""
        variants: dict[int, _Variant] = {}
        numbers: dict[tuple[object, ...], int] = {}
        above = [edge.parent for edge in self._pipeline.incoming(stage)]
        for plan, variant_of in zip(self._plans, self._variant_of, strict=True):
            parents = {parent: variant_of[parent] for parent in above}
            identity = (stage_identity(plan, stage, self._settings), *parents.values())
            variant_of[stage] = number = numbers.setdefault(identity, len(numbers))
            if number not in variants:
                blank = blank_task(plan, stage, self._settings)
                stagger_ns = self._settings.staggers_ns(plan)[stage] if blank.batch > 1 else 0
                nothing = np.empty((2 if stagger_ns else 1, 0), dtype=np.int64)
                totals = StageTotals(blank.capacity.most)
                variants[number] = _Variant(parents, blank, totals, stagger_ns, nothing)
        self._variants[stage] = variants

    def _variant(self, plan: int, stage: str) -> _Variant:
        return self._variants[stage][self._variant_of[plan][stage]]


def replay_together(
    plans: Sequence[Plan], workload: Workload, settings: ReplaySettings, engine: Engine
) -> list[ReplayResult]:
    """Replay plans of the workload's pipeline; the engine can do what the settings need."""
    walk = _WholeReplay(plans, workload, settings, engine)
    for done, stage in enumerate(workload.stages):
        TOLD.get()(f"replaying {workload.queries:,} queries: {done / len(workload.stages):.0%} of the stages")
        walk.serve(stage)
    return [walk.result(number) for number in range(len(plans))]


class _WholeReplay(_Walk):
    def __init__(
        self, plans: Sequence[Plan], workload: Workload, settings: ReplaySettings, engine: Engine
    ) -> None:
        super().__init__(plans, settings, engine)
        self._workload = workload
        #: Of each stage served so far, one per variant.
        self._replays: dict[str, list[StageReplay]] = {}

    def serve(self, stage: str) -> None:
        """Serve a stage; all stages above it must have been served."""
        self._enter(stage)
        workload, variants = self._workload, list(self._variants[stage].values())
        # Variants below the same parents share their arrivals.
        below = {tuple(variant.parents.values()): variant for variant in variants}
        shared = {above: self._arrivals(stage, variant) for above, variant in below.items()}
        arrivals = [shared[tuple(variant.parents.values())] for variant in variants]
        level = self._settings.levels(workload.seed, workload.stages[stage])
        tasks = []
        for variant, given in zip(variants, arrivals, strict=True):
            if isinstance(given, Following):
                task, tokens = replace(variant.blank, level=level), given.above.tokens
                arrived_ns = given.above.last_exit_ns + given.delay_ns if tokens else ALWAYS
            else:
                task = replace(variant.blank, arrival_ns=given, level=level, draws=f"{workload.seed}/{stage}")
                tokens = given.size
                coming_ns = given if task.system is None else given[given < UNKNOWN]
                arrived_ns = int(coming_ns.max(initial=ALWAYS))
            check_end(task, arrived_ns, tokens)
            tasks.append(task)
        answers = self._answers(tasks, arrivals)
        self._replays[stage] = [
            StageReplay(task.capacity.most, served, given)
            for task, served, given in zip(tasks, answers, arrivals, strict=True)
        ]

    def _arrivals(self, stage: str, variant: _Variant) -> Int64 | Following:
        """When the tokens of a stage arrive; as what they follow, if the engine makes use of that."""
        above = {parent: self._replays[parent][number] for parent, number in variant.parents.items()}
        served = {parent: self._variants[parent][number] for parent, number in variant.parents.items()}
        edge = self._workload.follows(stage) if self._engine.follows else None
        if edge is not None and not served[edge.parent].stagger_ns:
            return Following(above[edge.parent].assignment, edge.delay_ns)
        sent_ns = {parent: served[parent].sent_of(seen.assignment) for parent, seen in above.items()}
        return frozen(self._workload.arrival_ns(stage, sent_ns))

    def _answers(self, tasks: list[StageTask], arrivals: list[Int64 | Following]) -> list[Served]:
        alone = [number for number, given in enumerate(arrivals) if not isinstance(given, Following)]
        served = self._engine.serve_many([tasks[number] for number in alone]) if alone else []
        answers = dict(zip(alone, served, strict=True))
        # All follow the same stage, but each may follow another replay of it.
        for following in dict.fromkeys(given for given in arrivals if isinstance(given, Following)):
            alike = [number for number, given in enumerate(arrivals) if given is following]
            served = self._engine.follow_many([tasks[number] for number in alike], following)
            answers.update(zip(alike, served, strict=True))
        return [answers[number] for number in range(len(tasks))]

    def result(self, number: int) -> ReplayResult:
        """Put together the replay of a plan."""
        plan, workload, settings = self._plans[number], self._workload, self._settings
        replays = {stage: seen[self._variant_of[number][stage]] for stage, seen in self._replays.items()}
        systems = settings.systems_of(plan)
        stages, latency_ns, rejected = look_for_rejected(workload, replays, systems.values())
        first_ns, last_ns = int(workload.ingress_ns[0]), int((workload.ingress_ns + latency_ns).max())
        if rejected is not None:  # what else there is of a query that was turned away is served all the same
            last_ns = max(last_ns, *(one.assignment.last_exit_ns for one in stages.values() if one.batches))
        hardware, terms = plan.profiles.hardware, plan.energy
        return ReplayResult(
            frozen(latency_ns),
            MappingProxyType(stages),
            settings.discipline_of(plan).value,
            self._engine.name,
            workload.seed,
            service=settings.service(workload.seed),
            certificate_applies=settings.certificate_applies(plan),
            staggers_ns=MappingProxyType(settings.staggers_ns(plan)),
            systems=MappingProxyType({stage: system.text for stage, system in systems.items()}),
            rejected=rejected,
            ingress_ns=workload.ingress_ns,
            replica_microusd_per_hour=MappingProxyType(
                {stage: hardware[choice.hardware].microusd_per_hour for stage, choice in plan.choices.items()}
            ),
            paid_replica_ns=MappingProxyType(
                {stage: settings.paid_ns(stage, seen, first_ns, last_ns) for stage, seen in stages.items()}
            ),
            draws=MappingProxyType({} if terms is None else plan.draws()),
            energy_terms=terms,
        )


@dataclass(frozen=True)
class Released:
    """Queries that are finished under every plan, all arrays of shape (k,).

    `query` has their numbers in the whole trace, increasing, and `latency_ns` one array per plan.
    """

    query: Int64
    ingress_ns: Int64
    latency_ns: tuple[Int64, ...]


class ChunkedReplay(_Walk):
    """Replays of plans of one pipeline on the same tokens, in step; alike stages below alike stages are shared.

    Parameters
    ----------
    plans : sequence of Plan
        Of one pipeline.
    engine : Engine
        That can do what they need, and `EngineFeature.RESUME`.
    seed : int
        Of the token draws.
    watch : callable, optional
        Told of each stage, as one plan has it, what an engine was asked for and what it answered.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        settings: ReplaySettings,
        engine: Engine,
        seed: int,
        watch: Callable[[str, StageTask, Served], None] | None = None,
    ) -> None:
        super().__init__(plans, settings, engine)
        self._seed, self._watch = seed, watch
        self._window: Workload = realise_queries(self._pipeline, no_times(), seed)
        #: Numbers in the whole trace of the window's queries, increasing.
        self.query = no_times()
        #: Queries taken in so far.
        self.seen = 0
        self._served_until_ns = self._until_ns = ALWAYS
        for stage in self._window.stages:
            self._enter(stage)

    @property
    def carried_tokens(self) -> int:
        """Tokens of the queries that were not released yet, at all stages."""
        return sum(tokens.count for tokens in self._window.stages.values())

    def totals(self, plan: int) -> dict[str, StageTotals]:
        """What each stage did so far under one plan, in topological order."""
        return {stage: self._variant(plan, stage).totals for stage in self._variants}

    def set_capacity(self, capacities: Mapping[str, Capacity]) -> None:
        """Change how many replicas these stages may use, under all plans, later than the instant reached."""
        for stage, capacity in capacities.items():
            for variant in self._variants[stage].values():
                variant.blank = replace(variant.blank, capacity=capacity)

    def fork(self) -> ChunkedReplay:
        """Return a replay that goes on from here by itself."""
        other = copy(self)
        other._variants = {
            stage: {number: replace(variant) for number, variant in variants.items()}
            for stage, variants in self._variants.items()
        }
        return other

    def advance(self, ingress_ns: Int64, until_ns: int = NEVER) -> None:
        """Take in the next queries, and serve everything that happens up to an instant.

        Ingress times are non-decreasing, and all later than `until_ns` of the call before. That is before the ingress
        of every query still to come; by default there is none.
        """
        chunk = realise_queries(self._pipeline, ingress_ns, self._seed, self.seen)
        numbers = np.arange(self.seen, self.seen + ingress_ns.size, dtype=np.int64)
        self.seen += ingress_ns.size
        self.query = np.concatenate([self.query, numbers])
        self._window = joined(self._window, chunk)
        self._served_until_ns, self._until_ns = self._until_ns, until_ns
        for stage, variants in self._variants.items():
            for variant in variants.values():
                shape = (variant.times_ns.shape[0], chunk.stages[stage].count)
                undispatched = np.full(shape, UNKNOWN, dtype=np.int64)
                variant.times_ns = np.concatenate([variant.times_ns, undispatched], axis=1)
            self._serve(stage, list(variants.values()))

    def _serve(self, stage: str, variants: list[_Variant]) -> None:
        level = self._settings.levels(self._seed, self._window.stages[stage], self.query)
        ready, tasks = [], []
        for variant in variants:
            sent_ns = {
                parent: self._variants[parent][number].times_ns[-1]
                for parent, number in variant.parents.items()
            }
            # At least `UNKNOWN` if that is not known yet.
            arrival_ns = self._window.arrival_ns(stage, sent_ns)
            tokens = np.flatnonzero((variant.exit_ns == UNKNOWN) & (arrival_ns <= self._until_ns))
            ready.append(tokens)
            tasks.append(
                replace(
                    variant.blank,
                    arrival_ns=arrival_ns[tokens],
                    capacity=_capacity_after(self._served_until_ns, variant.blank),
                    level=None if level is None else level[tokens],
                    busy_until_ns=variant.busy_until_ns,
                    busy_due_ns=variant.busy_due_ns,
                    until_ns=self._until_ns,
                )
            )
            check_end(tasks[-1], int(tasks[-1].arrival_ns.max(initial=ALWAYS)), tokens.size)
        answers = self._engine.serve_many(tasks)
        for variant, tokens, task, served in zip(variants, ready, tasks, answers, strict=True):
            variant.exit_ns[tokens] = np.minimum(served.exit_ns, UNKNOWN)
            if variant.stagger_ns:
                variant.times_ns[1, tokens] = np.minimum(variant.sent_of(served), UNKNOWN)
            ends_ns = np.append(variant.busy_until_ns, served.batch_start_ns + served.batch_service_ns)
            under_way = ends_ns > self._until_ns
            if task.pace_ns is not None:
                should_take_ns = task.pace_ns[served.batch_size - 1]
                due_ns = np.append(variant.busy_due_ns, served.batch_start_ns + should_take_ns)
                variant.busy_due_ns = due_ns[under_way]
            variant.busy_until_ns = ends_ns[under_way]
            variant.totals = variant.totals.plus(task.arrival_ns, served)
            if self._watch is not None:
                self._watch(stage, task, served)

    def release(self, plans: Iterable[int]) -> Released:
        """Hand over the queries that are finished under all of these plans, and forget them.

        Plans left out are given up: they are served no further, and must not be asked for again.
        """
        asked = list(plans)
        for stage, variants in self._variants.items():
            used = {self._variant_of[plan][stage] for plan in asked}
            self._variants[stage] = {number: variants[number] for number in variants if number in used}
        latencies = [self._latency_ns(plan) for plan in asked]
        finished = np.ones(self._window.queries, dtype=bool)
        for latency_ns in latencies:
            # An unknown exit is far beyond every known one, whichever time is taken off it.
            finished &= latency_ns < UNKNOWN // 2
        released = Released(
            self.query[finished],
            self._window.ingress_ns[finished],
            tuple(latency_ns[finished] for latency_ns in latencies),
        )
        self._keep(~finished)
        return released

    def _latency_ns(self, plan: int) -> Int64:
        return self._window.latency_ns(
            {stage: self._variant(plan, stage).exit_ns for stage in self._variants}
        )

    def _keep(self, kept: Bool) -> None:
        """Keep these of the window's queries. Most often they are its last few: so cut first, then pick."""
        first = int(np.argmax(kept)) if kept.any() else kept.size
        picked = kept[first:]
        rest = without_first(self._window, first)
        for stage, variants in self._variants.items():
            tokens = rest.stages[stage]
            mark = picked[tokens.query]
            for variant in variants.values():
                variant.times_ns = variant.times_ns[:, variant.exit_ns.size - tokens.count :][:, mark]
        self._window = rest if picked.all() else rest.restricted(picked)
        self.query = self.query[kept]

    def latency_floor_ns(self, plan: int) -> tuple[Int64, Bool]:
        """Bound the latency of the window's queries under one plan from below, and say which are finished.

        For a finished query it is the latency. For another, its tokens are dispatched after the instant reached,
        and not before they are ready, and then take the fastest batch of each stage still ahead.
        """
        exits: dict[str, Int64] = {}
        later_ns = min(self._until_ns, UNKNOWN) + 1
        for stage in self._variants:
            variant = self._variant(plan, stage)
            ready_ns = np.maximum(self._window.arrival_ns(stage, exits), later_ns)
            exits[stage] = np.where(
                variant.exit_ns == UNKNOWN, ready_ns + int(variant.blank.service_ns.min()), variant.exit_ns
            )
        return self._window.latency_ns(exits), self._latency_ns(plan) < UNKNOWN // 2


def _capacity_after(instant_ns: int, blank: StageTask) -> Capacity:
    """Let nothing start up to an instant, as everything up to it is served.

    Where replicas are constant, a token still waiting then has all of them busy, unless rule P makes it wait. But where
    they change, a stage without any may have tokens waiting that arrived when it had some.
    """
    capacity = blank.capacity
    if (capacity.is_constant and blank.pace_ns is None) or instant_ns == ALWAYS:
        return capacity
    now = int(np.searchsorted(capacity.from_ns, instant_ns + 1, side="right")) - 1
    settled = now == capacity.from_ns.size - 1 and capacity.from_ns[now] <= instant_ns
    if settled and blank.pace_ns is None:
        return Capacity.constant(int(capacity.replicas[now]))
    from_ns = np.concatenate([[ALWAYS, instant_ns + 1], capacity.from_ns[now + 1 :]])
    return Capacity(from_ns, np.concatenate([[0], capacity.replicas[now:]]))
