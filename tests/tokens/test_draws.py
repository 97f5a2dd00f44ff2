from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.tokens.draws import edge_key, philox4x32, uniform_pairs
from oracle_tokens import philox_words, uniform

ONES = 0xFFFFFFFF
#: Known answers of Philox-4x32-10 that the authors distribute with Random123 (file kat_vectors).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
Counter = tuple[int, int, int, int]
Key = tuple[int, int]
word = st.integers(0, ONES)


def philox(counter: Counter, key: Key) -> tuple[int, ...]:
    first, second, third, fourth = (np.array([value], dtype=np.uint64) for value in counter)
    return tuple(int(value[0]) for value in philox4x32((first, second, third, fourth), key))


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: Counter, key: Key, answer: Counter) -> None:
    assert philox(counter, key) == answer
    assert philox_words(counter, key) == answer  # the oracle as well


@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_equals_scalar_arithmetic(counter: Counter, key: Key) -> None:
    assert philox(counter, key) == philox_words(counter, key)


def test_does_not_write_to_its_counter() -> None:
    words = tuple(np.arange(4, dtype=np.uint64) for _ in range(4))
    philox4x32((words[0], words[1], words[2], words[3]), (1, 2))
    assert all(np.array_equal(array, np.arange(4)) for array in words)


@given(st.integers(0, 2**40), st.integers(0, 2**31), st.tuples(word, word))
def test_counter_is_query_then_ordinal(query: int, ordinal: int, key: Key) -> None:
    take, spread = uniform_pairs(key, np.array([query]), np.array([ordinal]))
    words = philox_words((query % 2**32, query // 2**32, ordinal, 0), key)
    assert (take[0], spread[0]) == (uniform(words[0], words[1]), uniform(words[2], words[3]))
    assert 0 <= take[0] < 1
    assert 0 <= spread[0] < 1


def test_largest_uniform_is_below_one() -> None:
    assert uniform(ONES, ONES) == 1 - 2.0**-53


def test_keys_differ_by_seed_and_by_both_ends() -> None:
    keys = [
        edge_key(*parts)
        for parts in [(0, "a", "b"), (1, "a", "b"), (0, "b", "a"), (0, "a", "c"), (0, "c", "b")]
    ]
    assert len(set(keys)) == len(keys)
    # Without a separator these would share a key.
    assert len({edge_key(0, "ab", "c"), edge_key(0, "a", "bc"), edge_key(0, "", "abc")}) == 3
    assert edge_key(1, "1a", "b") != edge_key(11, "a", "b")


def test_key_is_fixed_for_ever() -> None:
    """Plans on disk name a seed; another key would give them other tokens."""
    assert edge_key(0, "detect", "plates") == (341339416, 1644759467)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_uniforms_look_uniform_and_independent() -> None:
    count = 20_000
    query, zero = np.arange(count), np.zeros(count, dtype=np.int64)
    take, spread = uniform_pairs(edge_key(0, "a", "b"), query, zero)
    sample = {
        "take": take,
        "spread": spread,
        "other edge": uniform_pairs(edge_key(0, "a", "c"), query, zero)[0],
        "other seed": uniform_pairs(edge_key(1, "a", "b"), query, zero)[0],
        "next token": uniform_pairs(edge_key(0, "a", "b"), query, zero + 1)[0],
        "next query": uniform_pairs(edge_key(0, "a", "b"), query + 1, zero)[0],
    }
    for name, values in sample.items():
        # Mean and variance of a uniform within 4.5 standard errors, ten bins by their chi-square (df 9, p ≈ 1e-5).
        assert abs(values.mean() - 0.5) < 4.5 * np.sqrt(1 / 12 / count), name
        assert abs(values.var() - 1 / 12) < 4.5 * np.sqrt(1 / 180 / count), name
        bins = np.histogram(values, bins=10, range=(0, 1))[0]
        assert float(((bins - count / 10) ** 2 / (count / 10)).sum()) < 40, name
    names = list(sample)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            assert abs(correlation(sample[first], sample[second])) < 4.5 / np.sqrt(count), (first, second)
