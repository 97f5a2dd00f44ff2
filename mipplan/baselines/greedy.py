"""InferLine's planner: start fast and generous, then take the action that saves most until none does.

Whether a configuration keeps the objective is asked of the replay.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from fractions import Fraction
from functools import partial

import numpy as np

from mipplan.baselines.problem import BaselineProblem, Device, pose
from mipplan.core import MICRODOLLARS_PER_DOLLAR, Deadline, Report, check_time_limit, format_duration
from mipplan.options import Configuration, Option
from mipplan.pipeline import Dispatch, Pipeline
from mipplan.profiles import Profiles
from mipplan.replayer import StageReplays, StageRun, plan_features, resolve_engine
from mipplan.result import Choice, Limit, Plan
from mipplan.trace import Trace

#: Discipline of InferLine's own estimator, and of the frameworks it configures.
DISCIPLINE = "fifo"
#: Why there may be better plans than the one found.
_STOPPED = {
    Limit.TIME: "the time limit was reached before the greedy search came to its end",
    Limit.INTERRUPT: "the greedy search was interrupted before it came to its end",
}


def inferline(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Report | None = None,
    engine: str = "auto",
    dispatch: Dispatch = None,
) -> Plan:
    """Plan by InferLine's greedy search over replays.

    *Start*: every stage on its lowest-latency hardware, smallest batch cap (1 where that is measured), fewest
    replicas (1 unless the stage demands more). If the service time of the longest path exceeds the objective,
    give up. While the replayed quantile exceeds it, add a replica to the stage with the least throughput.

    *Improve*, as long as an action of one stage keeps the objective in replay: remove a replica, or go to the next
    cheaper hardware, start that stage anew there and improve it alone with the others frozen. Take the action that
    lowers the cost most; of equal ones, remove a replica before anything else, and take the first stage. If none
    lowers the cost, increase the batch cap of the first stage that allows for it (at least double it, to where
    throughput rises): it costs nothing and may allow to remove replicas afterwards. Stages are in file order.
    Each step lowers the cost, or raises a cap at the same cost, so the search ends.

    Parameters
    ----------
    pipeline, profiles, trace, slo_s, quantile, seed
        As for `mipplan.plan`, and so are the options: admitted hardware, measured batch caps, memory, replica
        bounds and device limits.
    time_limit_s : float, optional
        Stop the search after it, with the best plan so far. None never stops.
    progress : callable, optional
        Called with one line of text as the work proceeds.
    engine : str
        As for `mipplan.replay`.
    dispatch : str or mapping of str to str, optional
        As for `mipplan.plan`: the law of the replays, and the plan's.

    Returns
    -------
    Plan
        Status ``given``: the replay kept the objective under ``fifo``, which proves nothing about other traffic or
        about cheaper plans, and no action of one stage lowers the cost any more. ``infeasible``: the greedy search
        found no start; other plans may exist. ``unknown``: the time limit came first. Its certificate is filled in
        for comparison, `effort` says how many configurations were replayed.

    Raises
    ------
    InputError
        Listing every bad argument.

    Notes
    -----
    The paper does not say which of equal actions to take, nor which batch cap to increase. Of all combinations of
    three rules for each that were tried, these make the cheapest plans (geometric mean over 35 instances,
    docs/how-to/baselines.md). A stage that may not grow passes its turn to the next slowest; hardware with too few
    devices left for a stage is passed over at the start.

    References
    ----------
    Crankshaw et al., "InferLine: latency-aware provisioning and scaling for prediction serving pipelines", SoCC
    2020, doi:10.1145/3419111.3421285, section 4, algorithms 1 and 2.
    """
    checks = (lambda: check_time_limit(time_limit_s), lambda: resolve_engine(engine, frozenset()))
    problem = pose(pipeline, profiles, trace, "inferline", slo_s, quantile, seed, checks, dispatch)
    if isinstance(problem, Plan):
        return problem
    estimator = Estimator(problem, engine, Deadline.after(time_limit_s, problem.started))
    search = GreedySearch(problem, estimator, progress or (lambda _: None))
    stopped = search.run()
    why = f"the greedy search gives up: {search.failure}" if stopped is None else _STOPPED[stopped]
    if search.best is None:
        return problem.without_plan(why, estimator.calls, stopped)
    return problem.given(search.best, estimator.calls, stopped and why, stopped)


class TimeUpError(Exception):
    """The search's time limit has passed."""


class Estimator:
    """Judges configurations by exact replays, each once.

    A configuration is refused at the first stage by which too many queries are late. After the deadline every question
    raises `TimeUpError`.
    """

    def __init__(self, problem: BaselineProblem, engine: str, deadline: Deadline) -> None:
        #: Configurations judged so far; asking again for one of them costs nothing and is not counted.
        self.calls = 0
        self._workload = workload = problem.workload
        self._deadline = deadline
        able = resolve_engine(engine, plan_features(problem.base))
        self._replays = StageReplays(workload, able, fifo=DISCIPLINE == "fifo")
        self._criterion = problem.base.objective.criterion(workload.ingress_ns)
        self._deadline_ns = problem.deadline_ns
        self._due_ns = {
            stage: workload.ingress_ns[tokens.query] + problem.deadline_ns
            for stage, tokens in workload.stages.items()
        }
        self._known: dict[tuple[Choice, ...], bool] = {}

    def keeps(self, configuration: Configuration) -> bool:
        """Whether the replayed latency quantile is at most the objective."""
        key = tuple(option.choice for option in configuration.values())
        if key not in self._known:
            if self._deadline.is_over:
                raise TimeUpError
            self.calls += 1
            self._known[key] = self._judge(configuration)
        return self._known[key]

    def first_kept(self, configurations: Iterable[Configuration]) -> Configuration | None:
        """Return the first configuration that keeps the objective; those after it are not replayed."""
        return next((candidate for candidate in configurations if self.keeps(candidate)), None)

    def anyone_waits(self, configuration: Configuration, stages: Container[str]) -> bool:
        """Whether a token waits at one of these stages: if none does, more replicas there change nothing."""
        runs: dict[str, StageRun] = {}
        ordered = [stage for stage in self._workload.stages if stage in stages]
        return any(self._replay(configuration, stage, runs).waits for stage in ordered)

    def _judge(self, configuration: Configuration) -> bool:
        late = np.zeros(self._workload.queries, dtype=np.bool_)
        runs: dict[str, StageRun] = {}
        for stage, tokens in self._workload.stages.items():
            exit_ns = self._replay(configuration, stage, runs).exit_ns
            late[tokens.query[exit_ns > self._due_ns[stage]]] = True
            if self._criterion.main.is_exceeded(late):
                return False
        if not self._criterion.others:
            return True
        latency_ns = self._workload.latency_ns({stage: run.exit_ns for stage, run in runs.items()})
        return not self._criterion.exceeds(latency_ns, self._deadline_ns)

    def _replay(self, configuration: Configuration, stage: str, runs: dict[str, StageRun]) -> StageRun:
        """Replay one stage, and those above it, unless they are among the runs."""
        if stage not in runs:
            for edge in self._workload.pipeline.incoming(stage):
                self._replay(configuration, edge.parent, runs)
            (runs[stage],) = self._replays.serve(stage, [configuration[stage]], runs)
        return runs[stage]


class Actions:
    """What InferLine's planner may do to one stage within caps, replica bounds and device limits; how it ranks that."""

    def __init__(self, problem: BaselineProblem) -> None:
        self._problem = problem
        self._load = {stage: problem.tokens_per_query(stage) for stage in problem.devices}

    def start(self, stage: str, device: Device, others: Configuration) -> Configuration | None:
        """Put a stage on a device with the smallest cap and the fewest replicas; None if no device is left."""
        family = device.families[0]
        started = others.replaced(stage, Option(family, family.fewest))
        return started if started.keeps(self._problem.limits) else None

    def add_replica(self, configuration: Configuration, stage: str) -> Configuration | None:
        """One replica more; None where that is not allowed, or of no use: never more than there are tokens."""
        family, replicas = configuration[stage]
        if replicas >= min(family.most, self._problem.workload.stages[stage].count):
            return None
        more = configuration.replaced(stage, Option(family, replicas + 1))
        return more if more.keeps(self._problem.limits) else None

    def queries_per_ns(self, configuration: Configuration, stage: str) -> Fraction | float:
        """Throughput of a stage in queries; infinite where no query has a token."""
        load = self._load[stage]
        return configuration[stage].tokens_per_ns / load if load else math.inf

    def remove_replica(self, configuration: Configuration, stage: str) -> Configuration | None:
        """One replica less; None at the fewest allowed."""
        family, replicas = configuration[stage]
        if replicas <= family.fewest:
            return None
        return configuration.replaced(stage, Option(family, replicas - 1))

    def increase_batch(self, configuration: Configuration, stage: str) -> Configuration | None:
        """At least double the cap, to the next measured one that raises throughput; None if there is none.

        Where no cap is twice the current one, the largest one will do.
        """
        now = configuration[stage]
        hardware = now.family.hardware
        caps = next(d.families for d in self._problem.devices[stage] if d.hardware == hardware)
        doubled = [family for family in caps if family.batch >= 2 * now.family.batch] or [caps[-1]]
        for family in doubled:
            increased = Option(family, now.replicas)
            if family.batch > now.family.batch and increased.tokens_per_ns > now.tokens_per_ns:
                return configuration.replaced(stage, increased)
        return None

    def next_cheaper(self, configuration: Configuration, stage: str) -> Device | None:
        """The most expensive device below the current one's price, of equal ones the fastest."""
        price = configuration[stage].family.microusd_per_hour
        cheaper = [device for device in self._problem.devices[stage] if device.microusd_per_hour < price]
        return max(cheaper, key=lambda device: (device.microusd_per_hour, -device.latency_ns), default=None)

    def rank(self, configuration: Configuration) -> int:
        """Sort key of configurations that lower the cost: of equal ones the first is taken."""
        return _cost(configuration)


class GreedySearch:
    """One greedy search."""

    def __init__(self, problem: BaselineProblem, estimator: Estimator, report: Report) -> None:
        #: Keeps the objective; what the search has come to.
        self.best: Configuration | None = None
        #: Why there is no start, if there is none.
        self.failure = ""
        self._problem = problem
        self._estimator = estimator
        self._actions = Actions(problem)
        self._report = report

    def run(self) -> Limit | None:
        """Search; return what stopped it early, None if it came to its end."""
        try:
            self.best = self._start()
            while self.best is not None:
                cost = _cost(self.best) / MICRODOLLARS_PER_DOLLAR
                self._report(f"{cost:.4f} $/h after {self._estimator.calls} replays")
                better = self._cheaper(self.best) or self._larger_batch(self.best, list(self.best))
                if better is None:
                    return None
                self.best = better
        except TimeUpError:
            return Limit.TIME
        except KeyboardInterrupt:
            return Limit.INTERRUPT
        return None

    def _start(self) -> Configuration | None:
        """Algorithm 1: a configuration that keeps the objective; None, and `failure` says why, if it leads to none."""
        fastest = self._fastest()
        grown = None if fastest is None else self._grown(fastest, list(fastest))
        if fastest is not None and grown is None:
            base = self._problem.base
            self.failure = (
                f"no token waits where replicas may be added, and {base.objective.name} under {DISCIPLINE} "
                f"still exceeds the objective of {format_duration(base.slo_ns)}"
            )
        return grown

    def _fastest(self) -> Configuration | None:
        """Every stage on its lowest-latency hardware that has devices left, if the objective allows for that."""
        configuration = Configuration()
        for stage, devices in self._problem.devices.items():
            fastest_first = sorted(devices, key=lambda d: (d.latency_ns, d.microusd_per_hour))
            starts = (self._actions.start(stage, device, configuration) for device in fastest_first)
            started = next((start for start in starts if start is not None), None)
            if started is None:
                self.failure = f"no devices are left for {stage} when the stages before it have theirs"
                return None
            configuration = started
        service_ns, path = self._service_time(configuration)
        if service_ns > self._problem.deadline_ns:
            self.failure = (
                f"batches of one on the fastest hardware take {format_duration(service_ns)} along "
                f"{' → '.join(path)}, more than the objective of {format_duration(self._problem.deadline_ns)}"
            )
            return None
        return configuration

    def _service_time(self, configuration: Configuration) -> tuple[int, tuple[str, ...]]:
        """Batches of one along the longest path, no queueing."""
        one_ns = {stage: int(chosen.family.service_ns[0]) for stage, chosen in configuration.items()}
        return self._problem.longest_path(one_ns)

    def _grown(self, configuration: Configuration, stages: list[str]) -> Configuration | None:
        """Add replicas to the slowest of `stages` until the objective is kept; None if they are of no use."""
        while not self._estimator.keeps(configuration):
            larger = ((stage, self._actions.add_replica(configuration, stage)) for stage in stages)
            growing = {stage: grown for stage, grown in larger if grown is not None}
            if not self._estimator.anyone_waits(configuration, growing):
                return None
            configuration = growing[min(growing, key=partial(self._actions.queries_per_ns, configuration))]
        return configuration

    def _cheaper(self, configuration: Configuration) -> Configuration | None:
        """Algorithm 2: take the action of any stage that lowers the cost most; None if none does."""
        removal = self._fewer_replicas(configuration, list(configuration))
        found = [] if removal is None else [removal]
        for stage in configuration:
            downgraded = self._downgraded(configuration, stage, min(map(_cost, [configuration, *found])))
            if downgraded is not None and _cost(downgraded) < _cost(configuration):
                found.append(downgraded)
        return min(found, key=self._actions.rank, default=None)

    def _fewer_replicas(self, configuration: Configuration, stages: list[str]) -> Configuration | None:
        """Remove the replica that saves most."""
        removals = [self._actions.remove_replica(configuration, stage) for stage in stages]
        cheaper = [c for c in removals if c is not None and _cost(c) < _cost(configuration)]
        return self._estimator.first_kept(sorted(cheaper, key=self._actions.rank))

    def _larger_batch(self, configuration: Configuration, stages: list[str]) -> Configuration | None:
        """Increase the batch cap of the first stage that allows for it."""
        increases = (self._actions.increase_batch(configuration, stage) for stage in stages)
        return self._estimator.first_kept(increased for increased in increases if increased is not None)

    def _downgraded(self, configuration: Configuration, stage: str, most: int) -> Configuration | None:
        """Start a stage anew on the next cheaper hardware and improve it, others frozen.

        None if the objective is not kept, or the cost must exceed `most`.
        """
        device = self._actions.next_cheaper(configuration, stage)
        start = None if device is None else self._actions.start(stage, device, configuration)
        # It starts with the fewest replicas, so nothing it could come to costs less.
        if start is None or _cost(start) > most or self._service_time(start)[0] > self._problem.deadline_ns:
            return None
        found = self._grown(start, [stage])
        while found is not None:
            better = self._fewer_replicas(found, [stage]) or self._larger_batch(found, [stage])
            if better is None:
                break
            found = better
        return found


def _cost(configuration: Configuration) -> int:
    return configuration.microusd_per_hour
