"""Small refinement problems with every kind of trouble, few enough plans to replay them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import mipplan as mp
from mipplan.core import Deadline, SearchLimits
from mipplan.profiles import Hardware, LatencyTable
from mipplan.refinement.evaluation import ReplayOracle, WorkLimit
from mipplan.refinement.problem import RefinementProblem, state_problem
from mipplan.refinement.refining import RefinementParams, Refining
from mipplan.refinement.search import RefinementSearch
from mipplan.replayer import ENGINES, CacheParams, StageReplays
from mipplan.tokens import Sample, realise
from oracle_refinement import OraclePlan, replay_everything
from random_pipelines import random_pipeline, random_trace


@dataclass(frozen=True)
class RefinementInstance:
    """A problem and all its plans."""

    pipeline: mp.Pipeline
    profiles: mp.Profiles
    trace: mp.Trace
    slo_ns: int
    quantile: float
    discipline: str
    seed: int
    plans: list[OraclePlan]

    @property
    def good(self) -> list[OraclePlan]:
        """Plans that keep the objective."""
        return [plan for plan in self.plans if plan.quantile_ns <= self.slo_ns]

    @property
    def optimum(self) -> int | None:
        """Least cost of a good plan."""
        return min((plan.cost for plan in self.good), default=None)

    def start(self, number: int) -> mp.Plan:
        """One of the plans, as a start."""
        made = self.plans[number % len(self.plans)]
        return mp.Plan.from_choices(
            self.pipeline,
            self.profiles,
            made.choices,
            slo_s=self.slo_ns / 1e9,
            quantile=self.quantile,
            seed=self.seed,
        )

    def refine(self, number: int = 0, **more: Any) -> mp.Plan:
        """Refine one of its plans."""
        return mp.refine(self.start(number), self.trace, discipline=self.discipline, **more)

    def refine_by(
        self, params: RefinementParams, number: int = 0, time_limit_s: float | None = None
    ) -> mp.Plan:
        """Refine one of its plans by other numbers."""
        limits = SearchLimits(Deadline.after(time_limit_s))
        start = self.start(number)
        samples = [Sample(self.trace, start.seed)]
        return Refining(start, samples, self.discipline, "auto", limits, params).run()


def refinement_instance(number: int) -> RefinementInstance:
    """Instance `number`, always the same one."""
    rng = np.random.default_rng([20260202, number])
    scale_ns = int(rng.choice([10, 100, 5_000]))
    pipeline = _bounded(rng, random_pipeline(rng, scale_ns, max_stages=3))
    names = ("small", "large")[: 1 if len(pipeline.stages) > 2 and rng.random() < 0.5 else 2]
    tables = [
        _table(rng, stage.model, name, scale_ns) for stage in pipeline.stages.values() for name in names
    ]
    profiles = mp.Profiles.from_parts(
        [
            Hardware(name, float(rng.choice([0.5, 1.0, 1.7])), limit=_limit(rng, len(pipeline.stages)))
            for name in names
        ],
        tables,
    )
    trace = random_trace(rng, scale_ns, max_arrivals=40)
    quantile = float(rng.choice([0.5, 0.9, 0.95, 1.0]))
    discipline = str(rng.choice(["oldest_first", "fifo"]))
    seed = int(rng.integers(0, 3))
    plans = replay_everything(pipeline, profiles, trace, quantile=quantile, discipline=discipline, seed=seed)
    # Exactly what some plan reaches, or just below: the objective decides by a hair.
    reached = plans[int(rng.integers(len(plans)))].quantile_ns
    slo_ns = max(1, int(reached * rng.choice([1.0, 1.0, 1.0, 1.3, 0.3])) - int(rng.integers(0, 2)))
    return RefinementInstance(pipeline, profiles, trace, slo_ns, quantile, discipline, seed, plans)


def _bounded(rng: np.random.Generator, pipeline: mp.Pipeline) -> mp.Pipeline:
    document = pipeline.to_document()
    for stage in document["stages"].values():
        stage["replicas"] = {"min": 1, "max": int(rng.integers(1, 4))}
    return mp.Pipeline.from_document(document)


def _limit(rng: np.random.Generator, stages: int) -> int | None:
    return None if rng.random() < 0.6 else int(rng.integers(stages, 2 * stages + 1))


def _table(rng: np.random.Generator, model: str, hardware: str, scale_ns: int) -> LatencyTable:
    sizes = np.unique(rng.integers(1, 5, 2))
    latency_ns = rng.integers(1, scale_ns + 1, sizes.size)
    if rng.random() < 0.7:
        latency_ns = np.sort(latency_ns)
    return LatencyTable(model, hardware, sizes, latency_ns.astype(np.float64) * 1e-6)


class Bench:
    """A problem with its replays, ready for a search."""

    def __init__(
        self, instance: RefinementInstance, engine: str = "numpy", cache_bytes: int = 1 << 20
    ) -> None:
        workload = realise(instance.pipeline, instance.trace, instance.seed)
        self.problem: RefinementProblem = state_problem(
            instance.pipeline, instance.profiles, workload, instance.slo_ns, instance.quantile
        )
        fifo = instance.discipline == "fifo"
        self.replays = StageReplays(workload, ENGINES[engine], fifo=fifo, params=CacheParams(cache_bytes))
        self.limit = WorkLimit()
        self.oracle = ReplayOracle(self.problem, self.replays)

    def search(self, *, trusting: bool = False, is_brief: bool = False) -> RefinementSearch:
        """Over all domains."""
        return RefinementSearch(
            self.problem, self.problem.domains, self.replays, self.limit, trusting, is_brief=is_brief
        )
