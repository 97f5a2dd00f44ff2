"""Problems small enough to be written down in a line or two, and solved in one's head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable


def profiles_of(
    usd_per_hour: Mapping[str, float],
    latency_ms: Mapping[tuple[str, str], Mapping[int, float]],
    limits: Mapping[str, int] | None = None,
) -> mp.Profiles:
    """Return profiles: a price for each hardware type, and by model and hardware what a batch of each size takes."""
    devices = [Hardware(name, usd, limit=(limits or {}).get(name)) for name, usd in usd_per_hour.items()]
    tables = [
        LatencyTable(*key, np.array(list(rows)), np.array(list(rows.values()), dtype=float))
        for key, rows in latency_ms.items()
    ]
    return mp.Profiles.from_parts(devices, tables)


def pipeline_of(stages: Mapping[str, Any], edges: Sequence[Any] = (), **top: Any) -> mp.Pipeline:
    """Return a pipeline as its file would say it, with an objective of a second unless another one is given."""
    return mp.Pipeline.from_document(
        {"name": "small", "slo": "1s", **top, "stages": dict(stages), "edges": list(edges)}
    )


def arriving_ms(times: Iterable[float]) -> mp.Trace:
    """Return a trace of arrivals at these milliseconds."""
    return mp.Trace.from_ns(np.rint(np.array(list(times)) * 1e6).astype(np.int64), name="small")
