from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.tokens import realise
from oracle_replay import slow_level
from oracle_tokens import slow_tokens
from random_pipelines import random_case

TRACE = mp.Trace.from_ns(np.arange(500) * 1_000)


def table(latency_ms: list[float], p99_ms: list[float] | None = None, model: str = "m") -> LatencyTable:
    return LatencyTable(
        model, "h", np.arange(len(latency_ms)) + 1, np.array(latency_ms), latency_p99_ms=p99_ms
    )


def lone(measured: LatencyTable, replicas: int = 1, seed: int = 0) -> mp.Plan:
    pipeline = Pipeline.from_document({"name": "p", "stages": {"a": {"model": measured.model}}})
    profiles = Profiles.from_parts([Hardware("h", 1.0)], [measured])
    choices = {"a": ("h", measured.largest_batch, replicas)}
    return mp.Plan.from_choices(pipeline, profiles, choices, slo_s=1.0, seed=seed)


# ------------------------------------------------------------------------------------------------ draws


@pytest.mark.parametrize("factors", [3, 1_024, 65_536])
def test_levels_are_those_of_a_slow_philox(factors: int) -> None:
    noise = mp.ServiceNoise.from_factors(np.arange(1, factors + 1))
    for number in range(12):
        case = random_case(np.random.default_rng([71, number]))
        workload = realise(case.pipeline, case.trace, number)
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        for stage, made in workload.stages.items():
            expected = [slow_level(tokens, stage, token, factors, 99) for token in range(made.count)]
            assert noise.draw_levels(99, made).tolist() == expected


def test_draws_of_a_query_do_not_depend_on_the_others() -> None:
    case = random_case(np.random.default_rng(72))
    noise = mp.ServiceNoise.lognormal(0.5)
    whole = realise(case.pipeline, case.trace, 5)
    kept = np.arange(whole.queries) % 3 == 1
    part = whole.restricted(kept)
    for stage, tokens in part.stages.items():
        drawn = noise.draw_levels(5, tokens, np.flatnonzero(kept))
        of_kept = kept[whole.stages[stage].query]
        assert drawn.tolist() == noise.draw_levels(5, whole.stages[stage])[of_kept].tolist()


def test_levels_are_equally_likely() -> None:
    tokens = realise(lone(table([1.0])).pipeline, mp.Trace.from_ns(np.arange(200_000)), 0).stages["a"]
    counts = np.bincount(mp.ServiceNoise.lognormal(0.3).draw_levels(1, tokens), minlength=1_024)
    expected = 200_000 / 1_024
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_squared - 1_023) < 4 * np.sqrt(2 * 1_023)


def test_noise_has_the_seed_of_the_replay_or_its_own() -> None:
    plan = lone(table([1.0]), replicas=10)
    same = mp.replay(plan, TRACE, seed=3, noise=mp.ServiceNoise.lognormal(0.5))
    own = mp.replay(plan, TRACE, seed=7, noise=mp.ServiceNoise.lognormal(0.5, seed=3))
    other = mp.replay(plan, TRACE, seed=7, noise=mp.ServiceNoise.lognormal(0.5))
    assert same.latency_ns.tolist() == own.latency_ns.tolist() != other.latency_ns.tolist()
    assert same.service == own.service == "lognormal, CV 0.5 (seed 3)"
    assert mp.replay(plan, TRACE).service == "as measured"


def test_noise_by_stage_leaves_the_others_certain() -> None:
    stages = {"a": {"model": "m"}, "b": {"model": "m"}}
    document = {"name": "p", "stages": stages, "edges": [{"from": "a", "to": "b"}]}
    profiles = Profiles.from_parts([Hardware("h", 1.0)], [table([1.0])])
    choices = dict.fromkeys(stages, ("h", 1, 5_000))
    plan = mp.Plan.from_choices(Pipeline.from_document(document), profiles, choices, slo_s=1.0)
    noise = mp.ServiceNoise.lognormal(0.5)
    everywhere = mp.replay(plan, TRACE, noise=noise)
    some = mp.replay(plan, TRACE, noise={"b": noise})
    assert set(some.stages["a"].batch_service_ns.tolist()) == {10**6}
    by_token = [result.stages["b"].exit_ns - result.stages["b"].dispatch_ns for result in (some, everywhere)]
    assert by_token[0].tolist() == by_token[1].tolist()
    assert some.service == "b: lognormal, CV 0.5 (seed 0)"
    assert not some.certificate_applies
    nowhere = mp.replay(plan, TRACE, noise={})
    assert (nowhere.service, nowhere.certificate_applies) == ("as measured", True)
    wrong: Any = {"b": 0.5, "c": noise}
    with pytest.raises(InputError) as caught:
        mp.replay(plan, TRACE, noise=wrong)
    assert [fault.place for fault in caught.value.faults] == ["noise.b", "noise.c"]


def test_stages_have_draws_of_their_own() -> None:
    tokens = realise(lone(table([1.0])).pipeline, TRACE, 0).stages["a"]
    noise = mp.ServiceNoise.uniform(0.5, 1)
    levels = [
        noise.draw_levels(0, type(tokens)(name, tokens.query, (), tokens.queries)) for name in ("a", "b")
    ]
    assert np.mean(levels[0] == levels[1]) < 0.05


def test_batch_takes_the_level_of_its_oldest_token() -> None:
    plan, noise = lone(table([1e-5, 2e-5, 3e-5])), mp.ServiceNoise.from_factors([1, 10, 100])
    for discipline in ("oldest_first", "fifo"):
        result = mp.replay(plan, mp.Trace.from_ns(np.arange(200) * 400), noise=noise, discipline=discipline)
        stage = result.stages["a"]
        tokens = realise(plan.pipeline, mp.Trace.from_ns(np.arange(200)), 0).stages["a"]
        oldest = np.cumsum(stage.batch_size) - stage.batch_size  # a lone source serves in token order
        factor = np.array([1, 10, 100])[noise.draw_levels(0, tokens)[oldest]]
        assert stage.batch_service_ns.tolist() == (factor * 10 * stage.batch_size).tolist()
        assert len(set(stage.batch_size.tolist())) == 3


# --------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize("cv", [0.05, 0.3, 1.0])
def test_lognormal_has_its_mean_and_spread(cv: float) -> None:
    factors = mp.ServiceNoise.lognormal(cv).factors
    assert factors is not None
    assert factors.mean() == pytest.approx(1.0, abs=1e-12)
    assert factors.std() == pytest.approx(cv, rel=0.02)
    sigma = np.log(factors).std()
    assert sigma == pytest.approx(np.sqrt(np.log1p(cv**2)), rel=0.01)


def test_no_spread_is_no_noise() -> None:
    plan = lone(table([1.0, 1.5]))
    certain = mp.replay(plan, TRACE)
    for noise in (
        mp.ServiceNoise.lognormal(0),
        mp.ServiceNoise.uniform(1, 1),
        mp.ServiceNoise.from_factors([1]),
    ):
        result = mp.replay(plan, TRACE, noise=noise)
        assert result.latency_ns.tolist() == certain.latency_ns.tolist()
        assert result.certificate_applies


def test_uniform_levels_are_the_middles_of_equal_shares() -> None:
    factors = mp.ServiceNoise.uniform(0.5, 1.5).factors
    assert factors is not None
    assert factors[[0, -1]] == pytest.approx([0.5 + 0.5 / 1_024, 1.5 - 0.5 / 1_024])
    assert np.diff(factors) == pytest.approx(np.full(1_023, 1 / 1_024))


@pytest.mark.parametrize("ratio", [1.0, 1.07, 1.5, 3.0, 10.0])
def test_profiles_mean_and_p99_are_met(ratio: float) -> None:
    measured = table([2.0, 3.0, 5.0], [2.0 * ratio, 3.0 * ratio, 5.0])
    service_ns = mp.ServiceNoise.from_p99().service_ns(measured, 3)
    assert service_ns.shape == (1_024, 3)
    assert service_ns.mean(axis=0) == pytest.approx([2e6, 3e6, 5e6], rel=1e-6)
    p99 = np.quantile(service_ns, 0.99, axis=0, method="higher")
    assert p99 == pytest.approx([2e6 * ratio, 3e6 * ratio, 5e6], rel=0.01)


def test_profiles_p99_is_interpolated_like_the_mean() -> None:
    sparse = LatencyTable(
        "m", "h", np.array([2, 4]), np.array([2.0, 4.0]), latency_p99_ms=np.array([3.0, 7.0])
    )
    dense = table([2.0, 2.0, 3.0, 4.0], [3.0, 3.0, 5.0, 7.0])
    noise = mp.ServiceNoise.from_p99()
    assert noise.service_ns(sparse, 4).tolist() == noise.service_ns(dense, 4).tolist()


def test_a_measured_p50_stands_before_the_mean() -> None:
    """Whatever `latency_ms` holds, which is often the P99 itself, and however far the P99 is away."""
    p50, p99 = np.array([2.0, 3.0]), np.array([2.2, 90.0])
    measured = LatencyTable("m", "h", np.array([1, 2]), p99, latency_p50_ms=p50, latency_p99_ms=p99)
    service_ns = mp.ServiceNoise.from_p99().service_ns(measured, 2)
    assert np.median(service_ns, axis=0) == pytest.approx(p50 * 1e6, rel=0.01)
    assert np.quantile(service_ns, 0.99, axis=0, method="higher") == pytest.approx(p99 * 1e6, rel=0.03)
    wrong = LatencyTable(
        "m", "h", np.array([1]), p50[:1], latency_p50_ms=p50[:1], latency_p99_ms=np.array([1.0])
    )
    (fault,) = mp.ServiceNoise.from_p99().faults("a", wrong)
    assert "the P99 1 ms must be at least the P50 2 ms" in fault.message


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True).map(sorted),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_samples_are_drawn_as_the_slow_reference_does(sizes: list[int], seed: int) -> None:
    """Level by level and size by size: the sample in whose share the level lies, on straight lines between sizes."""
    random = np.random.default_rng(seed)
    samples = {size: random.gamma(2.0, size, random.integers(1, 40)) + 0.01 for size in sizes}
    cap = int(random.integers(1, sizes[-1] + 1))
    measured = LatencyTable("m", "h", np.array([sizes[-1]]), np.array([1.0]))
    noise = mp.ServiceNoise.from_samples({("m", "h"): samples})
    drawn_ns = noise.service_ns(measured, cap)
    assert drawn_ns.shape == (1_024, cap)
    for level in (0, 1, 511, 1_000, 1_023):
        known = [np.sort(samples[size])[int((level + 0.5) / 1_024 * samples[size].size)] for size in sizes]
        for k in range(1, cap + 1):
            assert abs(drawn_ns[level, k - 1] - np.interp(k, sizes, known) * 1e6) <= 1


def test_measured_latencies_are_those_of_the_hardware() -> None:
    noise = mp.ServiceNoise.from_samples({("m", "h"): {1: [1.0, 2.0], 2: [4.0]}}, seed=4)
    again = pickle.loads(pickle.dumps(noise))
    plan = lone(table([3.0, 3.0]))
    assert (
        mp.replay(plan, TRACE, noise=again).latency_ns.tolist()
        == mp.replay(plan, TRACE, noise=noise).latency_ns.tolist()
    )
    assert not mp.replay(plan, TRACE, noise=noise).certificate_applies
    with pytest.raises(InputError, match="a: profile of other on h: there are no measured latencies of it"):
        mp.replay(lone(table([1.0], model="other")), TRACE, noise=noise)
    with pytest.raises(InputError, match="there are samples of batches up to 2, not 3"):
        mp.replay(lone(table([1.0, 2.0, 3.0])), TRACE, noise=noise)


def test_times_are_whole_and_at_least_one() -> None:
    service_ns = mp.ServiceNoise.from_factors([0.01, 0.26, 1.24]).service_ns(table([1e-6, 1e-5]), 2)
    assert service_ns.dtype == np.int64
    assert service_ns.tolist() == [[1, 1], [1, 3], [1, 12]]


# ----------------------------------------------------------------------------------------- certificate


def test_certificate_speaks_only_where_no_draw_exceeds_the_table() -> None:
    short, long = mp.ServiceNoise.uniform(0.7, 1.0), mp.ServiceNoise.uniform(0.7, 1.01)
    assert short.stays_within(0.0)
    assert not short.stays_within(1.0)
    assert not long.stays_within(0.0)
    assert not mp.ServiceNoise.lognormal(0.1).stays_within(0.0)
    assert not mp.ServiceNoise.from_p99().stays_within(0.0)
    plan = lone(table([1.0]))
    assert mp.replay(plan, TRACE, noise=short).certificate_applies
    assert not mp.replay(plan, TRACE, noise=long).certificate_applies
    assert not mp.replay(plan, TRACE, noise=short, discipline="fifo").certificate_applies


def test_no_query_is_later_than_its_certificate_where_service_is_shorter() -> None:
    shortened = later_than_without = 0
    for number in range(campaign_size(quick=125, deep=2_000)):
        rng = np.random.default_rng([73, number])
        case = random_case(rng)
        plan = case.plan(seed=number)
        noise = mp.ServiceNoise.uniform(float(rng.choice([0.01, 0.3, 0.7])), 1.0)
        result = mp.replay(plan, case.trace, noise=noise)
        assert result.certificate_applies
        late = np.flatnonzero(result.latency_ns > mp.certify(plan, case.trace).latency_ns)
        assert late.size == 0, f"case {number}: queries {late.tolist()} exceed their certificate"
        difference = result.latency_ns - mp.replay(plan, case.trace).latency_ns
        shortened += bool(np.any(difference < 0))
        later_than_without += bool(np.any(difference > 0))
    # Both happen: this is no comparison of a replay with itself, and batching anomalies are among the cases.
    assert shortened > 0
    assert later_than_without > 0


# ----------------------------------------------------------------------------------------- the interface


def test_factors_are_its_own_sorted_and_read_only_even_from_a_pickle() -> None:
    given = np.array([2.0, 0.5])
    noise = mp.ServiceNoise.from_factors(given, seed=4)
    given[0] = 9
    for one in (noise, pickle.loads(pickle.dumps(noise))):
        assert one.factors is not None
        assert (one.factors.tolist(), one.seed, one.levels) == ([0.5, 2.0], 4, 2)
        with pytest.raises(ValueError, match="read-only"):
            one.factors[0] = 1


@pytest.mark.parametrize(
    ("make", "places"),
    [
        (lambda: mp.ServiceNoise.lognormal(-0.1, seed=-1), ["cv", "noise seed"]),
        (lambda: mp.ServiceNoise.lognormal(float("nan")), ["cv"]),
        (lambda: mp.ServiceNoise.lognormal(True), ["cv"]),
        (lambda: mp.ServiceNoise.uniform(0, float("inf"), seed=1.5), ["low", "high", "noise seed"]),  # type: ignore[arg-type]
        (lambda: mp.ServiceNoise.uniform(1.2, 0.8), ["low"]),
        (lambda: mp.ServiceNoise.from_p99(seed=2**128), ["noise seed"]),
        (lambda: mp.ServiceNoise.from_factors([]), ["factors"]),
        (lambda: mp.ServiceNoise.from_factors([1.0, -1.0]), ["factors"]),
        (lambda: mp.ServiceNoise.from_factors(["a"]), ["factors"]),
        (lambda: mp.ServiceNoise.from_factors(np.ones(65_537)), ["factors"]),
        (lambda: mp.ServiceNoise(np.array([2.0, 1.0])), ["factors"]),
        (lambda: mp.ServiceNoise.from_samples({}), ["samples"]),
        (lambda: mp.ServiceNoise.from_samples({("m", "h"): {}}, seed=-1), ["noise seed", "samples"]),
        (lambda: mp.ServiceNoise.from_samples({("m", "h"): {0: [1.0]}}), ["samples"]),
        (lambda: mp.ServiceNoise.from_samples({("m", "h"): {1: [1.0, 0.0]}}), ["samples"]),
        (lambda: mp.ServiceNoise.from_samples({("m", "h"): {1: []}}), ["samples"]),
    ],
)
def test_every_fault_is_listed(make: Any, places: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert [fault.place for fault in caught.value.faults] == places


def test_tables_without_a_usable_p99_are_named() -> None:
    stages = {"a": {"model": "bare"}, "b": {"model": "odd"}, "c": {"model": "good"}}
    tables = [
        table([1.0], None, "bare"),
        table([2.0, 3.0, 4.0], [1.9, 3.5, 80.0], "odd"),
        table([1.0], [1.2], "good"),
    ]
    pipeline = Pipeline.from_document({"name": "p", "stages": stages, "edges": []})
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    plan = mp.Plan.from_choices(pipeline, profiles, dict.fromkeys(stages, ("h", 1, 1)), slo_s=1.0)
    with pytest.raises(InputError) as caught:
        mp.replay_many([plan, plan], TRACE, noise=mp.ServiceNoise.from_p99())
    assert [str(fault) for fault in caught.value.faults] == [
        "a: profile of bare on h: has no column latency_p99_ms, from which the spread is to be taken",
        (
            "b: profile of odd on h: batch 1: the P99 1.9 ms must be 1 to 14.97 times the mean 2 ms "
            "for a lognormal distribution to have both"
        ),
        (
            "b: profile of odd on h: batch 3: the P99 80 ms must be 1 to 14.97 times the mean 4 ms "
            "for a lognormal distribution to have both"
        ),
    ]


def test_service_beyond_ten_years_is_refused() -> None:
    with pytest.raises(InputError, match="over ten years"):
        mp.replay(lone(table([1e9])), TRACE, noise=mp.ServiceNoise.from_factors([1e6]))
