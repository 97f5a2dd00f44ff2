"""All figures of a replay as plain numbers, for JSON; ``docs/json.md`` describes them as *replay figures*."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mipplan.core import NS_PER_S, check_slo
from mipplan.result.latency_statistics import Estimate
from mipplan.result.stage_replay import StageReplay

if TYPE_CHECKING:
    from mipplan.result.replay import ReplayResult

FIGURES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}


def replay_summary(result: ReplayResult, slo_s: float | None) -> dict[str, Any]:
    """Summarise a replay."""
    slo_s = None if slo_s is None else check_slo(slo_s) / NS_PER_S
    statistics = result.statistics(slo_s, quantiles=tuple(FIGURES.values()))
    estimates = dict(zip(FIGURES, (estimate for _, estimate in statistics.quantiles), strict=True))
    misses = statistics.misses
    return {
        "discipline": result.discipline,
        "engine": result.engine,
        "seed": result.seed,
        "service": result.service,
        "certificate_applies": result.certificate_applies,
        "queries": result.queries,
        "span_s": result.span_ns / NS_PER_S,
        "latency_s": {
            **{name: estimate.value for name, estimate in estimates.items()},
            "max": result.quantile(1.0),
            "mean": result.mean_latency_s,
        },
        "slo_s": slo_s,
        "misses": None if slo_s is None else result.misses(slo_s),
        "miss_rate": None if misses is None else misses.value,
        "confidence": statistics.confidence,
        "latency_interval_s": {name: _interval(estimate) for name, estimate in estimates.items()},
        "miss_rate_interval": _interval(misses),
        "no_interval": {
            name: estimate.reason
            for name, estimate in {**estimates, "miss_rate": misses}.items()
            if estimate is not None and estimate.reason is not None
        },
        "usd": result.usd,
        "usd_per_query": result.usd_per_query,
        "stages": {name: _stage(stage, result.utilisation(name)) for name, stage in result.stages.items()},
    }


def summary_text(summary: dict[str, Any]) -> str:
    """Write a summary as the text of a JSON file."""
    return json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _interval(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None or estimate.interval is None:
        return None
    return {"low": estimate.interval.low, "high": estimate.interval.high}


def _stage(stage: StageReplay, utilisation: float) -> dict[str, Any]:
    return {
        "replicas": stage.replicas,
        "tokens": stage.tokens,
        "batches": stage.batches,
        "mean_batch": stage.mean_batch,
        "batch_sizes": {str(size): count for size, count in stage.batch_sizes.items()},
        "utilisation": utilisation,
        "mean_wait_s": stage.mean_wait_s,
        "p99_wait_s": stage.wait_quantile(0.99),
        "max_wait_s": stage.max_wait_s,
        "mean_service_s": stage.mean_service_s,
        "mean_queue": stage.mean_queue,
        "max_queue": stage.max_queue,
    }
