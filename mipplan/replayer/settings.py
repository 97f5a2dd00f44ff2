"""What a replay is subject to besides plan, trace and draws of tokens: checked, and as an engine is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mipplan.core import (
    Fault,
    Faults,
    InputError,
    Int64,
    check_all,
    check_kinds,
    check_one_of,
    check_seed,
    listed,
    shown,
    suggestion,
)
from mipplan.pipeline import (
    CollectionWindow,
    Discipline,
    Dispatch,
    DispatchLaw,
    Laws,
    Routing,
    ServingSystem,
    Stagger,
    System,
    are_timed,
    collecting_for,
    read_system,
    systems_of,
)
from mipplan.replayer.engines import resolve_engine
from mipplan.replayer.noise import ServiceNoise
from mipplan.replayer.schedule import ReplicaSchedule
from mipplan.replayer.stage_task import Capacity, EngineFeature, StageTask, no_times
from mipplan.result import Figures, Plan, StageReplay
from mipplan.tokens import StageTokens
from mipplan.trace import Trace

#: For all stages, for those named, or none.
Noise: TypeAlias = ServiceNoise | Mapping[str, ServiceNoise] | None


@dataclass(frozen=True)
class ReplaySettings:
    """What a replay is subject to; stages that `schedule` or `noise` do not name keep the plan's replicas and ℓ(k).

    Without a discipline, laws, staggers or windows, or where these do not name a stage, those of each plan hold. Under
    a serving system's law every stage is eager and as the system has it.
    """

    discipline: Discipline | None = None
    schedule: Mapping[str, ReplicaSchedule] = field(default_factory=dict)
    noise: Noise = None
    dispatch: Dispatch = None
    stagger_s: Stagger = None
    system: System = None
    window_s: CollectionWindow = None

    @property
    def has_system(self) -> bool:
        """Whether batches are made by a serving system's law."""
        return self.system is not None

    def systems_of(self, plan: Plan) -> dict[str, ServingSystem]:
        """The law of the serving system at the stages where it is not that of eager dispatch."""
        if self.system is None:
            windows_ns = plan.windows_ns(self.laws_of(plan), self.window_s)
            return {stage: collecting_for(ns) for stage, ns in windows_ns.items()}
        systems = systems_of(self.system, self.window_s, plan.pipeline.stages)
        return {stage: system for stage, system in systems.items() if not system.is_plain}

    @property
    def noises(self) -> tuple[ServiceNoise, ...]:
        """Every noise there is at some stage."""
        if isinstance(self.noise, Mapping):
            return tuple(self.noise.values())
        return () if self.noise is None else (self.noise,)

    def noise_at(self, stage: str) -> ServiceNoise | None:
        """The noise at a stage, if any."""
        return self.noise.get(stage) if isinstance(self.noise, Mapping) else self.noise

    def needed(self, plans: Iterable[Plan], *, in_pieces: bool = False) -> frozenset[EngineFeature]:
        """What an engine must be able to do to replay these plans, at once or piece by piece."""
        paced = any(DispatchLaw.PACED in self.laws_of(plan).values() for plan in plans)
        changing = any(not schedule.capacity.is_constant for schedule in self.schedule.values())
        wanted = {
            # A paced stage may let tokens wait beyond a piece though a replica idles: nobody serves it until the next.
            EngineFeature.SCHEDULE: changing or (paced and in_pieces),
            EngineFeature.RANDOM_SERVICE: bool(self.noises),
            EngineFeature.RESUME: in_pieces,
            EngineFeature.PACED: paced,
            EngineFeature.SYSTEM: any(map(self.systems_of, plans)),
        }
        return frozenset(feature for feature, wants in wanted.items() if wants)

    def laws_of(self, plan: Plan) -> Laws:
        """Dispatch law of every stage."""
        if self.has_system:
            return dict.fromkeys(plan.pipeline.stages, DispatchLaw.EAGER)
        return plan.laws if self.dispatch is None else plan.pipeline.laws(self.dispatch, plan.laws)

    def law_at(self, plan: Plan, stage: str) -> DispatchLaw:
        """Dispatch law of one stage."""
        if self.has_system:
            return DispatchLaw.EAGER
        if isinstance(self.dispatch, str):
            return DispatchLaw(self.dispatch)
        if self.dispatch is not None and stage in self.dispatch:
            return DispatchLaw(self.dispatch[stage])
        return dict(plan.objective.dispatch).get(stage, DispatchLaw.EAGER)

    def staggers_ns(self, plan: Plan) -> dict[str, int]:
        """Time between the outputs of a batch on their way to other stages, of every stage."""
        found = plan.pipeline.staggers_ns(self.laws_of(plan), self.stagger_s)
        if self.system is not None and self.stagger_s is None:
            own_ns = read_system(self.system).stagger_ns
            found |= {edge.parent: max(found[edge.parent], own_ns) for edge in plan.pipeline.edges}
        return found

    def discipline_of(self, plan: Plan) -> Discipline:
        """Queue discipline of every stage."""
        of_system = None if self.system is None else read_system(self.system).discipline
        return self.discipline or of_system or plan.discipline

    def certificate_applies(self, plan: Plan) -> bool:
        """Whether the plan's certificate (`mipplan.certify`) covers such a replay, whatever its theorem.

        It does under the plan's laws, discipline and replicas, if no batch takes longer than ℓ(k), nor less than the
        class of runs allows that the certificate is for, outputs are no further apart than planned, and batches are
        collected from one queue, for no longer than planned.
        """
        as_planned = self.discipline_of(plan) is plan.discipline and self.laws_of(plan) == plan.laws
        as_planned = as_planned and self._sends_as_planned(plan) and self._collects_as_planned(plan)
        least = 0.0 if plan.runs is None else plan.runs.least_service
        within = all(noise.stays_within(least) for noise in self.noises)
        return as_planned and not self.schedule and within

    def _collects_as_planned(self, plan: Plan) -> bool:
        """Whether every stage has one queue, of which an idle replica takes at once, and begins within its window."""
        planned_ns = plan.pipeline.windows_ns(plan.laws)
        return all(
            system.routing is Routing.CENTRAL
            and system.most_waiting is None
            and (system.window_ns <= planned_ns[stage] or plan.choices[stage].batch == 1)
            for stage, system in self.systems_of(plan).items()
        )

    def _sends_as_planned(self, plan: Plan) -> bool:
        """Whether outputs are no further apart than planned, and sent on in the order of a replica's batches.

        That is of account to sharp certificates alone, which take it for granted where tables allow for it; batches
        that are much shorter than their table may break it. Timed stages do exactly as planned, or not at all.
        """
        planned_ns, staggers_ns = plan.pipeline.staggers_ns(plan.laws), self.staggers_ns(plan)
        if not any([*planned_ns.values(), *staggers_ns.values()]):
            return True
        if are_timed(plan.laws):
            return planned_ns == staggers_ns
        for stage, stagger_ns in staggers_ns.items():
            noise, cap = self.noise_at(stage), plan.choices[stage].batch
            if stagger_ns > planned_ns[stage]:
                return False
            if plan.runs is not None and noise is not None:
                is_assumed = (cap - 1) * planned_ns[stage] <= plan.service_ns(stage).min()
                if is_assumed and noise.service_ns(plan.table(stage), cap).min() < (cap - 1) * stagger_ns:
                    return False
        return True

    def paid_ns(self, stage: str, seen: StageReplay, start_ns: int, end_ns: int) -> int:
        """Replica-nanoseconds paid for at a stage between two instants."""
        scheduled = self.schedule.get(stage)
        if scheduled is None:
            return seen.replicas * (end_ns - start_ns)
        return scheduled.paid_ns(seen.batch_start_ns, seen.batch_service_ns, start_ns, end_ns)

    def service(self, seed: int) -> str:
        """Say what service times are drawn from."""
        if isinstance(self.noise, Mapping):
            at = [f"{stage}: {noise.describe(seed)}" for stage, noise in self.noise.items()]
            return "; ".join(at) or "as measured"
        return "as measured" if self.noise is None else self.noise.describe(seed)

    def levels(
        self, seed: int, tokens: StageTokens, numbers: Int64 | None = None
    ) -> NDArray[np.uint16] | None:
        """Level of random service for every token of a stage; see `ServiceNoise.draw_levels`."""
        noise = self.noise_at(tokens.name)
        return None if noise is None else noise.draw_levels(seed, tokens, numbers)


def read_settings(
    plans: Sequence[Plan],
    discipline: str | None = None,
    schedule: Mapping[str, ReplicaSchedule] | None = None,
    noise: Noise = None,
    dispatch: Dispatch = None,
    stagger_s: Stagger = None,
    system: System = None,
    window_s: CollectionWindow = None,
    *,
    also: Iterable[Callable[[], object]] = (),
) -> ReplaySettings:
    """Check the settings of a replay of these plans, with `also` further checks whose faults are told together.

    Raises
    ------
    InputError
        With every fault.
    NoPlanError
        If a plan holds no choices.
    """
    asked = [plan.require() for plan in plans]
    faults = Faults()
    for check in also:
        faults.take(check)
    faults.take(lambda: _check_discipline(discipline))
    for pipeline in {id(plan.pipeline): plan.pipeline for plan in asked}.values():
        faults.take(partial(pipeline.laws, dispatch))
        faults.take(partial(pipeline.staggered, stagger_s))
        faults.take(partial(pipeline.collecting, window_s))
    if system is not None:
        faults.take(lambda: read_system(system))
        refused = {
            "dispatch": (dispatch, "it makes batches by itself"),
            "schedule": (schedule, "replicas are constant"),
        }
        for place, (given, why) in refused.items():
            if given:
                faults.add(Fault(place, f"does not go with a serving system's law: {why} there"))
    expected = "stage names to ReplicaSchedule"
    faults.add(*_entry_faults(asked, "schedule", schedule, ReplicaSchedule, expected))
    faults.add(*_noise_faults(asked, noise))
    faults.check()
    kept = dict(noise) if isinstance(noise, Mapping) else noise
    wanted = None if discipline is None else Discipline(discipline)
    settings = ReplaySettings(wanted, dict(schedule or {}), kept, dispatch, stagger_s, system, window_s)
    if schedule:
        check_all(*(partial(check_at_once, plan, settings, "replicas are constant") for plan in asked))
    return settings


def check_at_once(plan: Plan, settings: ReplaySettings, why: str) -> None:
    """Raise `InputError` if replays of a plan collect batches, given what is asked for that they cannot do then."""
    if collecting := settings.systems_of(plan):
        message = f"{why} in replays where batches are collected, as at {listed(collecting)}: replay with a window of 0"
        raise InputError.one("window_s", message)


def plan_features(plan: Plan) -> frozenset[EngineFeature]:
    """What an engine must be able to do to replay plans of the same pipeline and laws, whatever their choices."""
    return ReplaySettings().needed([replace(plan, choices={}, figures=Figures())])


def stage_identity(plan: Plan, stage: str, settings: ReplaySettings) -> tuple[object, ...]:
    """What decides how a plan serves given arrivals: plans alike in this serve them alike."""
    choice, table = plan.require().choices[stage], plan.table(stage)
    # Random service may follow from more of the profile than ℓ.
    columns = (table.batch, table.latency_ms, table.latency_p50_ms, table.latency_p99_ms)
    measured = (None if column is None else column.tobytes() for column in columns)
    known_as = (table.model, table.hardware, table.latency)
    manner = (settings.law_at(plan, stage), settings.discipline_of(plan))
    return (
        None if stage in settings.schedule else choice.replicas,
        choice.batch,
        *manner,
        *known_as,
        *measured,
    )


def blank_task(plan: Plan, stage: str, settings: ReplaySettings) -> StageTask:
    """What an engine is asked for one stage of a plan, without a token."""
    choice = plan.require().choices[stage]
    scheduled = settings.schedule.get(stage)
    capacity = Capacity.constant(choice.replicas) if scheduled is None else scheduled.capacity
    noise, law, table_ns = settings.noise_at(stage), settings.law_at(plan, stage), plan.service_ns(stage)
    service_ns = table_ns[np.newaxis]
    if noise is not None:
        service_ns = noise.service_ns(plan.table(stage), choice.batch)
    if law is DispatchLaw.TIMED:  # what is done before its time is held back
        service_ns = np.maximum(service_ns, table_ns)
    fifo = settings.discipline_of(plan) is Discipline.FIFO
    pace_ns = table_ns if law is DispatchLaw.PACED else None
    system = settings.systems_of(plan).get(stage)
    return StageTask(no_times(), service_ns, capacity, fifo, pace_ns=pace_ns, system=system)


def check_plan(plan: object, place: str = "plan") -> None:
    """Refuse what is no plan, such as the name of its file."""
    check_kinds(**{place: (plan, Plan)})


def check_trace(trace: object) -> None:
    """Refuse what is no trace, such as the name of its file."""
    if not isinstance(trace, Trace):
        message = f"expected a Trace, found {shown(trace)}; Trace.read(…) reads a file"
        raise InputError.one("trace", f"{message}, Trace.from_seconds(…) and Trace.from_ns(…) take times")


def check_manner(discipline: str | None, engine: str, seed: int | None) -> None:
    """Check what can be checked of a replay before plan and trace are at hand; all faults are told at once."""
    check_all(lambda: _check_discipline(discipline), *engine_and_seed(engine, seed))


def _check_discipline(discipline: str | None) -> None:
    if discipline is not None:
        check_one_of("discipline", discipline, Discipline)


def engine_and_seed(engine: str, seed: int | None) -> list[Callable[[], object]]:
    """Checks of these two."""
    return [lambda: resolve_engine(engine, frozenset()), lambda: None if seed is None else check_seed(seed)]


def _noise_faults(plans: list[Plan], noise: Noise) -> list[Fault]:
    if isinstance(noise, ServiceNoise):
        return _profile_faults(plans, {stage: noise for plan in plans for stage in plan.choices})
    expected = "a ServiceNoise, or stage names to such"
    return _entry_faults(plans, "noise", noise, ServiceNoise, expected) or _profile_faults(plans, noise or {})


def _entry_faults(plans: list[Plan], what: str, entries: object, kind: type, expected: str) -> list[Fault]:
    """What is wrong with the keys and the types of what is given by stage; nothing with None."""
    if not isinstance(entries, Mapping):
        return [] if entries is None else [Fault(what, f"expected {expected}, found {shown(entries)}")]
    faults = []
    for stage, given in entries.items():
        place = f"{what}.{stage}"
        if not isinstance(given, kind):
            faults.append(Fault(place, f"expected a {kind.__name__}, found {shown(given)}"))
        for stages in (plan.pipeline.stages for plan in plans):
            if stage not in stages:
                message = (
                    f"there is no such stage{suggestion(stage, stages)}; the stages are {listed(stages)}"
                )
                faults.append(Fault(place, message))
    return faults


def _profile_faults(plans: list[Plan], noise: Mapping[str, ServiceNoise]) -> list[Fault]:
    return [
        fault
        for plan in plans
        for stage, given in noise.items()
        if stage in plan.choices
        for fault in given.faults(stage, plan.table(stage))
    ]
