from __future__ import annotations

import math
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.calculus import StageService, latest_start_ns, samplepath
from mipplan.calculus import waits as waits_module
from mipplan.calculus.samplepath import SAFE, service_time_ns
from mipplan.calculus.waits import Probes, Sought, Supports, longest_waits_ns
from mipplan.core import InputError, SampleParams, find_largest, greatest_values, running_maximum

times = st.lists(st.integers(0, 60), min_size=1, max_size=12)
#: An arrival so late that E·tokens leaves int64, and everything is computed in two parts.
FAR = 2**60


def by_definition(
    arrival: list[int], period_ns: int, tokens: int, position: list[int], asked: list[tuple[int, int]]
) -> list[int]:
    """⌈max over j ≤ last of E(j) + (number − p(j))·period/tokens⌉ for each asked (last, number)."""
    slope = Fraction(period_ns, tokens)
    return [
        math.ceil(max(arrival[j] + (number - position[j]) * slope for j in range(last + 1)))
        for last, number in asked
    ]


@st.composite
def recursions(draw: st.DrawFn) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Arrivals in any order, increasing token numbers with gaps, and tokens asked for."""
    arrival = draw(times)
    steps = draw(st.lists(st.integers(1, 4), min_size=len(arrival), max_size=len(arrival)))
    position = (np.cumsum(steps) - 1).tolist()
    lasts = draw(st.lists(st.integers(0, len(arrival) - 1), max_size=6))
    return arrival, position, [(last, position[last] + draw(st.integers(0, 9))) for last in lasts]


@given(times, st.integers(0, 40), st.integers(1, 9))
def test_equals_the_definition(arrival: list[int], period_ns: int, tokens: int) -> None:
    everyone = [(i, i) for i in range(len(arrival))]
    made = latest_start_ns(np.array(arrival), period_ns, tokens)
    assert made.tolist() == by_definition(arrival, period_ns, tokens, list(range(len(arrival))), everyone)


@given(recursions(), st.integers(0, 40), st.integers(1, 9), st.integers(-(10**17), 10**17))
def test_equals_the_definition_with_gaps_probes_and_offset(
    recursion: tuple[list[int], list[int], list[tuple[int, int]]], period_ns: int, tokens: int, offset: int
) -> None:
    arrival, position, asked = recursion
    expected = by_definition(arrival, period_ns, tokens, position, asked)
    made = latest_start_ns(
        np.array(arrival) + offset,
        period_ns,
        tokens,
        np.array(position),
        (
            np.array([last for last, _ in asked], dtype=np.int64),
            np.array([n for _, n in asked], dtype=np.int64),
        ),
    )
    assert (made - offset).tolist() == expected


@given(recursions(), st.integers(1, 40), st.integers(4, 9))
def test_large_products_are_split_and_as_exact(
    recursion: tuple[list[int], list[int], list[tuple[int, int]]], period_ns: int, tokens: int
) -> None:
    arrival, position, asked = recursion
    arrival, position = [*arrival, FAR], [*position, position[-1] + 1]
    asked += [(i, position[i]) for i in range(len(arrival))]
    made = latest_start_ns(
        np.array(arrival),
        period_ns,
        tokens,
        np.array(position),
        (np.array([last for last, _ in asked]), np.array([number for _, number in asked])),
    )
    assert made.tolist() == by_definition(arrival, period_ns, tokens, position, asked)


def test_split_by_hand() -> None:
    """1/R = 1/8 ns: token 2 leaves at 5 + 1/8, not at 5 + 2/8 or 5; both round up to 6."""
    assert FAR * 4 >= 2**62, "else the products are not large"
    arrival, numbers = [5, 0, FAR], np.array([1, 2, 3])
    assert latest_start_ns(np.array(arrival), 1, 8, numbers).tolist() == [5, 6, FAR]


def test_what_counts_is_the_span_and_not_the_latest_time() -> None:
    assert latest_start_ns(np.array([-FAR, FAR]), 1, 8).tolist() == [-FAR, FAR]


@given(times, st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 50))
def test_falls_with_the_rate(arrival: list[int], period_ns: int, tokens: int, more: int) -> None:
    slow = latest_start_ns(np.array(arrival), period_ns, tokens)
    fast = latest_start_ns(np.array(arrival), period_ns, tokens + more)
    assert np.all(fast <= slow)


def test_infinite_rate_is_a_running_maximum() -> None:
    assert latest_start_ns(np.array([3, 1, 4, 1]), 0, 7).tolist() == [3, 3, 4, 4]


@pytest.mark.parametrize("piece", [1, 3, 16])
def test_long_traces_are_looked_at_piece_by_piece(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(piece)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        arrival, position = rng.integers(0, 200, count), np.cumsum(rng.integers(1, 4, count))
        rate, last = (int(rng.integers(1, 40)), int(rng.integers(1, 9))), rng.integers(0, count, 5)
        number = position[last] + rng.integers(0, 9, 5)
        everyone, asked = np.stack([np.arange(count), position], axis=1), np.stack([last, number], axis=1)
        sought, together = [Sought(1, min(5, count))], np.sort(arrival)
        whole = longest_waits_ns(together, *rate, sought, position)
        with monkeypatch.context() as patched:
            patched.setattr(samplepath, "PIECE", piece)
            own = latest_start_ns(arrival, *rate, position)
            probed = latest_start_ns(arrival, *rate, position, (last, number))
            ((wait_ns, supports),) = longest_waits_ns(together, *rate, sought, position)
        for made, of in ((own, everyone), (probed, asked)):
            assert made.tolist() == by_definition(arrival.tolist(), *rate, position.tolist(), of.tolist())
        assert wait_ns == whole[0][0]
        assert np.array_equal([supports.work, supports.gap_ns], [whole[0][1].work, whole[0][1].gap_ns])


def test_large_numbers_of_other_tokens_are_split_as_well() -> None:
    """The product of one's number and the period leaves int64; the work itself does not."""
    last, number = np.array([0, 1]), np.array([0, 2**22])
    found = latest_start_ns(np.array([5, 5]), 2**41, 8, None, (last, number))
    assert found.tolist() == [5, 5 + 2**60]


def test_no_tokens() -> None:
    assert latest_start_ns(np.empty(0, dtype=np.int64), 5, 1).size == 0


def test_input_is_left_alone() -> None:
    arrival = np.array([3, 1, 4])
    arrival.flags.writeable = False
    latest_start_ns(arrival, 5, 2)
    latest_start_ns(arrival, 0, 2)
    assert arrival.tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("period_ns", "tokens"),
    [
        (3 * 10**17, 1),  # 100 batches of ten years each
        (5 * 10**17, 10**18),  # more parallel tokens than the remainders can be counted in
    ],
)
def test_what_would_wrap_round_is_refused(period_ns: int, tokens: int) -> None:
    with pytest.raises(InputError, match="too long to count"):
        latest_start_ns(np.zeros(100, dtype=np.int64), period_ns, tokens)


def test_the_longest_waits_are_the_same_whether_a_sample_tells_their_length_or_not() -> None:
    """Waits of all lengths, waits that mostly tie, and long ones in places that the sample misses."""
    rng = np.random.default_rng(5)
    gaps = rng.gamma(0.3, 30.0, 4_000)
    arrivals = {
        "spread": np.cumsum(gaps).astype(np.int64),
        "ties": np.repeat(np.arange(40) * 900, 100),
        "one burst": np.concatenate([np.arange(3_900) * 12, np.full(100, 3_900 * 12)]),
    }
    for name, arrival_ns in arrivals.items():
        above, kept = 50, 75
        ((truth, supports),) = longest_waits_ns(
            arrival_ns, 17, 2, [Sought(above, kept)], params=SampleParams(10**9)
        )
        assert truth == np.sort(latest_start_ns(arrival_ns, 17, 2) - arrival_ns)[-above]
        for sample in (8, 64, 500):
            sought = Sought(above, kept)
            ((found, others),) = longest_waits_ns(arrival_ns, 17, 2, [sought], params=SampleParams(sample))
            assert found == truth, (name, sample)
            assert np.array_equal(others.work, supports.work)
            assert np.array_equal(others.gap_ns, supports.gap_ns)


@pytest.mark.parametrize("size", [0, 1, 5, 8_191, 8_192, 8_193, 20_000, 20_007])
def test_running_maximum_of_short_and_long_arrays(size: int) -> None:
    rng = np.random.default_rng(size)
    for values in (rng.integers(-(2**62), 2**62, size), np.arange(size) // 3, -np.arange(size)):
        before, expected = values.copy(), np.maximum.accumulate(values)
        assert np.array_equal(running_maximum(values), expected)
        assert np.array_equal(values, before)
        assert running_maximum(values, out=values) is values
        assert np.array_equal(values, expected)


def test_the_greatest_of_many_values_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(4)
    for size, top in ((50, 5), (9_000, 40), (30_000, 10**9), (30_000, 1)):
        values = rng.integers(0, top + 1, size)
        for count in (1, size // 100 + 1, size // 3, size + 5):
            expected = np.sort(np.argsort(-values, kind="stable")[:count])
            assert np.array_equal(greatest_values(values, count), expected)
            among = find_largest(values, min(count, size))
            assert np.array_equal(greatest_values(values, count, among=among), expected)


def test_sets_of_tokens_that_are_asked_about_together_get_the_same_answers_as_alone() -> None:
    """Large and small ones, one whose longest waits the sample misjudges, and tokens that came another way."""
    rng = np.random.default_rng(8)
    arrival_ns = np.cumsum(rng.gamma(0.3, 30.0, 4_000)).astype(np.int64)
    marks = [rng.random(4_000) < share for share in (0.7, 0.2, 0.05)]
    marks.append(np.arange(4_000) < 120)
    last = np.flatnonzero(marks[0])
    others = Probes(last, last + 1, arrival_ns[last] + 2)
    sought = [Sought(20, 30, among) for among in (None, *marks, others)]
    for tokens in (1, 2, 7):
        rate = (10 * tokens + 3, tokens)
        waits = latest_start_ns(arrival_ns, *rate) - arrival_ns
        for sample in (16, 64, 256, 10**9):
            params = SampleParams(sample)
            together = longest_waits_ns(arrival_ns, *rate, sought, params=params)
            for one, (wait_ns, supports) in zip(sought, together, strict=True):
                ((alone_ns, alone),) = longest_waits_ns(arrival_ns, *rate, [one], params=SampleParams(10**9))
                assert wait_ns == alone_ns
                assert np.array_equal(supports.work, alone.work)
                assert np.array_equal(supports.gap_ns, alone.gap_ns)
            for marked, (wait_ns, _) in zip(marks, together[1:], strict=False):
                assert wait_ns == np.sort(waits[marked])[-20]


# ------------------------------------------------------------------------------------ what the longest waits wait for


@given(recursions(), st.integers(0, 40), st.integers(1, 9), st.data())
def test_the_longest_waits_and_what_they_wait_for_are_those_of_the_definition(
    recursion: tuple[list[int], list[int], list[tuple[int, int]]],
    period_ns: int,
    tokens: int,
    data: st.DataObject,
) -> None:
    arrival, position, asked = recursion
    arrival = sorted(arrival)
    way = data.draw(st.sampled_from(["all tokens", "some tokens", "probes"]))
    if way == "all tokens":
        position = list(range(len(arrival)))
    if way != "probes" or not asked:
        way, asked = ("some tokens" if way == "probes" else way), list(enumerate(position))
    entered = [arrival[last] + data.draw(st.integers(0, 5)) * (way == "probes") for last, _ in asked]
    slope = Fraction(period_ns, tokens)
    waits, since = [], []
    for (last, number), ingress in zip(asked, entered, strict=True):
        starts = [arrival[j] + (number - position[j]) * slope for j in range(last + 1)]
        waits.append(max(starts) - ingress)
        since.append(starts.index(max(starts)))
    rank = data.draw(st.integers(0, len(asked) - 1))
    kept = data.draw(st.integers(len(asked) - rank, len(asked)))
    probes = Probes(
        np.array([last for last, _ in asked]), np.array([number for _, number in asked]), np.array(entered)
    )
    # What is asked of some of the tokens beside it changes nothing, and they are found by the same pass.
    own = np.array(sorted(data.draw(st.sets(st.integers(0, len(arrival) - 1), min_size=1))))
    longest = data.draw(st.integers(0, own.size - 1))
    (exact, supports), (marked, _) = longest_waits_ns(
        np.array(arrival),
        period_ns,
        tokens,
        [
            Sought(len(asked) - rank, kept, probes if way == "probes" else None),
            Sought(own.size - longest, own.size - longest, np.isin(np.arange(len(arrival)), own)),
        ],
        None if way == "all tokens" else np.array(position),
    )
    assert exact == math.ceil(sorted(waits)[rank])
    slow = sorted(sorted(range(len(waits)), key=lambda q: (-waits[q], q))[:kept])
    assert supports.work.tolist() == [asked[q][1] - position[since[q]] for q in slow]
    assert supports.gap_ns.tolist() == [entered[q] - arrival[since[q]] for q in slow]
    every = [
        max(arrival[j] + (position[i] - position[j]) * slope for j in range(i + 1)) - arrival[i]
        for i in own.tolist()
    ]
    assert marked == math.ceil(sorted(every)[longest])


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(-20, 60)), max_size=8),
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_supports_bound_the_waits_that_enough_tokens_reach(
    pairs: list[tuple[int, int]], period_ns: int, tokens: int, above: int
) -> None:
    supports = Supports(
        *(np.array(column, dtype=np.int64) for column in (zip(*pairs, strict=True) if pairs else ([], [])))
    )
    waits = sorted((work * Fraction(period_ns, tokens) - gap for work, gap in pairs), reverse=True)
    expected = math.ceil(waits[above - 1]) if len(waits) >= above else 0
    assert supports.lower_ns(period_ns, tokens, above) == max(0, expected)


def test_supports_say_nothing_where_products_would_wrap_round() -> None:
    supports = Supports(np.array([2**40]), np.array([7]))
    assert supports.lower_ns(2**20, 1, 1) == 2**60 - 7
    assert supports.lower_ns(2**22, 1, 1) == 0
    assert Supports(np.array([1]), np.array([-(2**40)])).lower_ns(5, 2**22, 1) == 0
    far = Supports(np.array([1]), np.array([-(2**40)]))
    assert far.lower_ns(5, 2**20, 1) == 2**40 + 1


def test_waits_far_apart_are_found_in_the_slow_way() -> None:
    arrival = np.array([0, 0, 0, FAR])
    ((exact, supports),) = longest_waits_ns(arrival, 10, 8, [Sought(1, 1)])
    assert exact == 3  # the third at once waits for two of 10/8 ns
    assert supports.work.size == supports.gap_ns.size == 0
    probes = Probes(np.array([0, 2]), np.array([0, 2]), np.array([0, 0]))
    assert longest_waits_ns(arrival, 10, 8, [Sought(1, 1, probes)], np.arange(4))[0][0] == 3


def test_probes_far_apart_wait_from_their_own_ingress() -> None:
    arrival = np.array([0, 0, 0, FAR])
    for ingress, waits in (([0, 1], 2), ([0, 2], 1), ([FAR, 0], 3)):
        probes = Probes(np.array([0, 2]), np.array([0, 2]), np.array(ingress))
        ((exact, supports),) = longest_waits_ns(arrival, 10, 8, [Sought(1, 1, probes)])
        assert exact == waits
        assert supports.work.size == 0


def test_waits_are_scaled_as_long_as_products_stay_small_enough() -> None:
    """To the last nanosecond: four times the span, and one, and a period for every token up to the last."""

    def is_scaled(length: int, newest: int, way: str) -> bool:
        last, number = np.array([0, 1]), np.array([0, newest])
        arrival, among, position = np.array([5, 5 + length]), None, None
        if way == "probes":
            among, arrival = Probes(last, number, arrival), np.array([5, 6])
        elif newest != 1:
            position = number
        ((_, supports),) = longest_waits_ns(arrival, 4, 4, [Sought(1, 1, among)], position)
        return supports.work.size == 1

    for way in ("all tokens", "probes"):
        for newest in (1, 2, 9):
            most = SAFE // 4 - newest - 3
            assert is_scaled(most, newest, way)
            assert not is_scaled(most + 1, newest, way)


def test_a_sample_spares_the_search_for_the_longest_waits() -> None:
    arrival = np.cumsum(np.random.default_rng(5).gamma(0.3, 30.0, 4_000)).astype(np.int64)
    few, most = Sought(50, 75), Sought(3_900, 3_990)
    for sought, looked in ((few, 0), (most, 1)):
        with patch.object(waits_module, "find_largest", wraps=find_largest) as asked:
            longest_waits_ns(arrival, 17, 2, [sought], params=SampleParams(64))
        assert asked.call_count == looked


@pytest.mark.parametrize("position", [[0, 2**40], [0, 1, 2**40]])
def test_token_numbers_beyond_all_counting_are_refused(position: list[int]) -> None:
    arrival = np.zeros(len(position), dtype=np.int64)
    with pytest.raises(InputError, match="too long to count"):
        longest_waits_ns(arrival, 2**23, 1, [Sought(1, 1)], np.array(position))


def test_time_of_service_counts_serial_tokens() -> None:
    service = StageService(100, 10, 4)
    assert [service_time_ns(service, tokens) for tokens in range(5)] == [100, 103, 105, 108, 110]
    assert service_time_ns(service) == 100
