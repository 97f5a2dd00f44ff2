"""Draw and freeze the instances: ``python -m benchmarks.compare.drawing`` writes ``instances.json``.

Run it only to freeze a new set: results of another one are no longer comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.compare import shared_data
from benchmarks.compare.instances import build
from benchmarks.compare.specs import FROZEN, Spec, write_frozen
from benchmarks.compare.synthetic import SHAPES

SEED = 20
SHIPPED = ("audio-question-answering", "cascade", "image-processing", "social-media", "video-monitoring")
RANDOM, SMALL, MEASURED, LARGE = 110, 48, 40, 8
RATES_RPS, CVS, SLO_FACTORS = (20.0, 2_000.0), (0.5, 4.0), (1.1, 6.0)
#: More than a few replicas a stage are more plans than can all be replayed.
SMALL_RATES_RPS = (50.0, 400.0)
SMALL_QUERIES = 4_000
LARGE_QUERIES = 100_000
#: Queries to plan on, by the least rate for so many: few enough for the suite, some 50 to 100 of them above P99.
QUERIES = ((200.0, 10_000), (0.0, 5_000))
#: Trace, where the segment begins, rate factor, queries to plan on.
SHIPPED_SEGMENTS = (("bursty", 0.0, 1.0, 8_000), ("steady", 0.0, 1.0, 8_000))
SHARED_SEGMENTS = (
    ("twitter", 694_800.0, 1.0, 5_000),
    ("twitter", 696_360.0, 2.0, 10_000),
    ("twitter", 703_800.0, 4.0, 10_000),
    ("twitter", 1_164_000.0, 1.0, 10_000),
    ("azure", 0.0, 10.0, 9_600),
    ("azure", 1_500.0, 40.0, 5_000),
    ("proteus-bursty", 30.0, 1.0, 10_000),
    ("proteus-bursty", 150.0, 0.5, 10_000),
    ("proteus-normal", 50.0, 1.0, 10_000),
)


def draw() -> list[Spec]:
    """All instances, not yet frozen."""
    rng = np.random.default_rng(SEED)
    return [*_shipped(rng), *_random(rng), *_small(rng), *_measured(rng), *_large(rng)]


def _shipped(rng: np.random.Generator) -> Iterator[Spec]:
    for pipeline in SHIPPED:
        for number in range(10):
            spec = Spec(
                f"{pipeline}-{number}",
                "shipped",
                "shipped",
                pipeline,
                0,
                0,
                **_gamma(rng),
                slo_factor=_slo(rng),
            )
            if number >= 8:
                spec = _with_segment(spec, "shipped", *SHIPPED_SEGMENTS[number - 8])
            yield spec


def _random(rng: np.random.Generator) -> Iterator[Spec]:
    for number in range(RANDOM):
        stages = 2 + number % 9
        # Two stages are a chain whatever one calls it.
        shape = "chain" if stages == 2 else str(rng.choice(SHAPES, p=[0.2, 0.35, 0.45]))
        name = f"random-{number:03}"
        yield Spec(name, "random", "synthetic", shape, stages, number, **_gamma(rng), slo_factor=_slo(rng))


def _small(rng: np.random.Generator) -> Iterator[Spec]:
    for number in range(SMALL):
        stages = 2 + number % 2
        shape = "chain" if stages == 2 else str(rng.choice(SHAPES))
        traffic = {**_gamma(rng, SMALL_RATES_RPS), "queries": SMALL_QUERIES}
        yield Spec(
            f"small-{number:03}",
            "small",
            "synthetic",
            shape,
            stages,
            1_000 + number,
            **traffic,
            slo_factor=_slo(rng),
        )


def _measured(rng: np.random.Generator) -> Iterator[Spec]:
    """Measured pipelines on gamma arrivals and on segments, and other pipelines on segments."""
    names = tuple(shared_data.PIPELINES)
    for number in range(MEASURED):
        gamma, slo_factor = _gamma(rng), _slo(rng)
        name, segment = f"measured-{number:03}", SHARED_SEGMENTS[number % len(SHARED_SEGMENTS)]
        measured = names[number % len(names)]
        spec = Spec(name, "measured", "measured", measured, 0, 0, **gamma, slo_factor=slo_factor)
        if number % 5 in (0, 1):
            yield spec
        elif number % 5 in (2, 3):
            yield _with_segment(spec, "shared", *segment)
        else:
            shipped = SHIPPED[number // 5 % len(SHIPPED)]
            yield _with_segment(replace(spec, source="shipped", pipeline=shipped), "shared", *segment)


def _large(rng: np.random.Generator) -> Iterator[Spec]:
    for number in range(LARGE):
        stages = 3 + number % 3
        traffic = {**_gamma(rng), "queries": LARGE_QUERIES}
        shape = SHAPES[number % len(SHAPES)]
        yield Spec(
            f"large-{number}",
            "large",
            "synthetic",
            shape,
            stages,
            2_000 + number,
            **traffic,
            slo_factor=_slo(rng),
        )


def _gamma(rng: np.random.Generator, rates_rps: tuple[float, float] = RATES_RPS) -> dict[str, Any]:
    rate_rps = float(f"{_log_uniform(rng, *rates_rps):.3g}")
    return {
        "arrivals": "gamma",
        "rate_rps": rate_rps,
        "cv": round(_log_uniform(rng, *CVS), 2),
        "start_s": None,
        "rate_factor": None,
        "traffic_seed": int(rng.integers(1_000_000)),
        "queries": next(queries for least, queries in QUERIES if rate_rps >= least),
    }


def _slo(rng: np.random.Generator) -> float:
    return round(_log_uniform(rng, *SLO_FACTORS), 2)


def _with_segment(spec: Spec, kind: str, name: str, start_s: float, rate_factor: float, queries: int) -> Spec:
    return replace(
        spec,
        arrivals=f"{kind}:{name}",
        rate_rps=None,
        cv=None,
        start_s=start_s,
        rate_factor=rate_factor,
        queries=queries,
    )


def _log_uniform(rng: np.random.Generator, least: float, most: float) -> float:
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


if __name__ == "__main__":
    if not shared_data.is_present():
        raise SystemExit(f"the measured instances need the public data in {shared_data.FOLDER}")
    write_frozen([replace(spec, fingerprint=build(spec).fingerprint) for spec in draw()])
    print(f"{FROZEN} written")
