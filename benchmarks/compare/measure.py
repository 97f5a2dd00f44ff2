"""Plan and judge instances in this process: ``python -m benchmarks.compare.measure NAME …`` prints rows in JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import mipplan as mp
from benchmarks.compare.exhaustive import find_optimum
from benchmarks.compare.instances import Instance, build
from benchmarks.compare.planners import (
    BY_LAW,
    CERTIFIED,
    DISCIPLINE,
    EXHAUSTIVE,
    GREEDY,
    PLANNERS,
    REFINED,
    by_processor_time,
    refined,
)
from benchmarks.compare.specs import Spec, read_frozen

#: Certified planning of large instances is timed so often; the median counts.
REPEATS = 3
#: Of the token draws in the held-out traffic; plans are made with seed 0.
HELD_OUT_SEED = 1
THEOREM = "oldest_first"


def measure(instance: Instance) -> list[dict[str, Any]]:
    """Rows of all planners on an instance; see `benchmarks.compare.run.COLUMNS`."""
    rows = list(_rows(instance))
    return [{**_about(instance), **row} for row in rows]


def _rows(instance: Instance) -> Iterator[dict[str, Any]]:
    is_large = instance.spec.group == "large"
    costs: list[int] = []
    for name, call in PLANNERS.items():
        plan, times = _timed(call, instance, REPEATS if is_large and name == CERTIFIED else 1)
        calls = plan.effort.estimator_calls if plan.effort is not None else 0
        yield {"planner": name, **times, "estimator_calls": calls, **_judged(instance, plan)}
        if name == GREEDY and plan.microusd_per_hour is not None:
            costs.append(plan.microusd_per_hour)
        if name == CERTIFIED:
            certified = plan
    if is_large:
        return
    for name, call_from in {**BY_LAW, REFINED: refined}.items():
        plan, times = _timed(by_processor_time(partial(call_from, certified=certified)), instance, 1)
        calls = plan.refinement.replays if plan.refinement is not None else 0
        judged = _judged(instance, plan, plan.discipline.value if name in BY_LAW else DISCIPLINE)
        yield {"planner": name, **times, "estimator_calls": calls, **judged}
        if name == REFINED and plan.microusd_per_hour is not None:
            costs.append(plan.microusd_per_hour)
    if costs:
        yield from _exhaustive(instance, min(costs))


def _exhaustive(instance: Instance, budget: int) -> Iterator[dict[str, Any]]:
    """No row if there are too many plans within the budget."""
    started, started_cpu = time.perf_counter(), time.process_time()
    optimum = find_optimum(
        instance.pipeline,
        instance.profiles,
        instance.planned_on,
        slo_s=instance.slo_s,
        budget=budget,
        discipline=DISCIPLINE,
    )
    if optimum is not None and optimum.plan is not None:
        times = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - started_cpu}
        judged = {**_judged(instance, optimum.plan), "status": "optimal"}
        yield {"planner": EXHAUSTIVE, **times, "estimator_calls": optimum.replays, **judged}


def _about(instance: Instance) -> dict[str, Any]:
    spec = instance.spec
    return {
        "instance": spec.name,
        "fingerprint": spec.fingerprint,
        "group": spec.group,
        "source": spec.source,
        "shared_data": spec.needs_shared_data,
        "pipeline": instance.pipeline.name,
        "stages": len(instance.pipeline.stages),
        "arrivals": spec.arrivals,
        "queries": len(instance.planned_on),
        "rate_rps": instance.planned_on.rate_rps,
        "cv": instance.planned_on.cv,
        "slo_factor": spec.slo_factor,
        "slo_s": instance.slo_s,
    }


def _judged(instance: Instance, plan: mp.Plan, discipline: str = DISCIPLINE) -> dict[str, Any]:
    """What a plan promises, and what becomes of it under a discipline on both halves of the traffic."""
    record = plan.refinement
    row: dict[str, Any] = {
        "status": plan.status.value,
        "proof": record.proof if record is not None else None,
        "usd_per_hour": plan.usd_per_hour,
        "lower_bound_usd_per_hour": plan.lower_bound_usd_per_hour,
        "certificate_s": plan.certificate_s,
        "reason": plan.reason,
    }
    if not plan.choices:
        return row
    seen = mp.replay(plan, instance.planned_on, discipline=discipline)
    held_out = mp.replay(plan, instance.held_out, discipline=discipline, seed=HELD_OUT_SEED)
    oldest_first = held_out
    if discipline != THEOREM:
        oldest_first = mp.replay(plan, instance.held_out, discipline=THEOREM, seed=HELD_OUT_SEED)
    return {
        **row,
        "p99_s": seen.quantile(plan.quantile),
        "miss_rate": seen.miss_rate(instance.slo_s),
        "held_out_p99_s": held_out.quantile(plan.quantile),
        "held_out_miss_rate": held_out.miss_rate(instance.slo_s),
        "held_out_miss_rate_oldest_first": oldest_first.miss_rate(instance.slo_s),
    }


def _timed(
    call: Callable[[Instance], mp.Plan], instance: Instance, repeats: int
) -> tuple[mp.Plan, dict[str, float]]:
    """Medians of the planner's own wall-clock time, and of the processor's time for the whole call."""
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        started, started_cpu = time.perf_counter(), time.process_time()
        plan = call(instance)
        elapsed = time.perf_counter() - started
        cpu_seconds.append(time.process_time() - started_cpu)
        # Baselines certify what they have found, which is no part of their method.
        seconds.append(elapsed if plan.effort is None else plan.effort.seconds)
    return plan, {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu_seconds)}


def warm_up() -> None:
    """Load what is loaded on first use: that is not what is measured."""
    spec = Spec("warm-up", "small", "synthetic", "tree", 2, 1, "gamma", 50.0, 1.0, None, None, 1, 500, 3.0)
    measure(build(spec))


if __name__ == "__main__":
    np.seterr(all="raise")
    wanted = [spec for spec in read_frozen() if spec.name in sys.argv[1:]]
    warm_up()
    print(json.dumps([row for spec in wanted for row in measure(build(spec))]))
