"""Profile the models, plan, export, fill in the models, serve, drive, and hold what was measured against the replay.

Two predictions are compared. *Profile* knows what `mipplan profile` measured of each function by itself, before
anything was served. *Observed* knows batches and hops as they were in the first run of the server, for the others.
Service times are drawn from what was measured, since those of real models scatter. Nothing else is fitted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.machine import publish, record
from benchmarks.models.fetch import fetch
from benchmarks.ocr import stages
from benchmarks.ocr.serving import SYSTEMS, OcrSystem
from benchmarks.ocr.summary import summarise
from benchmarks.truth.run import row_of
from mipplan.core import NS_PER_MS
from mipplan.observing import batches_of
from mipplan.profiling import read_samples

ROWS, PLANS = "ocr.csv", "plans.csv"
#: A core of whatever machine this is; exports know by the name that it is no GPU. With one kind the price is no matter.
HARDWARE, USD_PER_HOUR = "cpu_core", 0.05
#: Batch sizes that are measured.
BATCHES = {
    "find_next": (1, 2),
    "turn_next": (1, 4, 8),
    "read_next": (1, 4, 8),
    "turn_page_next": (1, 2),
    "read_page_next": (1, 2),
}
#: The objective, as a multiple of the time in which one page of the mean number of lines is served alone.
SLOS = 10.0
#: Processes of a stage: three stages share two cores, which is one process too many as it is.
REPLICAS = 1
#: Kinds of traffic and seeds; *observed* is made of the first.
RUNS = (("poisson", 1), ("poisson", 2), ("bursty", 1))
_BURSTY_CV = 2.0


@dataclass(frozen=True)
class OcrParams:
    """How much is measured, and how much load there is."""

    duration_s: float = 300.0
    # Share of its time for which the busiest stage is at work: the dispatcher, Ray and the client need cores, too.
    load: float = 0.3
    time_limit_s: float = 25.0


QUICK = OcrParams(duration_s=20.0, time_limit_s=4.0)


def run(folder: Path, *, quick: bool) -> None:
    """Do it all for each system, and write rows, plans, a summary and the machine into `folder`."""
    fetch()
    folder.mkdir(parents=True, exist_ok=True)
    params = QUICK if quick else OcrParams()
    rows: list[dict[str, Any]] = []
    planned: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for system in SYSTEMS:
            if (reason := system.missing()) is not None:
                print(f"{system.name} is left out: {reason}", file=sys.stderr)
                continue
            rate_rps, plan = plan_for(system, Path(work), params)
            planned += plan_rows(system, plan, rate_rps)
            print(f"{system.name}: {dict(plan.choices)}, {rate_rps:.3g} pages/s", file=sys.stderr, flush=True)
            for row in _measured(system, plan, rate_rps, Path(work), params):
                rows.append(row)
                print(", ".join(map(str, row.values())), file=sys.stderr, flush=True)
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.6g")
    pd.DataFrame(planned).to_csv(folder / PLANS, index=False, float_format="%.6g")
    record(folder / "machine.json", "ocr")
    report(folder)


def report(folder: Path) -> None:
    """Write the summary of what was measured."""
    publish(folder, summarise(pd.read_csv(folder / ROWS), pd.read_csv(folder / PLANS)))


def plan_for(system: OcrSystem, work: Path, params: OcrParams) -> tuple[float, mp.Plan]:
    """Profile the functions of a system's stages, measure what its edges do, and plan for bursty traffic."""
    for function in system.pipeline.values():
        mp.measure(
            f"benchmarks.ocr.stages:{function}",
            name=function,
            inputs="benchmarks.ocr.stages:prepared",
            hardware=HARDWARE,
            usd_per_hour=USD_PER_HOUR,
            batches=BATCHES[function],
            threads=1,
            out=work / "profiles",
            time_limit_s=params.time_limit_s,
            latency="p50",  # for the plan; what is predicted draws from all that was measured
            disturbed="keep",
        )
    pipeline, profiles = pipeline_of(system), mp.Profiles.read(work / "profiles")
    scale = dict.fromkeys(system.pipeline, 1.0)
    if system.has_dispatcher:
        measured = mp.measure_scale(pipeline, stages.step, range(stages.PAGES))
        pipeline, scale = measured.measured, measured.factors
    work_s = [scale[stage] * _median_s(profiles, function) for stage, function in system.pipeline.items()]
    rate_rps = params.load / (REPLICAS * max(work_s))
    sample = mp.Trace.gamma(rate_rps=rate_rps, cv=_BURSTY_CV, duration_s=300.0, seed=0)
    plan = mp.plan(pipeline, profiles, sample, slo_s=SLOS * sum(work_s), guarantee="replay", **system.asked)
    plan.require()
    return rate_rps, plan


def _median_s(profiles: mp.Profiles, function: str) -> float:
    """How long one item takes in the median."""
    table = profiles.table(function, HARDWARE)
    assert table is not None
    assert table.latency_p50_ms is not None
    return float(table.latency_p50_ms[0]) / 1e3


def pipeline_of(system: OcrSystem) -> mp.Pipeline:
    """Three stages, one after the other; what the edges do is measured where lines are tokens."""
    names = list(system.pipeline)
    document = {
        "name": "ocr-served",
        "stages": {
            stage: {"model": function, "replicas": {"max": REPLICAS}}
            for stage, function in system.pipeline.items()
        },
        "edges": [{"from": above, "to": below} for above, below in pairwise(names)],
    }
    return mp.Pipeline.from_document(document)


def plan_rows(system: OcrSystem, plan: mp.Plan, rate_rps: float) -> Iterator[dict[str, Any]]:
    """One row per stage: what was planned."""
    for stage, choice in plan.choices.items():
        times = plan.service_ns(stage) / NS_PER_MS
        yield {
            "system": system.name,
            "stage": stage,
            "batch": choice.batch,
            "replicas": choice.replicas,
            "one_ms": times[0],
            "full_ms": times[-1],
            "rate_rps": rate_rps,
            "slo_s": plan.slo_s,
            "status": str(plan.status),
        }


def traffic_of(kind: str, rate_rps: float, duration_s: float, seed: int) -> mp.Trace:
    """Arrivals of one kind at a rate."""
    if kind == "poisson":
        return mp.Trace.poisson(rate_rps=rate_rps, duration_s=duration_s, seed=seed)
    return mp.Trace.gamma(rate_rps=rate_rps, cv=_BURSTY_CV, duration_s=duration_s, seed=seed)


def _measured(
    system: OcrSystem, plan: mp.Plan, rate_rps: float, work: Path, params: OcrParams
) -> Iterator[dict[str, Any]]:
    noise = mp.ServiceNoise.from_samples(read_samples(work / "profiles"))
    beliefs: dict[str, tuple[mp.Plan, mp.ServiceNoise]] = {"profile": (plan, noise)}
    for number, (kind, seed) in enumerate(RUNS):
        place = work / f"{system.law}-{number}"
        place.mkdir()
        queries = place / "queries.parquet"
        with system.serve(plan, place) as server:
            trace = traffic_of(kind, rate_rps, params.duration_s, seed)
            mp.drive(trace, server.url, out=queries, **server.how)
        logs = [queries, place / "log"] if system.has_dispatcher else [queries]
        for name, (believed, drawn) in beliefs.items():
            seen = mp.truth(believed, *logs, system=system.law, noise=drawn)
            yield {
                "system": system.name,
                "traffic": kind,
                "seed": seed,
                "prediction": name,
                "terms": "; ".join(f"{cause.term} {cause.place}".strip() for cause in seen.causes),
                **row_of(seen),
            }
        if system.has_dispatcher and number == 0:
            beliefs["observed"] = observed(plan, logs)


def observed(plan: mp.Plan, logs: list[Path]) -> tuple[mp.Plan, mp.ServiceNoise]:
    """The same choices, with batches and hops as they were in a run."""
    run = mp.read_log(*logs)
    hops = {(hop.above, hop.below): hop.p50.value_ns for hop in mp.observe(run, plan=plan).hops}
    samples: dict[tuple[str, str], Mapping[int, np.ndarray[Any, Any]]] = {}
    for stage, batches in batches_of(run.stages).items():
        model = plan.pipeline.stages[stage].model
        sizes = {int(size): batches.service_ns[batches.size == size] / NS_PER_MS for size in batches.sizes}
        # Full batches may not have been seen; they take no less than the largest that were.
        sizes.setdefault(plan.choices[stage].batch, sizes[max(sizes)])
        samples[model, HARDWARE] = sizes
    # Ways in and out of the system are no edges: the delay of the last one stands for them, too.
    document = plan.pipeline.to_document()
    delays_ns = [hops.pop((entry["from"], entry["to"]), 0) for entry in document["edges"]]
    delays_ns[-1] += sum(hops.values())
    for entry, delay_ns in zip(document["edges"], delays_ns, strict=True):
        entry["delay"] = f"{delay_ns}ns"
    believed = mp.Plan.from_choices(
        mp.Pipeline.from_document(document),
        plan.profiles,
        plan.choices,
        slo_s=plan.slo_s,
        discipline=str(plan.discipline),
    )
    return believed, mp.ServiceNoise.from_samples(samples)
