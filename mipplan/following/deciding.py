"""From counts to replica counts: the policies of the simulation, fed with what metrics tell. No clock, no network.

Policies see the ingress of every query. Metrics tell how many came between two looks, so these are placed at random
between them, by a seed that is the instant: the same counts always lead to the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.core import NS_PER_S, Int64
from mipplan.following.readings import Scrape, StageFigures
from mipplan.tuner import Observation, Policy, ReplicaState, Setting, StageObservation, checked_counts


@dataclass(frozen=True)
class StageTick:
    """One stage over one control period: a `StageObservation` without what it was told to have."""

    active: int
    waiting: int
    under_way: int
    arrived: int
    busy_ns: int
    active_ns: int
    ongoing_ns: int


@dataclass(frozen=True)
class Tick:
    """What was counted in one control period.

    Attributes
    ----------
    edges_ns : tuple of int
        When was looked, increasing; the first is the end of the period before.
    queries : tuple of int
        How many entered between each two looks: one fewer.
    stages : mapping of str to StageTick
        In topological order.
    """

    edges_ns: tuple[int, ...]
    queries: tuple[int, ...]
    stages: Mapping[str, StageTick]

    @property
    def now_ns(self) -> int:
        """End of the period."""
        return self.edges_ns[-1]

    def observation(self, replicas: Mapping[str, int]) -> Observation:
        """Return what a policy sees of it, given what stages are told to have."""
        draws = np.random.default_rng(self.now_ns)
        pieces = [
            np.sort(draws.integers(low, high, size=count))
            for low, high, count in zip(self.edges_ns, self.edges_ns[1:], self.queries, strict=False)
        ]
        arrival_ns: Int64 = np.concatenate(pieces).astype(np.int64)
        return Observation(
            self.now_ns,
            self.now_ns - self.edges_ns[0],
            arrival_ns,
            {
                stage: StageObservation(replicas[stage], **vars(figures))
                for stage, figures in self.stages.items()
            },
        )


class TickBuilder:
    """Puts looks together to control periods.

    What no metric tells is made of the looks: integrals by trapezoids, tokens under way by what the batches have, and
    active replicas by what the target says.
    """

    def __init__(self, start_ns: int) -> None:
        self._edges = [start_ns]
        self._queries: list[int] = []
        self._carried = 0.0
        self._sums: dict[str, dict[str, float]] = {}
        self._last: dict[str, tuple[float, float, float]] = {}

    @property
    def looks(self) -> int:
        """Looks since the last period ended."""
        return len(self._queries)

    def add(self, at_ns: int, scrape: Scrape, active: Mapping[str, int]) -> None:
        """Take in a look, given how many replicas serve where the metrics do not say."""
        length_ns = at_ns - self._edges[-1]
        if length_ns <= 0:
            return
        self._edges.append(at_ns)
        self._carried += scrape.queries
        self._queries.append(int(self._carried))
        self._carried -= self._queries[-1]
        for stage, figures in scrape.stages.items():
            self._add_stage(
                stage, figures, active[stage] if figures.active is None else figures.active, length_ns
            )

    def _add_stage(self, stage: str, figures: StageFigures, active: int, length_ns: int) -> None:
        sums = self._sums.setdefault(stage, dict.fromkeys(("arrived", "busy", "active", "ongoing"), 0.0))
        under_way = figures.under_way
        if under_way is None:
            # Little's law: tokens in service are their time in service per time.
            under_way = 0.0 if figures.served_s is None else figures.served_s * NS_PER_S / length_ns
        now = (figures.waiting, under_way, float(active))
        before = self._last.get(stage, now)
        self._last[stage] = now
        waiting, served, serving = ((a + b) / 2 * length_ns for a, b in zip(before, now, strict=True))
        sums["arrived"] += figures.arrived
        sums["active"] += serving
        sums["ongoing"] += waiting + (served if figures.served_s is None else figures.served_s * NS_PER_S)
        sums["busy"] += min(served, serving) if figures.busy_s is None else figures.busy_s * NS_PER_S

    def close(self) -> Tick:
        """End the period at the last look; there must have been one."""
        stages = {}
        for stage, sums in self._sums.items():
            waiting, under_way, active = self._last[stage]
            stages[stage] = StageTick(
                int(active),
                round(waiting),
                round(under_way),
                round(sums["arrived"]),
                *(round(sums[name]) for name in ("busy", "active", "ongoing")),
            )
        tick = Tick(tuple(self._edges), tuple(self._queries), stages)
        self._edges, self._queries, self._sums = [tick.now_ns], [], {}
        return tick


class Decider:
    """A policy on its way: counts in, replica counts out, within what the plan's stages and hardware allow.

    The simulation asks its controllers in the same words and grants their wishes by the same rules: given the same
    counts, both decide the same.

    Parameters
    ----------
    setting : Setting
    policy : Policy
    replicas : mapping of str to int, optional
        What stages are told to have at the beginning; the plan's by default.
    """

    def __init__(self, setting: Setting, policy: Policy, replicas: Mapping[str, int] | None = None) -> None:
        self._setting, self._name = setting, policy.name
        self._controller = policy.start(setting)
        self._state = ReplicaState(setting)
        self._state.replicas.update(replicas or {})
        self.notes: tuple[str, ...] = tuple(getattr(self._controller, "notes", ()))

    @property
    def replicas(self) -> dict[str, int]:
        """What stages are told to have now."""
        return dict(self._state.replicas)

    def decide(
        self, tick: Tick, *, present: Mapping[str, int] | None = None, least: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Decide what stages are told to have from now on.

        Parameters
        ----------
        tick : Tick
        present : mapping of str to int, optional
            What they have, if that is not what was decided before, as in shadow mode.
        least : mapping of str to int, optional
            No stage gets fewer.

        Raises
        ------
        InputError
            If the policy answers something else than whole numbers for stages that there are.
        """
        self._state.replicas.update(present or {})
        seen = tick.observation(self._state.replicas)
        wanted = checked_counts(self._name, self._controller.decide(seen), self._setting.stages)
        floors = least or {}
        held = {stage: max(wanted.get(stage, n), floors.get(stage, 0)) for stage, n in self.replicas.items()}
        self._state.command(tick.now_ns, held)
        return self.replicas


@dataclass(frozen=True)
class ByCounts:
    """A policy that sees counts only, `looks` of them a period, as `mipplan.follow` does: to simulate that.

    ``mipplan.tune(plan, trace, policies=[ByCounts(Lp())])`` says what following would have done.

    Parameters
    ----------
    policy : Policy
    looks : int
    told : callable, optional
        Given every tick.
    """

    policy: Policy
    looks: int = 4
    told: Callable[[Tick], None] | None = None

    @property
    def name(self) -> str:
        """That of the policy."""
        return self.policy.name

    def start(self, setting: Setting) -> _CountingController:
        """Start the policy."""
        return _CountingController(self, setting)


class _CountingController:
    def __init__(self, policy: ByCounts, setting: Setting) -> None:
        self._policy, self._controller = policy, policy.policy.start(setting)
        self.notes: tuple[str, ...] = tuple(getattr(self._controller, "notes", ()))

    def decide(self, seen: Observation) -> Mapping[str, int]:
        begin_ns, looks = seen.now_ns - seen.period_ns, self._policy.looks
        edges = [begin_ns + seen.period_ns * look // looks for look in range(looks + 1)]
        cuts = np.searchsorted(seen.arrival_ns, edges)
        figures = {
            stage: StageTick(**{name: value for name, value in vars(one).items() if name != "replicas"})
            for stage, one in seen.stages.items()
        }
        tick = Tick(tuple(edges), tuple(np.diff(cuts).tolist()), figures)
        if self._policy.told is not None:
            self._policy.told(tick)
        return self._controller.decide(
            tick.observation({stage: one.replicas for stage, one in seen.stages.items()})
        )
