"""Reference chains, plans that differ, and arrivals for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay.peers import StageSettings
from mipplan import Pipeline, Plan, Profiles, Trace
from mipplan.profiles import Hardware, LatencyTable
from mipplan.trace import gamma_chunks

#: (a ms, c ms, b, n) of each stage, where a batch of k takes ℓ(k) = a + c·k; longer chains repeat them.
REFERENCE = ((10.0, 2.0, 8, 4), (20.0, 5.0, 4, 11), (5.0, 1.0, 16, 2))
#: Coefficient of variation of the gaps between arrivals, by name.
ARRIVALS = {"poisson": 1.0, "gamma": 4.0}
HARDWARE = "h"
SEED = 1


def reference_plan(stages: int = 3, *, single_token: bool = False) -> Plan:
    """Plan a chain of reference stages; `single_token` caps every batch at 1."""
    return _plan(_chain(stages), stages, {}, single_token=single_token)


def plans_apart(count: int) -> list[Plan]:
    """Plans of the reference chain that differ at its first stage, so that no replay of a stage can be shared."""
    pipeline = _chain(len(REFERENCE))
    base_ms, slope_ms, batch, replicas = REFERENCE[0]
    faster_ms = 0.1 * base_ms / count
    return [
        _plan(pipeline, len(REFERENCE), {0: (base_ms - number * faster_ms, slope_ms, batch, replicas)})
        for number in range(count)
    ]


def plans_of_search(count: int) -> list[Plan]:
    """Up to 1,024 plans as a search meets them: 8 · 8 · 16 replica counts, the last stage's varying fastest."""
    pipeline = _chain(len(REFERENCE))
    widths = (8, 8, 16)
    plans = []
    for place in zip(*np.unravel_index(range(count), widths), strict=True):
        changed = {
            stage: (*REFERENCE[stage][:3], REFERENCE[stage][3] + int(more))
            for stage, more in enumerate(place)
        }
        plans.append(_plan(pipeline, len(REFERENCE), changed))
    return plans


def make_arrivals(arrivals: str, rate_rps: float, queries: int) -> Trace:
    """Draw so many arrivals, piece by piece: little more memory than the trace itself."""
    arrival_ns = np.empty(queries, dtype=np.int64)
    start = 0
    for piece in stream_arrivals(arrivals, rate_rps, queries):
        arrival_ns[start : start + piece.size] = piece
        start += piece.size
    arrival_ns.flags.writeable = False
    return Trace.from_ns(arrival_ns, name=f"{arrivals}-{queries}")


def stream_arrivals(arrivals: str, rate_rps: float, queries: int) -> Iterator[NDArray[np.int64]]:
    """Draw the same arrivals one piece at a time."""
    return gamma_chunks(rate_rps=rate_rps, cv=ARRIVALS[arrivals], queries=queries, seed=SEED)


def stage_settings(plan: Plan) -> list[StageSettings]:
    """What the peers need to know of a plan."""
    return [
        StageSettings(plan.service_ns(stage).tolist(), choice.replicas)
        for stage, choice in plan.choices.items()
    ]


def _chain(stages: int) -> Pipeline:
    names = [f"s{number}" for number in range(stages)]
    edges = [{"from": above, "to": below} for above, below in pairwise(names)]
    document = {
        "name": f"chain-{stages}",
        "stages": {name: {"model": name} for name in names},
        "edges": edges,
    }
    return Pipeline.from_document(document)


def _plan(
    pipeline: Pipeline,
    stages: int,
    changed: Mapping[int, tuple[float, float, int, int]],
    *,
    single_token: bool = False,
) -> Plan:
    tables, choices = [], {}
    for number in range(stages):
        base_ms, slope_ms, batch, replicas = changed.get(number, REFERENCE[number % len(REFERENCE)])
        sizes = np.arange(1, batch + 1)
        tables.append(LatencyTable(f"s{number}", HARDWARE, sizes, base_ms + slope_ms * sizes))
        choices[f"s{number}"] = (HARDWARE, 1 if single_token else batch, replicas)
    profiles = Profiles.from_parts([Hardware(HARDWARE, 1.0)], tables)
    return Plan.from_choices(pipeline, profiles, choices, slo_s=1.0)
