from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.calculus import StageService, analyse_paths, slowest_within
from mipplan.calculus.paths import LongestWait
from mipplan.calculus.waits import WaitCurve, grid_rate, grid_step
from mipplan.certificate import certify_services, plan_services
from mipplan.core import Allowance, Criterion
from mipplan.pipeline import Pipeline
from mipplan.tokens import realise
from mipplan.trace import Trace
from oracle_certificate import slow_services
from oracle_curves import slow_bound, slow_quantile, slow_seen_paths, slow_waits
from oracle_tokens import slow_tokens
from random_pipelines import random_case

QUANTILES = (0.01, 0.5, 0.9, 0.99, 1.0)


def chain(stages: int, delay_ns: int = 3) -> Pipeline:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for number in range(stages):
        graph.add_node(f"s{number}", model="m")
    for number in range(1, stages):
        graph.add_edge(f"s{number - 1}", f"s{number}", delay=f"{delay_ns}ns")
    return Pipeline(graph)


def only_curve(trace: Trace, quantile: float) -> WaitCurve:
    """The waits of the one stage of a pipeline, of which nothing is known yet."""
    curve = analyse_paths(realise(chain(1), trace), quantile).paths[0].curves[0]
    assert isinstance(curve, WaitCurve)
    return curve


# --------------------------------------------------------------------------------- against the definition


def test_paths_and_waits_equal_their_definition() -> None:
    waits_seen = 0
    for number in range(campaign_size(quick=100, deep=3_000)):
        rng = np.random.default_rng([31, number])
        case = random_case(rng, max_stages=5, max_arrivals=20)
        quantile = float(rng.choice(QUANTILES))
        tokens, ingress = slow_tokens(case.pipeline, len(case.trace), number), case.ingress_ns()
        services = plan_services(case.plan())
        _, rate = slow_services(case.service_ns(), case.replicas(), case.pipeline.sources)
        found = analyse_paths(realise(case.pipeline, case.trace, number), quantile)
        assert not found.truncated
        expected = slow_seen_paths(case.pipeline, tokens, len(ingress), quantile)
        assert sorted(path.stages for path in found.paths) == sorted(expected), f"case {number}"
        for path in found.paths:
            rows = slow_waits(tokens, ingress, path.stages, rate)
            for stage, curve, row in zip(path.stages, path.curves, rows, strict=True):
                exact = curve.exact(services[stage].period_ns, services[stage].tokens)
                assert exact == slow_quantile(row, quantile), f"case {number}, {stage} on {path.stages}"
                waits_seen += exact > 0
    assert waits_seen > 50


def test_bound_equals_its_definition() -> None:
    for number in range(campaign_size(quick=75, deep=3_000)):
        rng = np.random.default_rng([32, number])
        case = random_case(rng, max_stages=5, max_arrivals=20)
        quantile = float(rng.choice(QUANTILES))
        latency, rate = slow_services(case.service_ns(), case.replicas(), case.pipeline.sources)
        tokens, ingress = slow_tokens(case.pipeline, len(case.trace), number), case.ingress_ns()
        found = analyse_paths(realise(case.pipeline, case.trace, number), quantile)
        expected = slow_bound(case.pipeline, tokens, ingress, latency, rate, quantile)
        assert found.bound_ns(plan_services(case.plan())) == expected, f"case {number}"


# ------------------------------------------------------------------------------------- and the certificate


def test_bound_never_exceeds_the_certificate() -> None:
    equal = total = 0
    for number in range(campaign_size(quick=150, deep=20_000)):
        rng = np.random.default_rng([33, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        services = plan_services(case.plan())
        for quantile in QUANTILES:
            bound = analyse_paths(workload, quantile).bound_ns(services)
            certificate = certify_services(workload, services, quantile).bound_ns
            assert bound <= certificate, f"case {number}, quantile {quantile}"
            equal += bound == certificate
            total += 1
    # A relaxation that is never attained would be useless; on random pipelines it mostly is.
    assert equal > total / 4


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_chain_pays_its_bursts_only_once(stages: int) -> None:
    """Corollary of design §3: equality, here with whole ns per token so that nothing is rounded."""
    for number in range(50):
        rng = np.random.default_rng([34, number])
        case = random_case(rng)
        workload = realise(chain(stages), case.trace)
        services = {
            stage: StageService(int(rng.integers(0, 30)), int(rng.integers(0, 40)) * tokens, tokens)
            for stage, tokens in zip(workload.stages, rng.integers(1, 6, stages).tolist(), strict=True)
        }
        for quantile in QUANTILES:
            bound = analyse_paths(workload, quantile).bound_ns(services)
            assert bound == certify_services(workload, services, quantile).bound_ns, f"case {number}"


def test_rounding_costs_a_chain_less_than_one_ns_per_further_stage() -> None:
    for number in range(100):
        rng = np.random.default_rng([35, number])
        workload = realise(chain(4), random_case(rng).trace)
        services = {
            stage: StageService(7, *(int(value) for value in rng.integers(1, 50, 2)))
            for stage in workload.stages
        }
        for quantile in QUANTILES:
            bound = analyse_paths(workload, quantile).bound_ns(services)
            assert 0 <= certify_services(workload, services, quantile).bound_ns - bound <= 3


# ------------------------------------------------------------------------------------------------ by hand


def test_chain_of_any_length_needs_one_curve() -> None:
    found = analyse_paths(realise(chain(6), Trace.from_ns([0, 0, 4])), 0.99)
    (path,) = found.paths
    assert path.stages == tuple(f"s{number}" for number in range(6))
    assert path.lag_ns == 15
    assert len({id(curve) for curve in path.curves}) == 1
    assert [path.curves[0].exact(10, 1), path.curves[0].exact(10, 2), path.curves[0].exact(0, 1)] == [
        16,
        6,
        0,
    ]


def test_rare_branch_is_not_seen_by_the_quantile() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in ("a", "rare", "often"):
        graph.add_node(name, model="m")
    graph.add_edge("a", "rare", probability=0.02)
    graph.add_edge("a", "often", probability=0.9)
    workload = realise(Pipeline(graph), Trace.from_ns(np.arange(1_000)))
    seen = {q: {path.stages for path in analyse_paths(workload, q).paths} for q in (0.5, 0.95, 0.999)}
    assert seen[0.5] == {("a",), ("a", "often")}
    assert seen[0.95] == {("a",), ("a", "often")}
    assert seen[0.999] == {("a",), ("a", "often"), ("a", "rare")}


def test_too_many_paths_leave_a_weaker_bound() -> None:
    case = next(
        case
        for case in (random_case(np.random.default_rng([36, number])) for number in range(200))
        if len(analyse_paths(realise(case.pipeline, case.trace), 1.0).paths) >= 4
    )
    workload, services = realise(case.pipeline, case.trace), plan_services(case.plan())
    whole = analyse_paths(workload, 1.0)
    part = analyse_paths(workload, 1.0, most_paths=2)
    assert part.truncated
    assert len(part.paths) == 2
    assert [path.stages for path in part.paths] == [path.stages for path in whole.paths[:2]]
    assert 0 < part.bound_ns(services) <= whole.bound_ns(services)


# -------------------------------------------------------------------------------------------- wait curves


def test_lower_bounds_exact_and_exact_is_monotone() -> None:
    known = 0
    for number in range(60):
        rng = np.random.default_rng([37, number])
        case = random_case(rng)
        found = analyse_paths(realise(case.pipeline, case.trace, number), 0.9)
        for curve in {id(curve): curve for path in found.paths for curve in path.curves}.values():
            pairs = [(int(rng.integers(0, 60)), int(rng.integers(1, 9))) for _ in range(12)]
            exact: dict[Fraction, int] = {}
            for period_ns, tokens in pairs:
                lower = curve.lower(period_ns, tokens)
                value = curve.exact(period_ns, tokens)
                assert 0 <= lower <= value
                known += lower > 0
                exact[Fraction(period_ns, tokens)] = value
                assert curve.lower(period_ns, tokens) == value
            ordered = [exact[slope] for slope in sorted(exact)]
            assert ordered == sorted(ordered)
    assert known > 100


@pytest.mark.parametrize(("duration_s", "most_passes", "off"), [(40, 80, 0.005), (300, 25, 0.03)])
def test_bounds_from_nearby_rates_are_close_and_never_above(
    duration_s: float, most_passes: int, off: float
) -> None:
    """A pipeline with a branch on bursty traffic: bounds at any rate, from few passes over a long trace."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    graph.add_node("b", model="m")
    graph.add_edge("a", "b", probability=0.4)
    trace = Trace.gamma(rate_rps=200, cv=3, duration_s=duration_s, seed=5)
    workload = realise(Pipeline(graph), trace, 1)
    rates = [(round(1_000 * 1.01**step), 1_000) for step in range(900, 1500)]  # 8 µs to 3 ms per token
    curves = {
        id(curve): curve for found in analyse_paths(workload, 0.99).paths for curve in found.curves
    }.values()
    lower = [[curve.lower(*rate) for rate in rates] for curve in curves]
    # The waits of all curves of a stage come from one pass at a rate.
    assert len(curves) == 3
    assert len({id(curve.queue) for curve in curves}) == 2
    assert max(curve.queue.passes for curve in curves) < most_passes
    for curve, bounds in zip(curves, lower, strict=True):
        exact = [curve.exact(*rate) for rate in rates]
        assert all(0 <= low <= value for low, value in zip(bounds, exact, strict=True))
        far_off = [value - low for low, value in zip(bounds, exact, strict=True)]
        assert max(far_off) <= off * exact[-1]
        assert exact[-1] > 0


def test_bounds_that_need_not_be_close_cost_fewer_passes() -> None:
    """Whatever waits need not be told apart, and in whatever order rates are asked about, bounds stay bounds."""
    trace = Trace.gamma(rate_rps=200, cv=3, duration_s=40, seed=6)
    rates = [(round(1_000 * 1.03**step), 1_000) for step in range(300, 500)]  # 7 µs to 2.6 ms per token
    close, truth = (only_curve(trace, 0.99) for _ in range(2))
    exact = [truth.exact(*rate) for rate in rates]
    for rate in rates:
        close.lower(*rate)
    least, most = exact[-1] // 50, exact[-1] // 4
    curve = only_curve(trace, 0.99)
    for number in np.random.default_rng(7).permutation(len(rates)).tolist():
        assert 0 <= curve.lower(*rates[number], least_ns=least, most_ns=most) <= exact[number]
    lower = [curve.lower(*rate, least_ns=least, most_ns=most) for rate in rates]
    # Between the evaluated rates a bound is off by 3 % of the longest wait, as above.
    slack = 0.03 * exact[-1]
    for low, value in zip(lower, exact, strict=True):
        assert value <= least or value - low <= slack or low > most
    assert curve.queue.passes < close.queue.passes


def test_the_slowest_rate_within_a_limit_is_that_of_one_rate_after_another() -> None:
    @dataclass
    class Straight:
        factor: int
        asked: int = 0

        def exact(self, period_ns: int, tokens: int) -> int:
            return self.factor * period_ns // tokens

        def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = 0) -> int:
            self.asked += 1
            return self.exact(period_ns, tokens)

    rng = np.random.default_rng(38)
    for number in range(200):
        least, most = sorted(np.exp(rng.uniform(-1.0, 14.0, 2)).tolist())
        wait, limit_ns = Straight(int(rng.integers(1, 50))), int(np.exp(rng.uniform(0.0, 18.0)))
        steps = range(grid_step(least) + 1, grid_step(most) + 2)
        within = [step for step in steps if wait.exact(*grid_rate(step)) <= limit_ns]
        expected = grid_rate(within[-1] if within else steps.start - 1)
        assert slowest_within(wait, limit_ns, least, most) == expected, number
        assert wait.asked <= 2 * (len(steps) + 1).bit_length()


def test_what_lies_between_two_rates_of_the_grid_is_bounded_from_both() -> None:
    """Fresh curves at single rates: waits are at least those at the next faster rate of the coarse grid."""
    exceeded = 0
    for seed in range(20):
        trace = Trace.gamma(rate_rps=200, cv=4, duration_s=3, seed=seed)
        truth = only_curve(trace, 0.95)
        for step in (*range(530, 620, 7), -3):
            curve = only_curve(trace, 0.95)
            rate = (round(1.009 * grid_rate(step)[0]), grid_rate(step)[1]) if step >= 0 else (1, 2)
            below = grid_rate(step // truth.queue.coarse * truth.queue.coarse) if step >= 0 else (0, 1)
            found, least = curve.lower(*rate, least_ns=1), truth.exact(*below)
            assert least <= found <= truth.exact(*rate)
            exceeded += found > least
    assert exceeded > 100


def test_what_is_known_of_slower_rates_says_enough_without_another_pass() -> None:
    """Two of them, and nothing of faster ones: a wait that is certainly too long is not evaluated."""
    trace = Trace.gamma(rate_rps=200, cv=3, duration_s=40, seed=6)
    curve, truth = (only_curve(trace, 0.99) for _ in range(2))
    for tokens in (990, 980):
        curve.exact(2_000_000, tokens)
    exact = truth.exact(2_000_000, 1_000)
    assert curve.queue.passes == 2
    assert exact // 2 < curve.lower(2_000_000, 1_000, most_ns=exact // 2) <= exact
    assert curve.queue.passes == 2


@dataclass
class Noted:
    """A wait of which it is noted that it was asked."""

    value_ns: int
    asked: list[tuple[int, int, int]]

    def exact(self, period_ns: int, tokens: int) -> int:
        """The same at all rates."""
        return self.value_ns

    def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = 0) -> int:
        """The same."""
        self.asked.append((self.value_ns, least_ns, most_ns))
        return self.value_ns


def test_of_several_waits_one_that_is_too_long_says_enough() -> None:
    asked: list[tuple[int, int, int]] = []
    several = LongestWait(tuple(Noted(ns, asked) for ns in (3, 5, 8, 9)))
    assert several.exact(1, 1) == several.lower(1, 1) == 9
    asked.clear()
    assert several.lower(1, 1, least_ns=4, most_ns=7) == 8
    assert asked == [(3, 4, 7), (5, 4, 7), (8, 5, 7)]
    asked.clear()
    assert several.lower(1, 1, most_ns=8) == 9, "what just reaches the limit is not too long"


def test_steps_of_the_grid_are_surely_below() -> None:
    assert [grid_step(slope) for slope in (0.5, 1.0, 1.01, 1.5, 1.99)] == [-1, -1, 0, 20, 34]
    for slope in (1.2, 3.7, 1234.5, 9e8):
        step = grid_step(slope)
        period_ns, tokens = grid_rate(step)
        assert period_ns <= slope * tokens < grid_rate(step + 1)[0]


def test_no_wait_is_below_that_of_the_busiest_windows() -> None:
    """One window in ten has a burst, which a quantile over all queries does not see."""
    calm, burst = np.arange(0, 900) * 10_000, 9_000_000 + np.arange(150) * 10
    trace = Trace.from_ns(np.concatenate([calm, burst]))
    workload = realise(chain(2), trace)
    whole = Allowance.of(0.85, trace.arrival_ns)
    windows = Allowance.of(0.85, trace.arrival_ns, 1_000_000)
    rate = {"s0": StageService(1, 1_000, 1), "s1": StageService(1, 1_000, 1)}
    of_all, of_each = (analyse_paths(workload, Criterion(asked)).bound_ns(rate) for asked in (whole, windows))
    assert of_all < 10
    # 85 % of the 150 wait for at most all but 10 ns of the 1,000 ns of each before.
    assert 126 * 990 < of_each < 129 * 990
    assert of_each <= certify_services(workload, rate, Criterion(windows)).bound_ns


def test_equal_rates_are_evaluated_once() -> None:
    curve = only_curve(Trace.from_ns([0, 0, 0, 1]), 1.0)
    assert [curve.exact(6, 4), curve.exact(3, 2), curve.exact(300, 200)] == [4, 4, 4]
    assert curve.queue.passes == 1
    assert curve.lower(9, 6) == 4
    assert curve.queue.passes == 1
    # Between two steps of the coarse grid one evaluation does for all.
    for tokens in (700, 701, 702):
        assert curve.lower(1000, tokens) <= curve.exact(1000, tokens)


def test_every_sequence_of_tokens_in_a_tree_is_read_once_for_each_rate() -> None:
    """Whatever paths and stages share it, and however many sets of its tokens count."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in "abcdef":
        graph.add_node(stage, model="m")
    for parent, child, probability in (("a", "b", 0.6), ("b", "c", 1.0), ("a", "d", 0.3), ("d", "e", 1.0)):
        graph.add_edge(parent, child, probability=probability)
    graph.add_edge("c", "f", probability=0.5)
    workload = realise(Pipeline(graph), Trace.gamma(rate_rps=200, cv=2, duration_s=10, seed=3), 1)
    paths = analyse_paths(workload, 0.99).paths
    rates = [(1_000_000, 3), (2_000_000, 3), (1_000_000, 2)]
    for path in paths:
        for curve in path.curves:
            for rate in rates:
                curve.exact(*rate)
    curves = {id(curve): curve for path in paths for curve in path.curves}.values()
    queues = {id(curve.queue): curve.queue for curve in curves}.values()
    assert sorted("".join(path.stages) for path in paths) == ["a", "abc", "abcf", "ade"]
    assert len({tokens.query.tobytes() for tokens in workload.stages.values()}) == len(queues) == 4
    assert len(curves) == 4 + 2 + 1 + 1  # a: all, and those that go on to c, f and e; b and c: all, and to f
    assert [queue.passes for queue in queues] == [len(rates)] * len(queues)


def test_waits_at_infinite_rate_are_zero() -> None:
    """Not negative: a token waits at least for itself."""
    curve = only_curve(Trace.from_ns([0, 100, 300]), 1.0)
    assert curve.exact(0, 1) == 0
