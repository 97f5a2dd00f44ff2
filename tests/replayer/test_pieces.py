"""Serving one long stage in pieces that start empty, and joining these where they have become true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from campaigns import campaign_size, write_summary
from mipplan.replayer.engines import batches, pieces, plain, vectorised
from mipplan.replayer.engines.arrivals import sort_arrivals
from mipplan.replayer.engines.vectorised import Way
from mipplan.replayer.task import Capacity, StageTask
from random_tasks import differences, random_task


def steady_task(rng: np.random.Generator, tokens: int, load: float, replicas: int = 3) -> StageTask:
    """Poisson arrivals, a few late, at a stage of batches up to 4."""
    table_ns = np.array([[10_000, 12_000, 14_000, 16_000]], dtype=np.int64)
    gap_ns = table_ns[0, -1] / (4 * replicas * load)
    arrival_ns = np.cumsum(rng.exponential(gap_ns, size=tokens)) + rng.integers(0, 20_000, size=tokens)
    return StageTask(np.rint(arrival_ns).astype(np.int64), table_ns, Capacity.constant(replicas))


def cut_short(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Cut tasks of any length into so many pieces, with no least overlap."""
    monkeypatch.setattr(pieces, "_MOST_PIECES", count)
    monkeypatch.setattr(pieces, "_PIECE", 1)
    monkeypatch.setattr(pieces, "_LEAST_OVERLAP", 1)


def test_pieces_join_to_what_the_plain_engine_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Far too short to have met for certain: some have, many are done again, some get the wrong tokens at first.
    seen: Counter[str] = Counter()
    meeting = pieces._meeting

    def counted(earlier: pieces._Run, later: pieces._Run, longest_ns: int) -> int | None:
        met_ns = meeting(earlier, later, longest_ns)
        seen["not met" if met_ns is None else "met"] += 1
        return met_ns

    monkeypatch.setattr(pieces, "_meeting", counted)
    monkeypatch.setattr(pieces, "_forgets", lambda *_: True)
    rng = np.random.default_rng(11)
    cases = campaign_size(2_500, 20_000)
    for case in range(cases):
        asked = random_task(rng, features=(), most_tokens=int(rng.choice([20, 100, 400])))
        if asked.tokens == 0:
            continue
        cut_short(monkeypatch, int(rng.integers(1, 12)))
        monkeypatch.setattr(pieces, "_OVERLAP", float(rng.choice([0.1, 0.5, 1, 2])))
        arrivals = sort_arrivals(asked.arrival_ns)
        found = pieces.find_batches(asked, arrivals)
        assert found is not None
        wrong = differences(batches.board(arrivals, found, fifo=asked.fifo), plain.serve(asked))
        assert not wrong, f"case {case}: {wrong} of {asked}"
    assert min(seen["met"], seen["not met"]) > cases // 2, seen
    write_summary("numpy_engine_pieces", {"cases": cases, **seen})


def test_only_a_stage_that_forgets_is_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(monkeypatch, 20)
    rng = np.random.default_rng(12)
    calm, crowded = steady_task(rng, 20_000, 0.3), steady_task(rng, 20_000, 1.2)
    found = pieces.find_batches(calm, sort_arrivals(calm.arrival_ns))
    assert found is not None
    assert found.start_ns.tolist() == plain.serve(calm).batch_start_ns.tolist()
    assert pieces.find_batches(crowded, sort_arrivals(crowded.arrival_ns)) is None


def test_long_tasks_are_tried_in_pieces_and_are_right_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "FEWEST_TOKENS", 5_000)
    cut_short(monkeypatch, 20)
    rng = np.random.default_rng(13)
    for load in (0.3, 1.2):
        asked = steady_task(rng, 5_000, load)
        arrivals = sort_arrivals(asked.arrival_ns)
        assert vectorised.choose_way(asked, arrivals) is Way.PIECES
        assert vectorised.choose_way(asked, arrivals, together=True) is Way.LANES
        assert not differences(vectorised.serve(asked), plain.serve(asked))
    shorter = steady_task(rng, 4_999, 0.3)
    assert vectorised.choose_way(shorter, sort_arrivals(shorter.arrival_ns)) is Way.BATCH_LOOP
