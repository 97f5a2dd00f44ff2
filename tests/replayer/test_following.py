"""A stage whose tokens all follow those of a stage above: the compiled engine does not sort them again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size, write_summary
from chunked_replays import chain
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import EngineFeature
from mipplan.replayer.engines import plain
from mipplan.replayer.engines.numba_engine import NumbaEngine
from mipplan.replayer.stage_task import Capacity, Served, StageTask
from mipplan.result import Following
from random_tasks import differences, random_task

ENGINE = NumbaEngine()
WANTED = (
    "heap above",
    "replicas change above",
    "oldest first above",
    "batches end together",
    "batches overtake",
    "ties between batches",
    "more than a stretch at once",
    "in token order",
    "each alone above",
    "in closed form below",
)


def serve(task: StageTask) -> Served:
    return ENGINE.serve_many([task])[0]


def stage_above(rng: np.random.Generator, most_tokens: int) -> StageTask:
    """A stage that starts empty and serves everything; now and then with more replicas than are kept sorted."""
    above = random_task(
        rng, features=(EngineFeature.SCHEDULE, EngineFeature.RANDOM_SERVICE), most_tokens=most_tokens
    )
    if above.capacity.is_constant and rng.random() < 0.3:
        above = replace(above, capacity=Capacity.constant(int(rng.choice([65, 200, 1_000]))))
    return above


def stage_below(rng: np.random.Generator, above: StageTask, following: Following) -> StageTask:
    """Any stage that serves them."""
    below = random_task(rng, features=(EngineFeature.SCHEDULE, EngineFeature.RANDOM_SERVICE))
    levels = below.service_ns.shape[0]
    level = rng.integers(levels, size=above.tokens).astype(np.uint16) if levels > 1 else None
    capacity = above.capacity if rng.random() < 0.5 else Capacity.constant(int(rng.choice([1, 2, 5])))
    return replace(below, arrival_ns=following.at_ns, capacity=capacity, level=level)


def kinds(above: StageTask, served: Served, following: Following) -> list[str]:
    ends = served.batch_start_ns + served.batch_service_ns
    instants, tokens_at = np.unique(following.at_ns, return_counts=True)
    found = {
        "heap above": served.by_end is None,
        "replicas change above": not above.capacity.is_constant,
        "oldest first above": not above.fifo and bool((np.diff(above.arrival_ns) < 0).any()),
        "batches end together": np.unique(ends).size < ends.size,
        "batches overtake": bool((np.diff(ends) < 0).any()),
        "ties between batches": instants.size < ends.size and served.rider is not None,
        "more than a stretch at once": bool((tokens_at > 64).any()),
        "in token order": bool((np.diff(following.at_ns) >= 0).all()),
        "each alone above": served.rider is None and served.batch_size.size == served.tokens > 1,
    }
    return [name for name, holds in found.items() if holds]


def test_equals_the_plain_engine_on_arrivals_written_out() -> None:
    seen: Counter[str] = Counter()
    count = campaign_size(quick=300, deep=20_000)
    for number in range(count):
        rng = np.random.default_rng([91, number])
        above = stage_above(rng, most_tokens=400 if number % 3 == 0 else 60)
        served = serve(above)
        assert differences(served, plain.serve(above)) == [], f"above, case {number}"
        following = Following(served, int(rng.integers(20)) if rng.random() < 0.5 else 0)
        seen.update(kinds(above, served, following))
        below = stage_below(rng, above, following)
        blank = replace(below, arrival_ns=np.empty(0, dtype=np.int64))
        for fifo in (False, True):
            (made,) = ENGINE.follow_many([replace(blank, fifo=fifo)], following)
            seen["in closed form below"] += made.batch_size.size > 0 and made.batch_size.strides == (0,)
            expected = plain.serve(replace(below, fifo=fifo))
            assert differences(made, expected) == [], f"case {number}, fifo {fifo}"
    rare = {name: seen[name] for name in WANTED if seen[name] < count / 50}
    assert not rare, f"too few of {count} cases hold these: {rare}"
    write_summary(
        "engine-numba-following", {"cases": count, "cases_with_feature": dict(sorted(seen.items()))}
    )


def test_batches_are_noted_in_order_of_their_ends() -> None:
    rng = np.random.default_rng(92)
    for number in range(300):
        asked = random_task(rng, most_tokens=600 if number % 10 == 0 else 60)
        served = serve(asked)
        if served.by_end is None:
            continue
        ends = served.batch_start_ns + served.batch_service_ns
        assert served.by_end.tolist() == np.argsort(ends, kind="stable").tolist(), number


def test_a_queue_that_arrives_backwards_is_sorted_in_a_tree() -> None:
    # Every token would make all that wait move up: in steady work, half a million million moves.
    count = 1_000_000
    arrival_ns = np.arange(count, 0, -1) * 2
    task = StageTask(arrival_ns, np.array([[5, 6, 7]]), Capacity.constant(1), fifo=False)
    served = serve(task)
    assert served.rider is not None
    assert np.array_equal(np.sort(served.rider), np.arange(count))
    few = replace(task, arrival_ns=arrival_ns[-5_000:])
    assert differences(serve(few), plain.serve(few)) == []


@pytest.mark.parametrize("discipline", ["oldest_first", "fifo"])
def test_a_long_chain_of_many_replicas_is_replayed_alike(discipline: str) -> None:
    names = [f"s{number}" for number in range(5)]
    edges = [
        {"from": above, "to": below, "delay": delay}
        for above, below, delay in zip(names, names[1:], ["0ms", "1ms", "0ms", "0.5ms"], strict=False)
    ]
    pipeline = Pipeline.from_document(
        {"name": "chain", "stages": {name: {"model": name} for name in names}, "edges": edges}
    )
    sizes = np.arange(1, 6)
    # Steps of half a millisecond: completions and arrivals meet all the time.
    tables = [
        LatencyTable(name, "h", sizes, 0.5 * np.array([4, 6, 5, 8, 9]) + number % 2)
        for number, name in enumerate(names)
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    replicas = (70, 3, 66, 2, 4)
    plan = mp.Plan.from_choices(
        pipeline, profiles, {name: ("h", 5, n) for name, n in zip(names, replicas, strict=True)}, slo_s=1.0
    )
    rng = np.random.default_rng(93)
    trace = mp.Trace.from_ns(np.sort(rng.integers(0, 1_500, size=3_000)) * 500_000)
    results = [mp.replay(plan, trace, discipline=discipline, engine=engine) for engine in ("numba", "python")]
    for name in names:
        left, right = (result.stages[name] for result in results)
        assert left.arrival_ns.tolist() == right.arrival_ns.tolist()
        assert differences(left.assignment, right.assignment) == []
    assert results[0].latency_ns.tolist() == results[1].latency_ns.tolist()


def test_times_per_token_are_written_out_when_asked_for() -> None:
    trace = mp.Trace.gamma(rate_rps=800, cv=2, duration_s=2, seed=1)
    result = mp.replay(chain(), trace, engine="numba")
    first, middle, last = result.stages.values()
    written = [{"dispatch_ns", "exit_ns"} & vars(stage.assignment).keys() for stage in (first, middle, last)]
    assert written == [set(), set(), {"exit_ns"}]
    assert middle.exit_ns is middle.exit_ns
    assert last.arrival_ns is middle.exit_ns  # no delay: no second array
    assert not middle.dispatch_ns.flags.writeable
