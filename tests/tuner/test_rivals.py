"""The rules of all rivals on pipelines of several stages: each stage by its own figures, and what all share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.tuner.policies import Hpa, InferLine, Observation, Oracle, Ray, Setting, StageObservation, Static
from mipplan.tuner.policies.autoscalers import MetricWindow

NS = 1_000_000_000


def two_stages(first: int = 2, second: int = 4, *, batch: int = 1, chance: float = 1.0) -> Plan:
    """Stage `a` takes 100 ms for a query; `b` 50 ms for a batch of tokens, of which a query makes two by chance."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    graph.add_node("b", model="b", join="each")
    graph.add_edge("a", "b", fanout=2, probability=chance)
    tables = [
        LatencyTable("a", "h", np.array([1]), np.array([100.0])),
        LatencyTable("b", "h", np.arange(batch) + 1, np.full(batch, 50.0)),
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    choices = {"a": ("h", 1, first), "b": ("h", batch, second)}
    return Plan.from_choices(mp.Pipeline(graph), profiles, choices, slo_s=1.0)


def one_stage() -> Plan:
    """A replica that takes 100 ms for a query."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    profiles = Profiles.from_parts(
        [Hardware("h", 1.0)], [LatencyTable("a", "h", np.array([1]), np.array([100.0]))]
    )
    return Plan.from_choices(mp.Pipeline(graph), profiles, {"a": ("h", 1, 1)}, slo_s=1.0)


def setting_of(plan: Plan) -> Setting:
    """Ten queries a second for a minute were planned for; control every second, replicas start within 5 s."""
    return Setting(plan, Trace.from_seconds(np.arange(0.0, 60.0, 0.1)), 0, NS, 5 * NS)


def seen_at(
    second: int,
    replicas: Mapping[str, int],
    *,
    busy: Mapping[str, float] | None = None,
    ongoing: Mapping[str, float] | None = None,
    arrivals: int = 0,
) -> Observation:
    """A second that ends at `second`, with mean busy replicas and mean ongoing tokens of each stage."""
    stages = {
        stage: StageObservation(
            replicas=count,
            active=count,
            waiting=0,
            under_way=0,
            arrived=0,
            busy_ns=round((busy or {}).get(stage, 0.0) * NS),
            active_ns=count * NS,
            ongoing_ns=round((ongoing or {}).get(stage, 0.0) * NS),
        )
        for stage, count in replicas.items()
    }
    times = (second - 1) * NS + np.arange(arrivals, dtype=np.int64) * (NS // max(1, arrivals))
    return Observation(second * NS, NS, times, stages)


class Run:
    """A controller that is shown second after second what is made up, and gets what it asks for."""

    def __init__(self, policy: Hpa | InferLine | Ray | Static, plan: Plan) -> None:
        self.controller = policy.start(setting_of(plan))
        self.replicas = {stage: choice.replicas for stage, choice in plan.choices.items()}
        self.second = 0

    def show(self, seconds: int = 1, **figures: object) -> dict[str, int]:
        """Counts after so many seconds alike."""
        for _ in range(seconds):
            self.second += 1
            seen = seen_at(self.second, self.replicas, **figures)  # type: ignore[arg-type]
            self.replicas = {**self.replicas, **self.controller.decide(seen)}
        return self.replicas


def test_static_keeps_every_stage() -> None:
    run = Run(Static(), two_stages())
    assert run.show(20, busy={"a": 2.0, "b": 0.1}, arrivals=50) == {"a": 2, "b": 4}


def test_hpa_goes_by_the_utilisation_of_each_stage() -> None:
    # Target 0.5. a: 0.9 of 2 replicas busy, ⌈2 · 1.8⌉ = 4. b: 0.55 of 4 is within the tolerance.
    run = Run(Hpa(target=0.5), two_stages())
    assert run.show(15, busy={"a": 1.8, "b": 2.2}) == {"a": 4, "b": 4}
    # Down only to the largest wish of the last 300 s, stage by stage: a's was 4; b's, at 0.8 of 4, is 7.
    assert run.show(15, busy={"a": 0.4, "b": 3.2}) == {"a": 4, "b": 7}


def test_hpa_counts_replicas_that_start_as_idle_ones() -> None:
    # Nearly 10 queries/s, 100 ms each, keep one replica busy; at half of that two are asked for. Until the second one
    # serves, after two minutes, the first one stays busy, which is no reason for more: 1.98 · 1/2 is about 1.
    sample = Trace.from_seconds(np.arange(0.0, 60.0, 0.2))
    trace = Trace.from_seconds(np.arange(0.0, 200.0, 1 / 9.9))
    run = mp.tune(
        one_stage(), trace, sample=sample, policies=[Hpa(target=0.5)], activation_delay_s=120.0
    ).runs[0]
    assert [(action.at_s, action.after) for action in run.actions if action.at_s < 135.0] == [(15.0, 2)]
    # Where those on their way are too few, the rest is ordered: ⌈10 · (1/0.1) · 5/10⌉ = 50, at most twice as many.
    controller = Hpa(target=0.1).start(setting_of(two_stages(10, 4)))
    seen = seen_at(15, {"a": 10, "b": 4}, busy={"a": 10.0, "b": 0.4})
    seen = replace(seen, stages={**seen.stages, "a": replace(seen.stages["a"], active=5)})
    assert controller.decide(seen) == {"a": 20, "b": 4}


def test_ray_goes_by_the_requests_of_each_stage() -> None:
    # Two ongoing requests a replica; a: 9, so 5 replicas, b: 8, which are for its 4.
    run = Run(Ray(up_delay_s=0.0), two_stages())
    assert run.show(ongoing={"a": 9.0, "b": 8.0}) == {"a": 5, "b": 4}
    # In batches, for an expert: b counts 8 tokens as two batches of 4; a, whose batches are of one, has 9 of them.
    run = Run(Ray.tuned(1.0), two_stages(batch=4))
    assert run.show(ongoing={"a": 9.0, "b": 20.0}) == {"a": 9, "b": 5}


def test_what_is_known_adds_up_over_the_periods_that_are_in_the_window() -> None:
    rng = np.random.default_rng(77)
    for length_s, delay_s in ((5.0, 0.0), (5.0, 2.5), (0.4, 0.0), (3.0, 30.0)):
        window, seen = MetricWindow(length_s, delay_s), []
        for second in np.cumsum(rng.integers(1, 4, 60)).tolist():
            figures = {"a": float(rng.random()), "b": float(rng.random())}
            seen.append(
                seen_at(second, {"a": 2, "b": int(rng.integers(1, 5))}, busy=figures, ongoing=figures)
            )
            window.take(seen[-1])
            known_ns = second * NS - round(delay_s * NS)
            oldest_ns = known_ns - round(length_s * NS)
            known = [one for one in seen if oldest_ns < one.now_ns <= known_ns]
            assert window.span_ns == sum(one.period_ns for one in known)
            for stage, sums in window.sums_ns.items():
                stages = [one.stages[stage] for one in known]
                added = [(one.busy_ns, one.active_ns, one.ongoing_ns) for one in stages]
                assert sums == tuple(map(sum, zip(*added, strict=True))) or (not added and not any(sums))


def test_inferline_scales_up_by_the_ratio_of_each_stage() -> None:
    # 10 queries/s planned for. a: μ = 10/s, ρ = 10/(10·2) = 0.5. b: s = 2, μ = 20/s, ρ = 20/(20·4) = 0.25.
    # Forty in a second, seven of them in a closed 150 ms, are 46.7/s. a: ⌈46.7/(10·0.5)⌉; b: ⌈46.7·2/(20·0.25)⌉.
    run = Run(InferLine(), two_stages())
    assert run.show(20, arrivals=10) == {"a": 2, "b": 4}
    assert run.show(arrivals=40) == {"a": 10, "b": 19}


def test_inferline_scales_down_by_the_least_ratio_of_all_stages() -> None:
    # Down, the least ratio counts for all: 0.25, b's. 10 queries/s: a: ⌈10/(10·0.25)⌉ = 4, b: ⌈20/(20·0.25)⌉ = 4. By
    # the largest ratio, 0.5, a would have 2 and b 2; by its own a 2.
    run = Run(InferLine(), two_stages())
    run.show(20, arrivals=10)
    up = dict(run.show(arrivals=40))
    assert up["a"] > 4
    assert up["b"] > 4
    assert run.show(80, arrivals=10) == {"a": 4, "b": 4}
    # Half the traffic: half of that. 5/(10·0.25) = 2, 10/(20·0.25) = 2.
    assert run.show(80, arrivals=5) == {"a": 2, "b": 2}
    # A stage that the sample never reached has no ratio: a's 0.5 counts.
    assert Run(InferLine(), two_stages(chance=1e-9)).show(30, arrivals=10) == {"a": 2, "b": 1}
    # The window of the way down may be longer than all of the look back: then it is the only one.
    assert Run(InferLine(down_look_back_s=1.0), one_stage()).show(30, arrivals=5) == {"a": 1}


def test_hindsight_gives_each_stage_what_its_tokens_need() -> None:
    # 16 queries/s for 10 s: a, at 10/s a replica, needs two; b, with 32 tokens/s at 20/s, two; at twice as many more.
    plan = two_stages(2, 2)
    steady = Trace.from_seconds(np.arange(0.0, 10.0, 1 / 16))
    busy = Trace.from_seconds(np.concatenate([np.arange(0.0, 10.0, 1 / 16), np.arange(10.0, 20.0, 1 / 32)]))
    setting = Setting(plan, steady, 0, NS, NS)
    for trace, peak in ((steady, 16), (busy, 32)):
        found = Oracle().schedules(setting, trace, 0)
        most = {stage: int(schedule.replicas.max()) for stage, schedule in found.items()}
        assert most["a"] >= peak / 10
        assert most["b"] >= 2 * peak / 20
        assert max(most.values()) <= 5
        assert mp.replay(plan, trace, schedule=found).miss_rate(plan.slo_s) == 0


def bounded(least: int, first: int, second: int) -> Plan:
    """Two stages in a chain, of 30 and 80 ms, of which the first may have a minimum."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a", replicas={"min": least})
    graph.add_node("b", model="b")
    graph.add_edge("a", "b")
    tables = [
        LatencyTable(name, "h", np.array([1]), np.array([ms])) for name, ms in (("a", 30.0), ("b", 80.0))
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    return Plan.from_choices(
        mp.Pipeline(graph), profiles, {"a": ("h", 1, first), "b": ("h", 1, second)}, slo_s=0.5
    )


def steady(*parts: tuple[float, float]) -> Trace:
    """Parts of (seconds, queries/s), one after another, evenly spaced."""
    begins = np.cumsum([0.0, *(length for length, _ in parts)])
    times = [
        begin + np.arange(0, length, 1 / rate) for begin, (length, rate) in zip(begins, parts, strict=False)
    ]
    return Trace.from_seconds(np.concatenate(times))


def test_wishes_that_a_minimum_refuses_are_no_changes() -> None:
    """InferLine waits 15 s from a change on; Kubernetes doubles what a stage had 15 s ago, not what it wished."""
    sample, trace = steady((30, 100)), steady((31, 60), (79, 10))
    downs = [
        mp.tune(bounded(least, 3, 8), trace, sample=sample, policies=[InferLine()]).runs[0].schedules["b"]
        for least in (1, 3)
    ]
    assert downs[0].change_ns.tolist() == downs[1].change_ns.tolist()
    trace = steady((330, 1), (45, 250))
    first = [
        mp.tune(bounded(6, 6, 6), trace, sample=steady((20, 20)), policies=[policy]).runs[0].schedules["a"]
        for policy in (Hpa(), Hpa(down_window_s=1e4))
    ]
    assert first[0].change_ns.tolist() == first[1].change_ns.tolist()
    assert first[0].replicas.tolist() == first[1].replicas.tolist()
