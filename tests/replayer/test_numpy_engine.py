"""The NumPy engine against the plain one, on every way it has to serve a stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import campaign_size, write_summary
from mipplan.replayer import Capacity, Served, StageTask
from mipplan.replayer.engines import lanes, plain
from mipplan.replayer.engines.batches import NumpyParams
from mipplan.replayer.engines.numpy_engine import NumpyEngine, Way, board, sort_arrivals
from mipplan.result import BatchAssignment
from random_tasks import differences, random_task

PARAMS = NumpyParams()
ENGINE = NumpyEngine(PARAMS)
#: With fewer lanes than this, tasks are served one by one.
FEWEST = PARAMS.fewest_lanes


def serve(task: StageTask, engine: NumpyEngine = ENGINE) -> Served:
    return engine.serve_many([task])[0]


def task(arrival_ns: list[int], table_ns: list[int], replicas: int = 1, **options: object) -> StageTask:
    """A small task, by hand."""
    made = StageTask(
        np.array(arrival_ns, dtype=np.int64),
        np.array([table_ns], dtype=np.int64),
        Capacity.constant(replicas),
    )
    return replace(made, **options)  # type: ignore[arg-type]


def long_task(rng: np.random.Generator, tokens: int, load: float, *, fifo: bool) -> StageTask:
    """Thousands of tokens that arrive in bursts and overtake each other, at a load around that given."""
    cap, replicas = int(rng.choice([2, 3, 8, 33])), int(rng.integers(1, 12))
    table_ns = np.sort(rng.integers(1_000_000, 30_000_000, size=cap))
    rate_per_ns = load * replicas * cap / table_ns[-1]
    arrivals = np.cumsum(rng.gamma(0.2, 5 / rate_per_ns, size=tokens))
    late = rng.exponential(float(table_ns[-1]), size=tokens) * (rng.random(tokens) < 0.3)
    return StageTask(
        10**18 + np.rint(arrivals + late).astype(np.int64),
        table_ns[np.newaxis],
        Capacity.constant(replicas),
        fifo,
    )


def way_of(asked: StageTask, *, together: bool = False) -> Way:
    return ENGINE.choose_way(asked, sort_arrivals(asked.arrival_ns), together=together)


@pytest.mark.parametrize("window", [1, 7, PARAMS.loop_window])
def test_serves_random_stages_as_the_plain_engine_does(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(BatchAssignment, "batches_at_once", window)
    engine = NumpyEngine(NumpyParams(loop_window=window, few_waiting=min(window, 4), block=window))
    rng = np.random.default_rng(window)
    ways: Counter[str] = Counter()
    cases = campaign_size(1_500, 50_000)
    for case in range(cases):
        asked = random_task(rng)
        wrong = differences(serve(asked, engine), plain.serve(asked))
        assert not wrong, f"case {case}: {wrong} of {asked}"
        ways[way_of(asked)] += 1
    assert all(ways[way] > cases // 50 for way in (Way.CLOSED_FORM, Way.BATCH_LOOP, Way.PLAIN)), ways
    write_summary(f"numpy_engine_window_{window}", {"cases": cases, "ways": dict(ways)})


@pytest.mark.parametrize(("width", "steps", "few"), [(1, 3, 1), (20, 11, 2), (1024, 512, 8)])
def test_serves_random_stages_in_lanes_as_the_plain_engine_does(width: int, steps: int, few: int) -> None:
    params = NumpyParams(lane_window=width, lane_steps=steps, fewest_lane_steps=few)
    rng = np.random.default_rng(width)
    served = 0
    for _ in range(campaign_size(9, 200)):
        tasks = [random_task(rng, features=()) for _ in range(120)]
        tasks = [asked for asked in tasks if asked.tokens]
        queues = [sort_arrivals(asked.arrival_ns) for asked in tasks]
        # Those with a closed form fit a lane, too.
        assert {way_of(asked, together=True) for asked in tasks} == {Way.LANES, Way.CLOSED_FORM}
        found = lanes.find_in_lanes(tasks, queues, replace(params, fewest_lanes=int(rng.integers(0, 60))))
        for asked, queue, made in zip(tasks, queues, found, strict=True):
            answer = board(queue, made, fifo=asked.fifo)
            assert not differences(answer, plain.serve(asked)), asked
            served += 1
    assert served > campaign_size(1_000, 15_000)
    write_summary(f"numpy_engine_lanes_{width}", {"cases": served})


def test_serves_thousands_of_tokens_as_the_plain_engine_does() -> None:
    rng = np.random.default_rng(4)
    for load in (0.3, 0.9, 3.0):
        for fifo in (True, False):
            asked = long_task(rng, PARAMS.loop_window + 5_000, load, fifo=fifo)
            assert way_of(asked) is Way.BATCH_LOOP
            assert not differences(serve(asked), plain.serve(asked))


def test_serves_many_plans_as_the_plain_engine_does() -> None:
    rng = np.random.default_rng(5)
    tasks = [
        long_task(rng, int(rng.integers(500, 3_000)), load, fifo=bool(number % 2))
        for number, load in enumerate(rng.uniform(0.2, 2.0, size=FEWEST + 5))
    ]
    tasks += [random_task(rng) for _ in range(60)]
    order = rng.permutation(len(tasks))
    tasks = [tasks[number] for number in order]
    assert sum(map(len, ENGINE.group_lanes(tasks))) >= FEWEST + 5
    for asked, answer in zip(tasks, ENGINE.serve_many(tasks), strict=True):
        assert not differences(answer, plain.serve(asked)), asked


@given(st.integers(0, 2**32 - 1))
def test_both_disciplines_have_the_same_batches(seed: int) -> None:
    asked = replace(random_task(np.random.default_rng(seed)), level=None)
    by_token, by_arrival = (serve(replace(asked, fifo=fifo)) for fifo in (False, True))
    for name in ("batch_start_ns", "batch_size", "batch_service_ns"):
        assert np.array_equal(getattr(by_token, name), getattr(by_arrival, name))
    # The same instants are given out, too, if to different tokens.
    assert np.array_equal(np.sort(by_token.exit_ns), np.sort(by_arrival.exit_ns))


def test_the_oldest_of_those_that_wait_ride_first() -> None:
    # Token 2 comes first and starts alone; 1 and then 0 come while it is served.
    asked = task([3, 2, 0], [10, 10], fifo=False)
    assert serve(replace(asked, service_ns=np.array([[10]]))).dispatch_ns.tolist() == [10, 20, 0]
    assert serve(replace(asked, fifo=True, service_ns=np.array([[10]]))).dispatch_ns.tolist() == [
        20,
        10,
        0,
    ]
    assert serve(asked).dispatch_ns.tolist() == [10, 10, 0]


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        (task([], [5]), Way.PLAIN),
        (task([0, 3, 4], [5]), Way.CLOSED_FORM),
        (task([4, 3, 0], [5], replicas=7, fifo=False), Way.CLOSED_FORM),
        (task([0, 3], [5], until_ns=2, busy_until_ns=np.array([4])), Way.CLOSED_FORM),
        # The second replica is busy for longer than one service time of the first: they do not take turns.
        (task([0, 3], [5], replicas=2, busy_until_ns=np.array([1, 7])), Way.BATCH_LOOP),
        (task([0, 3], [5], level=np.array([0, 0], dtype=np.uint16)), Way.BATCH_LOOP),
        (task([0, 3], [5], capacity=Capacity(np.array([-(2**63), 2]), np.array([1, 2]))), Way.BATCH_LOOP),
        (task([0, 3], [5, 6]), Way.BATCH_LOOP),
        # Who is the oldest of a batch depends on who rode before.
        (task([3, 0], [5, 6], level=np.array([0, 0], dtype=np.uint16), fifo=True), Way.BATCH_LOOP),
        (task([3, 0], [5, 6], level=np.array([0, 0], dtype=np.uint16), fifo=False), Way.PLAIN),
        # float64 does not hold these instants.
        (task([0, 3], [2**51, 2**53]), Way.PLAIN),
    ],
)
def test_serves_a_task_in_the_fastest_way_that_is_exact(asked: StageTask, way: Way) -> None:
    assert way_of(asked) is way
    assert not differences(serve(asked), plain.serve(asked))


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        (task([0, 3], [5, 6]), Way.LANES),
        (task([3, 0], [5, 6], fifo=False), Way.LANES),
        (task([0, 3], [5]), Way.CLOSED_FORM),
        (task([0, 3], [5, 6], replicas=PARAMS.most_lane_replicas + 1), Way.BATCH_LOOP),
        (task([0, 3], [5] * (PARAMS.largest_lane_cap + 1)), Way.BATCH_LOOP),
        (task([0, 3], [5, 6], until_ns=100), Way.BATCH_LOOP),
        (task([0, 3], [5, 6], busy_until_ns=np.array([1])), Way.BATCH_LOOP),
        (task([0, 2**52], [5, 6]), Way.BATCH_LOOP),
    ],
)
def test_serves_a_task_among_others_in_a_lane_if_it_fits_one(asked: StageTask, way: Way) -> None:
    assert way_of(asked, together=True) is way
    together = [asked] * FEWEST
    for answer in ENGINE.serve_many(together):
        assert not differences(answer, plain.serve(asked))


def test_lanes_are_grouped_by_cap_within_their_memory() -> None:
    small, large = task([0, 1], [5, 6]), task([0, 1], [5, 6, 7])
    tasks = [large, small] * FEWEST + [task([0, 1], [5])]
    of_any = list(ENGINE.group_lanes(tasks))
    assert of_any == [[*range(1, 2 * FEWEST, 2), *range(0, 2 * FEWEST, 2)]]
    for_each = PARAMS.lane_bytes_per_token * 2

    def sizes(params: NumpyParams) -> list[int]:
        return [len(group) for group in NumpyEngine(params).group_lanes(tasks)]

    assert sizes(NumpyParams(lanes_memory=FEWEST * for_each)) == [FEWEST, FEWEST]
    assert sizes(NumpyParams(lanes_memory=(FEWEST - 1) * for_each)) == []
    assert sizes(NumpyParams(lanes_memory=1)) == []
    assert list(ENGINE.group_lanes([small] * (FEWEST - 1))) == []
    assert sizes(NumpyParams(most_lanes=FEWEST)) == [FEWEST, FEWEST]


def test_a_lane_that_waits_for_the_others_serves_nothing_more() -> None:
    short, busy = task([7, 7, 7], [5, 6]), task(list(range(4_000)), [1, 1, 1])
    tasks = [short, busy] * 3
    queues = [sort_arrivals(asked.arrival_ns) for asked in tasks]
    for asked, found in zip(
        tasks, lanes.find_in_lanes(tasks, queues, NumpyParams(fewest_lanes=0)), strict=True
    ):
        assert found.size.sum() == asked.tokens
        assert found.start_ns.tolist() == plain.serve(asked).batch_start_ns.tolist()


def test_lanes_do_not_look_into_each_other() -> None:
    # Full batches that no one waits for use up a window to its last token.
    tasks = [
        task(np.repeat(np.arange(1_000) * gap, 4).tolist(), [1, 1, 1, 1], replicas=2) for gap in range(2, 6)
    ]
    queues = [sort_arrivals(asked.arrival_ns) for asked in tasks]
    for asked, found in zip(
        tasks, lanes.find_in_lanes(tasks, queues, NumpyParams(fewest_lanes=0)), strict=True
    ):
        assert found.size.tolist() == [4] * 1_000
        assert found.start_ns.tolist() == asked.arrival_ns[::4].tolist()


def test_arrivals_in_token_order_are_not_sorted_again() -> None:
    ordered = np.array([1, 1, 4], dtype=np.int64)
    assert sort_arrivals(ordered).at_ns is ordered
    assert sort_arrivals(ordered).token is None
    mixed = sort_arrivals(np.array([4, 1, 1], dtype=np.int64))
    assert mixed.token is not None
    assert (mixed.at_ns.tolist(), mixed.token.tolist()) == ([1, 1, 4], [1, 2, 0])
