"""What hardware does and what it costs: by batch and model size, by load and burstiness, by rate, by objective.

Nothing here is timed, so any machine will do; time limits count the time of the processor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

import mipplan as mp
from mipplan.certificate import plan_services
from mipplan.documents import shipped_folder
from mipplan.tokens import realise

#: The pipeline of most experiments, at its own objective: the one that the documentation plans first.
PIPELINE = "video-monitoring"
#: Hardware that is no GPU.
KINDS = {"epyc_core": "CPU", "cpu": "CPU", "inf2": "inference chip", "tpu_v5e_4": "TPU"}
#: Load is of the busiest stage with full batches; traffic lasts so long, and is drawn so many times.
LOADS, CVS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), (0.5, 1.0, 2.0, 4.0, 8.0)
MODERATE, BURSTS, DURATION_S, SEEDS = 0.5, (1.0, 4.0), 120.0, 5
#: A photo classifier of three sizes, alone, within an objective that a processor core keeps.
CLASSIFIERS, CLASSIFIER_SLO_S, QUERIES = ("resnet-18", "resnet-50", "resnet-152"), 0.2, 2_000
RATES_RPS = tuple(round(2 ** (step / 2), 2) for step in range(23))
OBJECTIVES_S, OBJECTIVES = (0.13, 0.4), 10
LIMIT_S = 5.0


def pipeline_of(name: str = PIPELINE) -> mp.Pipeline:
    """A shipped pipeline."""
    return mp.Pipeline.read(shipped_folder() / "pipelines" / f"{name}.yaml")


def trace_of(name: str, *, quick: bool) -> mp.Trace:
    """A shipped trace, or its first seconds."""
    trace = mp.Trace.read(shipped_folder() / "traces" / f"{name}.csv.gz")
    return trace.slice(0, 5) if quick else trace


def by_batch(*, quick: bool) -> pd.DataFrame:  # noqa: ARG001
    """Latency and throughput of every model that somebody measured, by hardware and batch."""
    profiles = mp.Profiles.default()
    return pd.DataFrame(row for model in profiles.models for row in _batches(profiles, model))


def _batches(profiles: mp.Profiles, model: str) -> Iterator[dict[str, Any]]:
    for hardware in profiles.hardware_for(model):
        table = profiles.table(model, hardware)
        if table is None or any(source.startswith("assumption") for source in table.source):
            continue
        price = profiles.hardware[hardware].usd_per_hour
        rates = 1e3 * table.batch / table.latency_ms
        for batch, latency_ms, rate in zip(table.batch, table.latency_ms, rates, strict=True):
            yield {
                "model": model,
                "hardware": hardware,
                "kind": KINDS.get(hardware, "GPU"),
                "batch": int(batch),
                "latency_ms": float(latency_ms),
                "items_per_s": float(rate),
                # Beside the smallest batch that was measured: what a batch buys.
                "gain": float(rate / rates[0]),
                "usd_per_thousand": float(price / 3.6 / rate),
            }


def tails(*, quick: bool) -> pd.DataFrame:
    """P99 of one plan in replay, and its certificate on the same traffic, by load and by burstiness."""
    steady = trace_of("steady", quick=quick)
    plan = mp.plan(pipeline_of(), mp.Profiles.default(), steady)
    capacity_rps = _capacity_rps(plan, steady)
    loads, cvs = (LOADS[::7], CVS[::4]) if quick else (LOADS, CVS)
    cases = {(load, cv) for cv in BURSTS for load in loads} | {(MODERATE, cv) for cv in cvs}
    rows = []
    for load, cv in sorted(cases):
        for seed in range(1 if quick else SEEDS):
            rate_rps = load * capacity_rps
            trace = mp.Trace.gamma(rate_rps, cv, 10.0 if quick else DURATION_S, seed=seed)
            # Stages of one replica each, so paced dispatch does just the same.
            rows.append(
                {
                    "load": load,
                    "cv": cv,
                    "seed": seed,
                    "rate_rps": rate_rps,
                    "queries": len(trace),
                    "slo_ms": 1e3 * plan.slo_s,
                    "p99_ms": 1e3 * mp.replay(plan, trace).quantile(0.99),
                    "certificate_ms": 1e3 * mp.certify(plan, trace).bound_s,
                }
            )
    return pd.DataFrame(rows)


def _capacity_rps(plan: mp.Plan, trace: mp.Trace) -> float:
    """Queries per second at which the busiest stage has no time left, with full batches."""
    workload = realise(plan.pipeline, trace, plan.seed)
    services = plan_services(plan)
    return min(services[stage].rate_rps * len(trace) / workload.stages[stage].count for stage in plan.choices)


def by_rate(*, quick: bool) -> pd.DataFrame:
    """Cost of a thousand queries on one kind of hardware alone, by Poisson rate."""
    profiles = mp.Profiles.default()
    rows = []
    for model in CLASSIFIERS[:: 2 if quick else 1]:
        pipeline = mp.Pipeline.from_document({"name": model, "stages": {"classify": {"model": model}}})
        for hardware in profiles.hardware_for(model):
            device, table = profiles.hardware[hardware], profiles.table(model, hardware)
            if table is None:
                continue
            only = mp.Profiles.from_parts([device], [table])
            full_rate = float(np.max(1e3 * table.batch / table.latency_ms))
            for rate_rps in RATES_RPS[:: 8 if quick else 1]:
                trace = mp.Trace.poisson(rate_rps, (200 if quick else QUERIES) / rate_rps, seed=1)
                plan = mp.plan(pipeline, only, trace, slo_s=CLASSIFIER_SLO_S)
                (choice,) = plan.require().choices.values()
                rows.append(
                    {
                        "model": model,
                        "hardware": hardware,
                        "kind": KINDS.get(hardware, "GPU"),
                        "rate_rps": rate_rps,
                        "replicas": choice.replicas,
                        "batch": choice.batch,
                        "usd_per_hour": plan.usd_per_hour,
                        "usd_per_thousand": (plan.usd_per_hour or math.nan) / 3.6 / rate_rps,
                        # Of a device that is never idle.
                        "least_usd_per_thousand": device.usd_per_hour / 3.6 / full_rate,
                    }
                )
    return pd.DataFrame(rows)


def by_objective(*, quick: bool) -> pd.DataFrame:
    """Least cost by objective: steps where they are exact, single values of the others."""
    given = pipeline_of(), mp.Profiles.default(), trace_of("bursty", quick=quick)
    low_s, high_s = (0.2, 0.3) if quick else OBJECTIVES_S
    rows: list[tuple[str, float, float, float | None, bool]] = []
    for law in ("eager", "paced"):
        walked = mp.frontier(*given, over="slo", start=low_s, end=high_s, dispatch=law, time_limit_s=None)
        rows += [
            (law, 1e3 * step.start, 1e3 * step.end, step.usd_start, step.proven) for step in walked.steps
        ]
    for slo_s in np.linspace(low_s, high_s, 3 if quick else OBJECTIVES).round(3).tolist():
        greedy = mp.baselines.inferline(*given, slo_s=slo_s)
        with patch("time.monotonic", time.process_time):
            timed = mp.plan(*given, slo_s=slo_s, dispatch="timed", time_limit_s=LIMIT_S)
        for planner, plan in (("greedy", greedy), ("timed", timed)):
            rows.append((planner, 1e3 * slo_s, 1e3 * slo_s, plan.usd_per_hour, plan.status == "optimal"))
    return pd.DataFrame(rows, columns=["planner", "from_ms", "to_ms", "usd_per_hour", "proven"])
