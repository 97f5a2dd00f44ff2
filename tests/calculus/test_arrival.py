from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.calculus import ArrivalCurve
from mipplan.calculus.arrival import check_curve
from mipplan.core import InputError
from oracle_curve_algebra import ServiceCurve, after_delay, convolve, horizontal_deviation, vertical_deviation

INF = math.inf
Pair = tuple[float, float]


def alpha(*buckets: Pair) -> ArrivalCurve:
    return ArrivalCurve(buckets)


def beta(rate: float, latency_s: float) -> ServiceCurve:
    return ServiceCurve.rate_latency(rate, latency_s)


# ----------------------------------------------------------------------- reference numbers


def per_server_delays(arrival: ArrivalCurve, servers: list[ServiceCurve]) -> float:
    """Bound each server alone, with the traffic as the one before left it."""
    total = 0.0
    for server in servers:
        delay_s = horizontal_deviation(arrival, server)
        arrival = after_delay(arrival, delay_s)
        total += delay_s
    return total


def end_to_end_delay(arrival: ArrivalCurve, servers: list[ServiceCurve]) -> float:
    whole = servers[0]
    for server in servers[1:]:
        whole = convolve(whole, server)
    return horizontal_deviation(arrival, whole)


@pytest.mark.parametrize(
    ("bucket", "servers", "once", "per_server"),
    [
        ((4, 3), [(10, 1)], 1.4, 1.4),
        ((4, 3), [(10, 1), (8, 2)], 3.5, 4.425),
        ((6, 5), [(10, 0.02), (12, 0.05), (9, 0.01)], 0.746667, 2.898519),
    ],
)
def test_reference_delays(bucket: Pair, servers: list[Pair], once: float, per_server: float) -> None:
    curves = [beta(*server) for server in servers]
    assert end_to_end_delay(alpha(bucket), curves) == pytest.approx(once, abs=5e-7)
    assert per_server_delays(alpha(bucket), curves) == pytest.approx(per_server, abs=5e-7)


# -------------------------------------------------------------------------------------- worked by hand


@pytest.mark.parametrize(
    ("arrival", "service", "delay_s", "backlog"),
    [
        pytest.param(alpha((4, 3)), beta(10, 1), 1.4, 7, id="token bucket"),
        pytest.param(alpha((4, 11)), beta(10, 1), INF, INF, id="rate above R"),
        pytest.param(alpha((5, 10)), beta(10, 1), 1.5, 15, id="rate equal to R"),
        pytest.param(alpha((0, 0)), beta(10, 1), 0, 0, id="no traffic"),
        pytest.param(alpha((0, 0)), beta(0, 0), 0, 0, id="no traffic, no service"),
        pytest.param(alpha((4, 0)), beta(0, 0), INF, 4, id="no service"),
        pytest.param(alpha((3, 0)), beta(10, 1), 1.3, 3, id="one burst"),
        pytest.param(alpha((0, 5)), beta(10, 1), 1, 5, id="no burst: the first traffic waits T all the same"),
        pytest.param(alpha((0, 10)), beta(10, 1), 1, 10, id="no burst, rate equal to R"),
        pytest.param(alpha((0, 5)), ServiceCurve(((0, 1), (0, 2), (9, INF))), 3, 15, id="idle in two pieces"),
        pytest.param(alpha((0, 5)), beta(10, 0), 0, 0, id="no burst, no latency"),
        pytest.param(alpha((4, 3)), beta(INF, 2), 2, 10, id="pure delay"),
        pytest.param(alpha((0, 3)), beta(INF, 2), 2, 6, id="pure delay, no burst"),
        pytest.param(alpha((4, 3)), beta(INF, 0), 0, 0, id="at once"),
        # α breaks at u = 3/7 with 37/7 tokens; β reaches those at 1 + 37/35.
        pytest.param(alpha((4, 3), (1, 10)), beta(5, 1), 1 + 22 / 35, 7, id="two buckets"),
        # β: 2 tokens/s for 4 s, then 10; it has 8 tokens at 4 s, α at u = 1.
        pytest.param(
            alpha((5, 3)), ServiceCurve(((2, 4), (10, INF))), 3, 9, id="break of the service decides"
        ),
    ],
)
def test_deviations(arrival: ArrivalCurve, service: ServiceCurve, delay_s: float, backlog: float) -> None:
    assert horizontal_deviation(arrival, service) == pytest.approx(delay_s, abs=1e-12)
    assert vertical_deviation(arrival, service) == pytest.approx(backlog, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "segments"),
    [
        (beta(10, 1), beta(8, 2), ((0, 3), (8, INF))),
        (beta(10, 0), beta(8, 0), ((8, INF),)),
        (beta(INF, 1), beta(8, 2), ((0, 3), (8, INF))),
        (beta(INF, 1), beta(INF, 2), ((0, 3), (INF, INF))),
        (beta(0, 0), beta(8, 2), ((0, INF),)),
        (ServiceCurve(((1, 2), (5, INF))), ServiceCurve(((1, 1), (4, INF))), ((1, 3), (4, INF))),
        (ServiceCurve(((1, 2), (5, INF))), beta(4, 0), ((1, 2), (4, INF))),
        (
            ServiceCurve(((3, 2), (5, INF))),
            ServiceCurve(((1, 1), (4, 7), (6, INF))),
            ((1, 1), (3, 2), (4, 7), (5, INF)),
        ),
    ],
)
def test_convolution(first: ServiceCurve, second: ServiceCurve, segments: tuple[Pair, ...]) -> None:
    assert convolve(first, second).segments == segments
    assert convolve(second, first).segments == segments


# ---------------------------------------------------------------------------------- arrival curves alone


def test_arrival_curve_at_the_origin() -> None:
    curve = alpha((4, 3))
    assert (curve(0.0), curve(-1.0), curve.just_after(0.0), curve(2.0)) == (0.0, 0.0, 4.0, 10.0)


def test_useless_buckets_are_dropped() -> None:
    curve = alpha((1, 10), (4, 3), (2, 10), (9, 4), (3.9, 7), (50, 0))
    assert curve.buckets == ((1, 10), (4, 3), (50, 0))
    assert curve.breakpoints() == pytest.approx((3 / 7, 46 / 3))
    assert curve.rate == 0
    assert curve.minimum(alpha((0, 0))).buckets == ((0.0, 0.0),)


def test_first_reach_of_an_arrival_curve() -> None:
    curve = alpha((1, 10), (4, 3), (50, 0))
    reaches = [curve.first_reach(tokens) for tokens in (0, 1, 2, 10, 50, 50.1)]
    assert reaches == pytest.approx([0, 0, 0.1, 2, 46 / 3, INF])


@pytest.mark.parametrize("bucket", [(-1, 1), (1, -1), (INF, 1), (1, INF), (math.nan, 1)])
def test_impossible_bucket_is_refused(bucket: Pair) -> None:
    with pytest.raises(InputError, match="finite and not negative"):
        alpha(bucket)


def test_a_curve_to_keep_lets_a_query_arrive() -> None:
    check_curve(ArrivalCurve.token_bucket(1.0, 0.5), is_kept=True)
    for curve, kept, said in (
        (ArrivalCurve.token_bucket(0.9, 10.0), True, "its burst is below one query"),
        (ArrivalCurve.token_bucket(2.0, 10.0), False, "goes with the guarantee envelope only"),
        (((2.0, 10.0),), True, "expected an ArrivalCurve, found tuple"),
    ):
        with pytest.raises(InputError, match=said):
            check_curve(curve, kept)


def test_arrival_curve_needs_a_bucket() -> None:
    with pytest.raises(InputError, match="at least one"):
        ArrivalCurve(())


def test_words_are_no_bucket() -> None:
    word: Any = "many"
    with pytest.raises(InputError, match="finite and not negative, found \\('many', 1\\)"):
        ArrivalCurve.token_bucket(word, 1)


# ---------------------------------------------------------------------------------- service curves alone


def test_service_curve_values_and_reaches() -> None:
    curve = ServiceCurve(((0, 1), (2, 3), (5, INF)))
    assert [curve(time) for time in (-1, 0, 1, 2, 4, 6)] == [0, 0, 0, 2, 6, 16]
    assert [curve.first_reach(tokens) for tokens in (0, 1, 6, 16)] == [0, 1.5, 4, 6]
    assert (curve.rate, curve.idle_s, curve.corners()) == (5, 1, ((0, 0), (1, 0), (4, 6)))
    assert beta(0, 0).first_reach(1) == beta(0, 0).idle_s == INF
    assert beta(INF, 2).first_reach(1) == 2


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ((), "infinite length"),
        (((1, 2),), "infinite length"),
        (((3, 1), (2, INF)), "rise"),
        (((-1, INF),), "rise"),
        (((math.nan, INF),), "rise"),
        (((1, 0), (2, INF)), "positive"),
        (((1, -2), (2, INF)), "positive"),
        (((1, math.nan), (2, INF)), "positive"),
    ],
)
def test_impossible_service_curve_is_refused(segments: tuple[Pair, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServiceCurve(segments)


@pytest.mark.parametrize(("rate", "latency_s"), [(-1, 0), (1, -1), (1, INF), (math.nan, 1), (1, math.nan)])
def test_impossible_rate_latency_is_refused(rate: float, latency_s: float) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        beta(rate, latency_s)


# ------------------------------------------------------------------------------------------- properties

numbers = st.integers(0, 12)
arrival_curves = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).map(
    lambda buckets: ArrivalCurve(tuple(buckets))
)


@st.composite
def service_curves(draw: st.DrawFn) -> ServiceCurve:
    rates = sorted(draw(st.lists(numbers, min_size=1, max_size=4)))
    lengths = draw(st.lists(st.integers(1, 5), min_size=len(rates) - 1, max_size=len(rates) - 1))
    last = INF if draw(st.booleans()) and draw(st.booleans()) else rates[-1]
    return ServiceCurve(tuple(zip([*rates[:-1], last], [*lengths, INF], strict=True)))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), st.fractions(0, 20, max_denominator=7))
def test_lower_envelope_is_the_minimum(buckets: list[tuple[int, int]], window: float) -> None:
    expected = min(burst + rate * float(window) for burst, rate in buckets)
    curve = ArrivalCurve(tuple(buckets))
    assert curve.just_after(float(window)) == pytest.approx(expected)
    breaks = curve.breakpoints()
    assert list(breaks) == sorted(breaks)
    assert all(width >= 0 for width in breaks)


@given(arrival_curves, st.integers(0, 5), st.integers(1, 30))
def test_delay_shifts_an_arrival_curve(curve: ArrivalCurve, delay: int, window: int) -> None:
    assert after_delay(curve, delay)(window) == pytest.approx(curve(window + delay))


@given(service_curves(), service_curves(), st.integers(0, 30))
def test_convolution_is_the_infimum_over_splits(first: ServiceCurve, second: ServiceCurve, time: int) -> None:
    """Lengths are whole seconds, so for a whole time the infimum lies at a whole split."""
    splits = (first(split) + second(time - split) for split in range(time + 1))
    assert convolve(first, second)(time) == pytest.approx(min(splits))


GRID = [step / 64 for step in range(1, 64 * 40)]


@given(arrival_curves, service_curves())
def test_deviations_equal_a_search_over_windows(arrival: ArrivalCurve, service: ServiceCurve) -> None:
    delay_s, backlog = horizontal_deviation(arrival, service), vertical_deviation(arrival, service)
    if arrival.rate > service.rate:
        assert delay_s == backlog == INF
        return
    searched_s = max(service.first_reach(arrival(u)) - u for u in GRID)
    if math.isfinite(searched_s):
        # Between two points of the grid a deviation moves by less than one step per unit of slope ratio.
        assert searched_s <= delay_s + 1e-9
        assert delay_s <= searched_s + 13 / 64
    else:
        assert delay_s == INF
    searched = max(arrival(u) - service(u) for u in GRID)
    assert max(0.0, searched) <= backlog + 1e-9
    assert backlog <= max(0.0, searched) + 2 * 12 / 64


@given(arrival_curves, service_curves(), st.sampled_from(GRID))
def test_delay_bound_holds(arrival: ArrivalCurve, service: ServiceCurve, window: float) -> None:
    """α(u) ≤ β(u + d): what arrived in any window is served d later."""
    delay_s = horizontal_deviation(arrival, service)
    if math.isfinite(delay_s):
        assert arrival(window) <= service(window + delay_s + 1e-9) + 1e-6


@given(arrival_curves, service_curves(), service_curves())
def test_bursts_are_paid_only_once(arrival: ArrivalCurve, first: ServiceCurve, second: ServiceCurve) -> None:
    apart = horizontal_deviation(arrival, first)
    if math.isfinite(apart):
        apart += horizontal_deviation(after_delay(arrival, apart), second)
    assert horizontal_deviation(arrival, convolve(first, second)) <= apart + 1e-9
