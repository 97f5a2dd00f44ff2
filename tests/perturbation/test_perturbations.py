"""The perturbations themselves: burstier gaps keep rate and load, fan-outs their shape, all change continuously."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from mipplan.perturbation import AXES, Case, clustered
from mipplan.pipeline import FanOut
from planning_instances import hand_made

# --- burstiness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("factor", [1.25, 1.5, 2.0, 3.0])
def test_cv_grows_as_stated(cv: float, factor: float) -> None:
    if cv:
        trace = mp.Trace.gamma(rate_rps=1_000, cv=cv, duration_s=200, seed=1)
    else:
        trace = mp.Trace.from_ns(np.arange(200_000) * 1_000_000)
    made = clustered(trace, factor, seed=4)
    aimed = trace.cv + (factor - 1) * max(trace.cv, 1.0)
    assert made.cv == pytest.approx(aimed, rel=0.05)
    assert made.note.endswith(f"gaps drawn burstier, CV × {factor:g}")


def test_rate_and_order_of_load_stay() -> None:
    """Every thousand queries of a ramp take the time they took, to the nanosecond."""
    trace = mp.Trace.ramp(rates_rps=[50, 400], cvs=[1, 1], durations_s=[60, 60], transition_s=60, seed=3)
    made = clustered(trace, 3.0, seed=0)
    assert len(made) == len(trace)
    assert made.span_ns == trace.span_ns
    gaps, parts = len(trace) - 1, (len(trace) - 1) // 1_000
    edges = [gaps * part // parts for part in range(parts + 1)]
    assert parts > 20
    assert made.arrival_ns[edges].tolist() == trace.arrival_ns[edges].tolist()
    assert made.arrival_ns.tolist() != trace.arrival_ns.tolist()


def test_long_traces_have_a_hundred_parts() -> None:
    trace = mp.Trace.poisson(rate_rps=10_000, duration_s=25, seed=3)
    made = clustered(trace, 2.0, seed=0)
    same = np.flatnonzero(made.arrival_ns == trace.arrival_ns)
    edges = [(len(trace) - 1) * part // 100 for part in range(101)]
    assert set(edges) <= set(same.tolist())
    assert len(same) < 110  # others are there by chance


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.floats(1.01, 4.0), st.integers(0, 5))
def test_arrivals_stay_sorted_and_within(gaps: list[int], factor: float, seed: int) -> None:
    trace = mp.Trace.from_ns(np.cumsum([7, *gaps]))
    made = clustered(trace, factor, seed)
    assert (made.arrival_ns[0], made.span_ns, len(made)) == (7, trace.span_ns, len(trace))
    assert clustered(trace, factor, seed) == made
    ties = np.diff(trace.arrival_ns) == 0
    assert not np.diff(made.arrival_ns)[ties].any() or not trace.span_ns


def test_gaps_change_continuously() -> None:
    trace = mp.Trace.poisson(rate_rps=100, duration_s=5, seed=3)
    near, nearer = (clustered(trace, factor, 1).arrival_ns for factor in (1.5, 1.5001))
    assert np.abs(near - nearer).max() < trace.span_ns / 1_000
    barely = clustered(trace, 1.000001, 1).arrival_ns
    assert np.abs(barely - trace.arrival_ns).max() < trace.span_ns / 100


# --- fan-out ----------------------------------------------------------------------------------------------------------

finite = st.dictionaries(st.integers(0, 50), st.floats(0.01, 1), min_size=1, max_size=5).filter(
    lambda law: set(law) != {0}
)


@given(finite, st.floats(1.0, 2.0).map(lambda factor: round(factor, 3)))
def test_finite_fanout_gets_the_mean_asked_for(law: dict[int, float], factor: float) -> None:
    fanout = FanOut.choice(list(law), list(law.values()))
    made = fanout.scaled(factor)
    assert made.mean == pytest.approx(fanout.mean * factor)
    assert fanout.scaled(1.0) == fanout
    assert FanOut.choice(made.values, made.weights) == made


@given(finite.map(lambda law: dict(sorted(law.items()))), st.floats(1.0, 2.0), st.floats(0, 0.999999))
def test_same_draw_never_makes_fewer_tokens(law: dict[int, float], factor: float, draw: float) -> None:
    fanout = FanOut.choice(list(law), list(law.values()))

    def drawn(of: FanOut) -> int:
        place = np.searchsorted(np.cumsum(of.weights)[:-1], draw, side="right")
        return of.values[int(place)]

    assert drawn(fanout.scaled(factor)) >= drawn(fanout)


def test_fanout_stays_within_its_limits() -> None:
    assert FanOut.poisson(9_000).scaled(1.5).poisson_mean == 10_000
    assert FanOut.poisson(2).scaled(1.5).poisson_mean == 3.0
    assert FanOut.constant(9_000).scaled(1.5).mean == 10_000
    rare = FanOut.choice([0, 900_000], [0.999, 0.001]).scaled(1.5)
    assert max(rare.values) == 1_000_000
    assert FanOut.constant(20).scaled(1.1).values == (22,)


def test_tokens_grow_by_probability_where_one_is_made_and_by_fanout_elsewhere() -> None:
    pipeline = mp.Pipeline.from_document(
        {
            "name": "mixed",
            "slo": "1s",
            "stages": {name: {"model": "m"} for name in "abcd"},
            "edges": [
                {"from": "a", "to": "b"},
                {"from": "a", "to": "c", "probability": 0.8},
                {"from": "a", "to": "d", "probability": 0.5, "fanout": 2},
            ],
        }
    )
    instance = hand_made()
    table = next(iter(instance.profiles.tables.values()))
    profiles = mp.Profiles.from_document(
        {
            "hardware": {table.hardware: instance.profiles.hardware[table.hardware].to_document()},
            "tables": [table.to_document() | {"model": "m"}],
        }
    )
    plan = mp.Plan.from_choices(pipeline, profiles, dict.fromkeys("abcd", (table.hardware, 1, 1)))
    axis = AXES["fanout"]
    made = axis.perturb(Case(plan, instance.trace, 0), axis.at(1_500))
    assert made is not None
    plain, branch, several = made.plan.pipeline.edges
    assert (plain.probability, plain.fanout.mean) == (1.0, 1.0)
    assert (branch.probability, branch.fanout.mean) == (1.0, 1.0)
    assert (several.probability, several.fanout.mean) == (0.5, 3.0)
