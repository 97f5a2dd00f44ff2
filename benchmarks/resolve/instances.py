"""Pipelines whose traffic moves, seeded: what every way of re-solving is given."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.calculus import WindowCounts
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.tuner import doubling_windows_ns

#: Dollars per hour of the kinds of devices.
PRICES = (0.085, 0.526, 1.86, 4.1)
#: Seconds that every traffic is watched before its counts are taken, and from one step to the next.
WATCHED_S, STEP_S = 61.0, 5.0


@dataclass(frozen=True)
class Case:
    """One size of the problem.

    Attributes
    ----------
    name : str
    pipelines, stages : int
        Stages per pipeline.
    fanout : bool
        Whether every pipeline has an edge that makes 2.6 tokens of one, so that waits have to be shared out.
    limit : int or None
        Devices of every kind; chosen so that in some steps not all traffic can be served.
    steps : int
    """

    name: str
    pipelines: int
    stages: int
    fanout: bool
    limit: int | None
    steps: int


CASES = (
    Case("10 stages", 1, 10, False, None, 400),
    Case("10 stages, fan-out", 1, 10, True, None, 400),
    Case("200 stages, ten pipelines", 10, 20, False, 400, 150),
    Case("200 stages, ten pipelines, scarce devices", 10, 20, False, 75, 150),
    Case("200 stages, ten pipelines, fan-out", 10, 20, True, 400, 150),
)


def make_tuner(case: Case) -> mp.JointTuner:
    """All pipelines of a case, on devices that they share."""
    tuners = {f"p{number}": mp.Tuner(make_plan(case, number)) for number in range(case.pipelines)}
    limits = {} if case.limit is None else {f"h{kind}": case.limit for kind in range(len(PRICES))}
    return mp.JointTuner(tuners, conditions=mp.Conditions(limits))


def make_plan(case: Case, number: int) -> mp.Plan:
    """One pipeline: a tree of stages, each on a device and with a cap of its own."""
    rng = np.random.default_rng([5, number])
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = [f"s{k}" for k in range(case.stages)]
    graph.add_nodes_from((name, {"model": name}) for name in names)
    for k in range(1, case.stages):
        attributes: dict[str, object] = {"delay": "1ms"}
        if case.fanout and k == case.stages // 2:
            attributes["fanout"] = 2.6
        graph.add_edge(names[int(rng.integers(max(0, k - 2), k))], names[k], **attributes)
    tables, choices = [], {}
    for name in names:
        hardware = f"h{rng.integers(len(PRICES))}"
        single_ms = float(rng.uniform(2, 8))
        tables.append(LatencyTable(name, hardware, np.array([1, 8]), np.array([single_ms, 2.5 * single_ms])))
        choices[name] = (hardware, int(rng.choice([1, 2, 4, 8])), int(rng.integers(1, 5)))
    kinds = [Hardware(f"h{kind}", price) for kind, price in enumerate(PRICES)]
    return mp.Plan.from_choices(
        Pipeline(graph, name=f"p{number}"), Profiles.from_parts(kinds, tables), choices, slo_s=0.5
    )


def make_traffic(case: Case) -> list[dict[str, WindowCounts]]:
    """Window counts of every pipeline at every step: gamma arrivals whose rate swings between 50 and 250 a second."""
    steps: list[dict[str, WindowCounts]] = [{} for _ in range(case.steps)]
    windows = doubling_windows_ns(100_000_000)
    for number in range(case.pipelines):
        pieces = []
        length_s = WATCHED_S + STEP_S * case.steps
        for k in range(int(length_s / STEP_S) + 1):
            rate = 150 + 100 * np.sin(0.21 * k + number)
            trace = mp.Trace.gamma(rate_rps=rate, cv=2, duration_s=STEP_S, seed=1000 * number + k)
            pieces.append(trace.arrival_ns + round(k * STEP_S * 1e9))
        arrival_ns = np.concatenate(pieces)
        for k, step in enumerate(steps):
            end_ns = round((WATCHED_S + k * STEP_S) * 1e9)
            first, last = np.searchsorted(arrival_ns, [end_ns - round(WATCHED_S * 1e9), end_ns])
            step[f"p{number}"] = WindowCounts.of_arrivals(arrival_ns[first:last], windows)
    return steps
