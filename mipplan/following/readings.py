"""What the metrics of a serving system say of a plan's stages: one reader for each system's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from mipplan.core import Fault, InputError, listed
from mipplan.following.samples import CounterMemory, MetricSample, gauge
from mipplan.result import Plan


@dataclass(frozen=True)
class StageFigures:
    """One stage at one look."""

    waiting: float
    """Tokens that wait."""
    under_way: float | None
    """Tokens in batches; None if nobody says."""
    active: int | None
    """Replicas that can serve; None if it is not in the metrics."""
    arrived: float
    """Tokens that came since the last look."""
    busy_s: float | None = None
    """Time that replicas were under way since the last look, summed over them; None if nobody says."""
    served_s: float | None = None
    """The same, summed over tokens in service."""


@dataclass(frozen=True)
class Scrape:
    """A look at all metrics."""

    queries: float
    """Queries that entered since the last look."""
    stages: Mapping[str, StageFigures]


class MetricsReader(Protocol):
    """Reads the metrics of one system, look by look."""

    def read(self, samples: Sequence[MetricSample]) -> Scrape:
        """Say what there is, and what came since the last look; raises `InputError` if metrics are missing."""


class _StageReader:
    """What readers share: names of stages at the system, and how many came, out of how many ended and are there."""

    def __init__(self, plan: Plan, names: Mapping[str, str]) -> None:
        self._names = {stage: names.get(stage, stage) for stage in plan.pipeline.topological_order}
        self._source = plan.pipeline.topological_order[0]
        self._counters = CounterMemory()
        self._there: dict[str, float] = {}
        self._restarts = 0

    def read(self, samples: Sequence[MetricSample]) -> Scrape:
        """Read everything, or raise and remember nothing: what came is then counted at the next look."""
        before = self._counters.copy(), dict(self._there), self._restarts
        try:
            return self._whole(samples)
        except InputError:
            self._counters, self._there, self._restarts = before
            raise

    def _whole(self, samples: Sequence[MetricSample]) -> Scrape:
        """Read every stage; a query is one token at the first stage."""
        faults: list[Fault] = []
        stages: dict[str, StageFigures] = {}
        for stage, name in self._names.items():
            try:
                stages[stage] = self._stage(samples, stage, name)
            except InputError as error:
                faults += error.faults
        InputError.raise_if(faults)
        return Scrape(stages[self._source].arrived, stages)

    def _stage(self, samples: Sequence[MetricSample], stage: str, name: str) -> StageFigures:
        raise NotImplementedError

    def _needed(self, found: float | None, metric: str, stage: str) -> float:
        if found is None:
            raise InputError.one(
                f"metrics: {metric}", f"there is none of stage {stage} ({self._names[stage]})"
            )
        return found

    def _came(self, what: str, ended: float, there: float, *, are_all_told: bool = True) -> float:
        """How many came: those that ended, and those that are there more than at the last look.

        Fewer than none seem to have come where some left unserved; or, where those in batches are not among those that
        are there, as one began: these are not counted again when they end, unless the process was started again.
        """
        before = self._there.get(what, there)
        if self._counters.restarts > self._restarts:
            before, self._restarts = min(before, there), self._counters.restarts
        came = ended + there - before
        self._there[what] = there if are_all_told else max(there, before - ended)
        return max(0.0, came)


class DispatcherReader(_StageReader):
    """Metrics of `mipplan.serving`."""

    def _whole(self, samples: Sequence[MetricSample]) -> Scrape:
        """Queries are counted at the door, those that were turned away among them."""
        scrape = super()._whole(samples)
        ended = self._counters.increase(samples, "mipplan_queries")
        there = gauge(samples, "mipplan_in_flight")
        if ended is None or there is None:
            raise InputError.one("metrics: mipplan_queries", "there is none: is this a server of mipplan?")
        return Scrape(self._came("", ended, there), scrape.stages)

    def _stage(self, samples: Sequence[MetricSample], stage: str, name: str) -> StageFigures:
        waiting = self._needed(
            gauge(samples, "mipplan_queue_length", stage=name), "mipplan_queue_length", stage
        )
        active = self._needed(gauge(samples, "mipplan_replicas", stage=name), "mipplan_replicas", stage)
        busy = self._counters.increase(samples, "mipplan_busy_seconds", stage=name)
        taken = self._counters.increase(samples, "mipplan_batch_size_sum", stage=name)
        batches = self._counters.increase(samples, "mipplan_batch_size_count", stage=name)
        under_way = None
        if (busy_replicas := gauge(samples, "mipplan_busy_replicas", stage=name)) is not None:
            under_way = busy_replicas * (taken / batches if taken and batches else 1.0)
        return StageFigures(waiting, under_way, int(active), self._came(stage, taken or 0.0, waiting), busy)


class TritonReader(_StageReader):
    """Metrics of Triton, whose models are the stages; of several servers, their sums."""

    def _stage(self, samples: Sequence[MetricSample], stage: str, name: str) -> StageFigures:
        place = "nv_inference_pending_request_count"
        waiting = self._needed(gauge(samples, place, model=name), place, stage)
        ended = self._counters.increase(
            samples, "nv_inference_request_success", "nv_inference_request_failure", model=name
        )
        computed = self._counters.increase(samples, "nv_inference_compute_infer_duration_us", model=name)
        served = self._counters.increase(samples, "nv_inference_count", model=name)
        batches = self._counters.increase(samples, "nv_inference_exec_count", model=name)
        tokens_s = None if computed is None else computed / 1e6
        busy_s = None
        if tokens_s is not None:
            # Every request of a batch counts the whole batch's time.
            busy_s = tokens_s * batches / served if batches and served else 0.0
        arrived = self._came(stage, ended or 0.0, waiting, are_all_told=False)
        return StageFigures(waiting, None, None, arrived, busy_s, tokens_s)


class RayReader(_StageReader):
    """Metrics of Ray Serve, whose deployments are the stages; of one application, if it is given and labels tell."""

    def __init__(self, plan: Plan, names: Mapping[str, str], application: str | None = None) -> None:
        super().__init__(plan, names)
        self._application = application

    def read(self, samples: Sequence[MetricSample]) -> Scrape:
        """Read what is of the application; others on the cluster may have deployments of the same names."""
        if (ours := self._application) is not None:
            samples = [one for one in samples if (one.labels.get("application") or ours) == ours]
        return super().read(samples)

    def _stage(self, samples: Sequence[MetricSample], stage: str, name: str) -> StageFigures:
        place = "ray_serve_deployment_request_counter"
        ours = {one.labels.get("application", "") for one in samples if one.labels.get("deployment") == name}
        if len(ours) > 1 and "" not in ours:
            told = f"deployments of that name are there in the applications {listed(sorted(ours))}"
            raise InputError.one(f"metrics: {place}", f"which is stage {stage} ({name}) is not told: {told}")
        ended = self._counters.increase(samples, place, deployment=name)
        waiting = gauge(samples, "ray_serve_deployment_queued_queries", deployment=name)
        # Both tell the same where there are both; which of them there are depends on Ray's version.
        under_way = gauge(samples, "ray_serve_replica_processing_queries", deployment=name)
        if under_way is None:
            under_way = gauge(samples, "ray_serve_num_ongoing_requests_at_replicas", deployment=name)
        if ended is None and waiting is None and under_way is None:
            told = f"there is none of stage {stage} (deployment {name}); an exported application has mipplan's own"
            raise InputError.one(f"metrics: {place}", told)
        there = (waiting or 0.0) + (under_way or 0.0)
        return StageFigures(waiting or 0.0, under_way, None, self._came(stage, ended or 0.0, there))


#: Readers by what they read.
READERS: Mapping[str, Callable[[Plan, Mapping[str, str]], MetricsReader]] = MappingProxyType(
    {"mipplan": DispatcherReader, "triton": TritonReader, "ray": RayReader}
)
