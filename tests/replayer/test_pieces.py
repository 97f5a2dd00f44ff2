"""Serving one long stage in pieces that start empty, and joining these where they have become true."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from campaigns import campaign_size, write_summary
from mipplan.replayer import Capacity, StageTask
from mipplan.replayer.engines import lanes, plain
from mipplan.replayer.engines.batches import NumpyParams
from mipplan.replayer.engines.numpy_engine import NumpyEngine, Way, board, sort_arrivals
from random_tasks import differences, random_task


def steady_task(rng: np.random.Generator, tokens: int, load: float, replicas: int = 3) -> StageTask:
    """Poisson arrivals, a few late, at a stage of batches up to 4."""
    table_ns = np.array([[10_000, 12_000, 14_000, 16_000]], dtype=np.int64)
    gap_ns = table_ns[0, -1] / (4 * replicas * load)
    arrival_ns = np.cumsum(rng.exponential(gap_ns, size=tokens)) + rng.integers(0, 20_000, size=tokens)
    return StageTask(np.rint(arrival_ns).astype(np.int64), table_ns, Capacity.constant(replicas))


def cut_short(count: int, **others: float) -> NumpyParams:
    """Cut tasks of any length into so many pieces, with no least overlap."""
    params = NumpyParams(most_pieces=count, shortest_piece=1, shortest_overlap=1)
    return replace(params, **others)  # type: ignore[arg-type]


def test_pieces_join_to_what_the_plain_engine_finds() -> None:
    # Far too short to have met for certain: some have, many are done again, some get the wrong tokens at first.
    seen: Counter[str] = Counter()

    class Counted(lanes.Pieces):
        def meeting(self, earlier: lanes.Run, later: lanes.Run) -> int | None:
            met_ns = super().meeting(earlier, later)
            seen["not met" if met_ns is None else "met"] += 1
            return met_ns

    rng = np.random.default_rng(11)
    cases = campaign_size(500, 20_000)
    for case in range(cases):
        asked = random_task(rng, features=(), most_tokens=int(rng.choice([20, 100, 400])))
        if asked.tokens == 0:
            continue
        # Without trials, every stage passes for one that forgets.
        params = cut_short(
            int(rng.integers(1, 12)), overlap=float(rng.choice([0.1, 0.5, 1, 2])), trials=0, enough_meet=0
        )
        arrivals = sort_arrivals(asked.arrival_ns)
        found = Counted(asked, arrivals, params).find_batches()
        assert found is not None
        wrong = differences(board(arrivals, found, fifo=asked.fifo), plain.serve(asked))
        assert not wrong, f"case {case}: {wrong} of {asked}"
    assert min(seen["met"], seen["not met"]) > cases // 2, seen
    write_summary("numpy_engine_pieces", {"cases": cases, **seen})


def test_only_a_stage_that_forgets_is_cut_into_pieces() -> None:
    params = cut_short(20)
    rng = np.random.default_rng(12)
    calm, crowded = steady_task(rng, 20_000, 0.3), steady_task(rng, 20_000, 1.2)
    found = lanes.Pieces(calm, sort_arrivals(calm.arrival_ns), params).find_batches()
    assert found is not None
    assert found.start_ns.tolist() == plain.serve(calm).batch_start_ns.tolist()
    assert lanes.Pieces(crowded, sort_arrivals(crowded.arrival_ns), params).find_batches() is None


def test_long_tasks_are_tried_in_pieces_and_are_right_either_way() -> None:
    engine = NumpyEngine(cut_short(20, fewest_to_cut=5_000))
    rng = np.random.default_rng(13)
    for load in (0.3, 1.2):
        asked = steady_task(rng, 5_000, load)
        arrivals = sort_arrivals(asked.arrival_ns)
        assert engine.choose_way(asked, arrivals) is Way.PIECES
        assert engine.choose_way(asked, arrivals, together=True) is Way.LANES
        assert not differences(engine.serve_many([asked])[0], plain.serve(asked))
    shorter = steady_task(rng, 4_999, 0.3)
    assert engine.choose_way(shorter, sort_arrivals(shorter.arrival_ns)) is Way.BATCH_LOOP


def test_a_task_shorter_than_a_piece_is_one_piece() -> None:
    asked = steady_task(np.random.default_rng(14), 50, 0.3)
    params = cut_short(20, shortest_piece=1_000, trials=0, enough_meet=0)
    found = lanes.Pieces(asked, sort_arrivals(asked.arrival_ns), params).find_batches()
    assert found is not None
    assert found.start_ns.tolist() == plain.serve(asked).batch_start_ns.tolist()
