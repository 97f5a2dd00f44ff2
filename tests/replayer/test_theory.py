"""The replayer against queueing theory: mean waits that are known in closed form, or as a linear system.

Independent replications with fixed seeds give a t-interval. A test fails if theory lies outside the interval of
99.9 %, and also if that interval is wider than 2 % of the mean to either side, for then it would prove little.
"""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from scipy import stats

from campaigns import campaign_size, write_summary
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import ServiceNoise, replay
from mipplan.result import Plan
from mipplan.trace import Trace

SERVICE_S = 0.001
QUERIES = campaign_size(quick=150_000, deep=1_500_000)
#: Of each replication, not counted: the queue starts empty.
WARM_UP = 5_000
REPLICATIONS = 32
CONFIDENCE = 0.999
NARROW = 0.02
#: Quantiles of the exponential distribution of mean 1: the mean of each of 65,536 equally likely parts, so that the
#: mean is exact and the second moment too small by a share of 1.3·10⁻⁵.
PARTS = 65_536


def exponential_factors() -> np.ndarray:
    survival = 1.0 - np.arange(PARTS) / PARTS
    # ∫ −ln(s) ds over a part, with s·ln(s) = 0 at 0.
    inner = survival - survival * np.log(survival)
    return np.diff(np.append(inner, 0.0)) * -PARTS


# --------------------------------------------------------------------------------------------------- theory


def mean_wait_md1(load: float, service_s: float) -> float:
    """Pollaczek (1930) and Khinchine (1932): ρ·D / (2(1 − ρ))."""
    return load * service_s / (2.0 * (1.0 - load))


def stationary_mdc(load: float, replicas: int, states: int) -> np.ndarray:
    """Distribution of the number in an M/D/c system at any time.

    Crommelin (1932): whoever is in service now has left after one service time D, and nobody who waits now has, so
    ``N(t + D) = max(N(t) − c, 0) + Poisson(λD)``. The distribution that this leaves as it is solves a linear system,
    here cut off at `states`. See Franx, "A simple solution for the M/D/c waiting time distribution", Oper. Res.
    Lett. 29(5), 2001, doi:10.1016/S0167-6377(01)00108-0.
    """
    arrivals = stats.poisson.pmf(np.arange(states), load * replicas)
    step = np.zeros((states, states))
    for now in range(states):
        left = max(now - replicas, 0)
        step[now, left:] = arrivals[: states - left]
    step /= step.sum(axis=1, keepdims=True)
    system = step.T - np.eye(states)
    system[-1] = 1.0  # one equation follows from the others; instead, the shares add up to 1
    return np.linalg.solve(system, np.eye(states)[-1])


def mdc(load: float, replicas: int, service_s: float) -> tuple[float, float]:
    """Mean wait by Little's law, and the share that waits (Poisson arrivals see time averages)."""
    share = stationary_mdc(load, replicas, states=300)
    waiting = np.maximum(np.arange(share.size) - replicas, 0)
    return float(share @ waiting) * service_s / (load * replicas), float(share[replicas:].sum())


def mmc(load: float, replicas: int, service_s: float) -> tuple[float, float]:
    """Erlang (1917): the share that waits C(c, cρ), and the mean wait C·S / (c(1 − ρ))."""
    offered = load * replicas
    terms = [offered**k / math.factorial(k) for k in range(replicas)]
    last = offered**replicas / math.factorial(replicas) / (1.0 - load)
    waits = last / (sum(terms) + last)
    return waits * service_s / (replicas * (1.0 - load)), waits


def test_the_linear_system_gives_pollaczek_and_khinchine_for_one_server() -> None:
    for load in (0.3, 0.7, 0.9):
        wait, waits = mdc(load, 1, SERVICE_S)
        assert wait == pytest.approx(mean_wait_md1(load, SERVICE_S), rel=1e-9)
        assert waits == pytest.approx(load, rel=1e-9)


def test_the_linear_system_is_cut_off_where_nothing_is() -> None:
    short, long = stationary_mdc(0.8, 4, 150), stationary_mdc(0.8, 4, 300)
    assert short == pytest.approx(long[:150], abs=1e-12)
    assert long[150:] == pytest.approx(0.0, abs=1e-12)


def test_one_server_waits_half_as_long_where_service_is_certain() -> None:
    wait, waits = mmc(0.7, 1, SERVICE_S)
    assert waits == pytest.approx(0.7)
    assert wait == pytest.approx(2.0 * mean_wait_md1(0.7, SERVICE_S))


def test_exponential_levels_have_the_moments_of_the_exponential_distribution() -> None:
    factors = exponential_factors()
    assert np.all(np.diff(factors) > 0)
    assert factors.mean() == pytest.approx(1.0, rel=1e-12)
    assert np.mean(factors**2) == pytest.approx(2.0, rel=2e-5)


# ---------------------------------------------------------------------------------------------- replications


def lone_stage(replicas: int) -> Plan:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    profiles = Profiles.from_parts(
        [Hardware("h", 1.0)], [LatencyTable("a", "h", np.array([1]), np.array([1.0]))]
    )
    return Plan.from_choices(Pipeline(graph), profiles, {"a": ("h", 1, replicas)}, slo_s=1.0)


def observe(load: float, replicas: int, noise: ServiceNoise | None = None) -> np.ndarray:
    """Mean wait and share that waits of each replication, shape (REPLICATIONS, 2)."""
    plan = lone_stage(replicas)
    rate_rps = load * replicas / SERVICE_S
    seen = []
    # Seeds of their own for each case: common ones would make all cases err to the same side.
    first = int(1_000_000 * load + 1_000 * replicas + (500 if noise is not None else 0))
    for number in range(first, first + REPLICATIONS):
        trace = Trace.poisson(rate_rps=rate_rps, duration_s=QUERIES / rate_rps, seed=number)
        wait_ns = replay(plan, trace, seed=number, noise=noise).stages["a"].wait_ns[WARM_UP:]
        seen.append((wait_ns.mean() / 1e9, np.mean(wait_ns > 0)))
    return np.array(seen)


def check(name: str, theory: tuple[float, float], seen: np.ndarray) -> None:
    mean = seen.mean(axis=0)
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, len(seen) - 1)
    half = quantile * seen.std(axis=0, ddof=1) / math.sqrt(len(seen))
    for what, expected, observed, reach in zip(("mean wait", "waits"), theory, mean, half, strict=True):
        assert reach < NARROW * expected, f"{what}: ±{reach / expected:.2%} is too wide to tell"
        assert abs(observed - expected) <= reach, (
            f"{what}: {observed:.6g} ± {reach:.2g}, theory {expected:.6g}"
        )
    write_summary(
        f"theory-{name}",
        {
            "replications": len(seen),
            "queries_each": QUERIES,
            "mean_wait_s": {"theory": theory[0], "replayed": mean[0], "half_width": half[0]},
            "share_that_waits": {"theory": theory[1], "replayed": mean[1], "half_width": half[1]},
        },
    )


@pytest.mark.parametrize("load", [0.5, 0.7, 0.8])
def test_one_server_with_certain_service(load: float) -> None:
    check(f"md1-{load:g}", (mean_wait_md1(load, SERVICE_S), load), observe(load, 1))


@pytest.mark.parametrize(("load", "replicas"), [(0.6, 2), (0.7, 5)])
def test_several_servers_with_certain_service(load: float, replicas: int) -> None:
    check(f"md{replicas}-{load:g}", mdc(load, replicas, SERVICE_S), observe(load, replicas))


@pytest.mark.parametrize(("load", "replicas"), [(0.5, 1), (0.6, 3)])
def test_exponential_service(load: float, replicas: int) -> None:
    noise = ServiceNoise.from_factors(exponential_factors())
    check(f"mm{replicas}-{load:g}", mmc(load, replicas, SERVICE_S), observe(load, replicas, noise))


def test_the_check_can_fail() -> None:
    """Exponential service is not certain service, and 2.5 % more wait is seen."""
    seen = observe(0.5, 1)
    with pytest.raises(AssertionError, match="theory"):
        check("wrong", mmc(0.5, 1, SERVICE_S), seen)
    with pytest.raises(AssertionError, match="theory"):
        check("wrong", (1.025 * mean_wait_md1(0.5, SERVICE_S), 0.5), seen)
