"""What the replay benchmark compares us with computes the same: it would be no comparison otherwise.

Times are drawn from few nanoseconds, so that arrivals and completions of all stages fall on one instant all the time.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles

PEERS_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "replay" / "peers.py"


def load_peers() -> ModuleType:
    """Benchmarks are no package that is installed."""
    name = "benchmarked_peers"
    spec = importlib.util.spec_from_file_location(name, PEERS_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


peers = load_peers()
EXACT = {"heap": peers.replay_by_heap, "simpy": peers.replay_by_simpy}


def random_chain(rng: np.random.Generator, unit_ns: int, *, largest_cap: int = 5) -> tuple[mp.Plan, mp.Trace]:
    """A chain of one to four stages whose batches take a few units, and arrivals a few units apart."""
    names = [f"s{number}" for number in range(int(rng.integers(1, 5)))]
    edges = [{"from": above, "to": below} for above, below in itertools.pairwise(names)]
    pipeline = Pipeline.from_document(
        {"name": "chain", "stages": {name: {"model": name} for name in names}, "edges": edges}
    )
    tables, choices = [], {}
    for name in names:
        cap = int(rng.integers(1, largest_cap + 1))
        latency_ms = rng.integers(1, 8, cap) * unit_ns * 1e-6
        tables.append(LatencyTable(name, "h", np.arange(cap) + 1, latency_ms))
        choices[name] = ("h", cap, int(rng.integers(1, 5)))
    plan = mp.Plan.from_choices(
        pipeline, Profiles.from_parts([Hardware("h", 1.0)], tables), choices, slo_s=1.0
    )
    gaps = rng.integers(0, int(rng.integers(2, 8)), int(rng.integers(2, 80)))
    return plan, mp.Trace.from_ns(np.cumsum(gaps) * unit_ns)


def latencies(replay: Callable[..., Any], plan: mp.Plan, trace: mp.Trace) -> list[float]:
    settings = [
        peers.StageSettings(plan.service_ns(name).tolist(), choice.replicas)
        for name, choice in plan.choices.items()
    ]
    found: list[float] = replay(trace.arrival_ns.tolist(), settings)
    return found


@pytest.mark.parametrize("peer", EXACT)
def test_equals_peer_in_every_nanosecond(peer: str) -> None:
    batched = 0
    for number in range(campaign_size(quick=150, deep=5_000)):
        plan, trace = random_chain(np.random.default_rng([91, number]), unit_ns=1)
        result = mp.replay(plan, trace, discipline="fifo", engine="python")
        assert latencies(EXACT[peer], plan, trace) == result.latency_ns.tolist(), f"case {number}"
        batched += max(stage.batch_size.max() for stage in result.stages.values()) > 1
    assert batched > number / 3


# Ciw copies an `itertools` object, which Python 3.12 and 3.13 call deprecated.
@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")
def test_ciw_agrees_up_to_rounding() -> None:
    """Whichever of two tokens of one instant goes first is Ciw's to choose, so here no two come together."""
    pytest.importorskip("ciw")
    for number in range(campaign_size(quick=10, deep=200)):
        rng = np.random.default_rng([92, number])
        plan, trace = random_chain(rng, unit_ns=10**7, largest_cap=1)
        scattered = np.sort(trace.arrival_ns + rng.integers(0, 10**7, len(trace)))
        trace = mp.Trace.from_ns(scattered)
        result = mp.replay(plan, trace, discipline="fifo", engine="python")
        found = latencies(peers.replay_by_ciw, plan, trace)
        # Seconds in float64, added up along the trace: some 1e-15 of a few seconds each.
        np.testing.assert_allclose(found, result.latency_ns, rtol=0, atol=1)


def test_ciw_is_not_asked_for_batches() -> None:
    with pytest.raises(ValueError, match="single tokens"):
        peers.replay_by_ciw([0, 1], [peers.StageSettings([1, 2], 1)])
