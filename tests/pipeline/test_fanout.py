from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError
from mipplan.pipeline import FanOut
from mipplan.pipeline.schema import EdgeEntry


def reread(fanout: FanOut) -> FanOut:
    """Read what a fan-out writes, the way an edge of a file is read."""
    entry = EdgeEntry.model_validate({"from": "a", "to": "b", "fanout": fanout.to_document()}).fanout
    if isinstance(entry, float):
        return FanOut.constant(entry)
    if entry.poisson is not None:
        return FanOut.poisson(entry.poisson)
    return FanOut.choice(entry.values or (), entry.weights or ())


def test_default_is_one_token() -> None:
    fanout = FanOut()
    assert (fanout.values, fanout.weights, fanout.poisson_mean) == ((1,), (1.0,), None)
    assert (fanout.mean, fanout.maximum, fanout.is_constant_integer) == (1.0, 1, True)


def test_mean_between_whole_numbers() -> None:
    fanout = FanOut.constant(2.6)
    assert (fanout.values, fanout.weights) == ((2, 3), (0.4, 0.6))
    assert fanout.mean == pytest.approx(2.6)
    assert fanout.maximum == 3
    assert not fanout.is_constant_integer
    assert fanout.to_document() == 2.6


def test_mean_below_one_may_make_none() -> None:
    assert FanOut.constant(0.25) == FanOut((0, 1), (0.75, 0.25))


def test_whole_mean() -> None:
    assert FanOut.constant(3.0) == FanOut((3,), (1.0,))
    assert FanOut.constant(3).to_document() == 3


def test_poisson_has_no_maximum() -> None:
    fanout = FanOut.poisson(2)
    assert (fanout.values, fanout.weights, fanout.poisson_mean) == ((), (), 2.0)
    assert fanout.maximum is None
    assert fanout.mean == 2.0
    assert fanout.to_document() == {"poisson": 2.0}


def test_weights_are_normalised_and_impossible_values_dropped() -> None:
    fanout = FanOut.choice([0, 7, 2, 5], [2, 0, 5, 3])
    assert (fanout.values, fanout.weights) == ((0, 2, 5), (0.2, 0.5, 0.3))
    assert fanout.maximum == 5
    assert fanout.mean == pytest.approx(2.5)


@pytest.mark.parametrize("mean", [0, -1, 10_000.5, math.nan, math.inf, True, "2", None])
def test_unusable_means(mean: float) -> None:
    with pytest.raises(InputError, match="mean number of tokens"):
        FanOut.constant(mean)


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ((), (), "as many weights"),
        ((1, 2), (1,), "as many weights"),
        ((1, 2), (1e308, 1e308), "their sum must be finite"),
        ((1, 1), (1, 1), "given twice"),
        ((-1, 2), (1, 1), "whole numbers from 0"),
        ((1.5, 2), (1, 1), "whole numbers from 0"),
        ((True, 2), (1, 1), "whole numbers from 0"),
        ((1_000_001, 0), (1e-9, 1), "whole numbers from 0"),
        ((1, 2), (-1, 2), "finite numbers ≥ 0"),
        ((1, 2), (math.nan, 2), "finite numbers ≥ 0"),
        ((1, 2), (0, 0), "must not all be 0"),
        ((0,), (1,), "above 0"),
        ((1_000_000,), (1,), "at most 10000"),
    ],
)
def test_unusable_choices(values: tuple[int, ...], weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FanOut.choice(values, weights)


def test_poisson_and_values_together_are_refused() -> None:
    with pytest.raises(InputError, match="not both"):
        FanOut((1,), (1.0,), 2.0)


@given(st.floats(1e-6, 10_000, allow_nan=False))
def test_a_mean_is_kept_and_read_back(mean: float) -> None:
    fanout = FanOut.constant(mean)
    assert fanout.mean == pytest.approx(mean, rel=1e-12)
    assert math.fsum(fanout.weights) == pytest.approx(1.0, abs=1e-15)
    assert reread(fanout) == fanout


@given(
    st.dictionaries(st.integers(0, 50), st.floats(0, 10), min_size=1, max_size=5).filter(
        lambda choice: sum(value * weight for value, weight in choice.items()) > 1e-6
    )
)
def test_a_choice_is_read_back_exactly(choice: dict[int, float]) -> None:
    fanout = FanOut.choice(list(choice), list(choice.values()))
    assert reread(fanout) == fanout
    assert reread(fanout).to_document() == fanout.to_document()
    assert math.fsum(fanout.weights) == pytest.approx(1.0, abs=1e-12)
    assert all(weight > 0 for weight in fanout.weights)
