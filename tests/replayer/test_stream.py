"""Streamed replays see what `replay` sees, in bounded memory, and stop honestly."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size
from chunked_replays import RESUMING, chain, random_settings
from mipplan.core import InputError, higher_rank
from mipplan.replayer import Discipline, Served, StageTask, replay_stream
from mipplan.replayer.engines.numpy_engine import NumpyEngine
from mipplan.result import RELATIVE_ERROR, LatencyHistogram, StageTotals, StreamEnd, StreamResult
from mipplan.trace import Trace, gamma_chunks
from random_pipelines import random_case

Times = np.ndarray


def check_same(stream: StreamResult, full: mp.ReplayResult, slo_s: float) -> None:
    latency_ns = full.latency_ns
    assert stream.queries == stream.read == latency_ns.size
    assert stream.histogram.largest_ns == latency_ns.max()
    assert stream.latency_sum_ns == int(latency_ns.sum())
    assert stream.misses == int(np.sum(latency_ns > round(slo_s * 1e9)))
    assert stream.miss_rate == full.miss_rate(slo_s)
    assert not stream.partial
    for quantile in (0.001, 0.5, 0.9, 0.99, 0.999, 1.0):
        actual_ns = full.quantile_ns(quantile)
        assert actual_ns <= stream.quantile_ns(quantile) <= actual_ns * (1 + RELATIVE_ERROR)
    assert stream.quantile(1.0) == stream.max_latency_s == latency_ns.max() / 1e9
    assert stream.mean_latency_s == pytest.approx(latency_ns.mean() / 1e9, rel=1e-12)
    assert list(stream.stages) == list(full.stages)
    for stage, seen in full.stages.items():
        totals = stream.stages[stage]
        assert (totals.tokens, totals.batches) == (seen.tokens, seen.batch_size.size)
        assert totals.mean_wait_s == pytest.approx(seen.mean_wait_s, rel=1e-12)
        assert totals.max_wait_s == seen.max_wait_s
        assert totals.mean_batch == pytest.approx(seen.mean_batch, rel=1e-12)
        assert totals.utilisation == pytest.approx(seen.utilisation, rel=1e-12)


@pytest.mark.parametrize("engine", RESUMING, ids=lambda engine: engine.name)
def test_figures_are_those_of_a_replay(engine: mp.replayer.engines.Engine) -> None:
    for number in range(campaign_size(quick=15, deep=300)):
        rng = np.random.default_rng([91, number])
        case = random_case(rng)
        conditions = random_settings(case, list(Discipline)[number % 2], engine, rng)
        common = {
            "discipline": conditions.discipline.value,
            "seed": number,
            "schedule": conditions.schedule,
            "noise": conditions.noise,
        }
        full = mp.replay(case.plan(), case.trace, engine="python", **common)
        slo_s = full.quantile(0.9)
        stream = replay_stream(
            case.plan(),
            case.trace,
            engine=engine.name,
            chunk=int(rng.integers(1, 20)),
            slo_s=slo_s,
            **common,
        )
        check_same(stream, full, slo_s)
        assert (stream.discipline, stream.engine, stream.seed) == (full.discipline, engine.name, full.seed)
        assert (stream.service, stream.certificate_applies) == (full.service, full.certificate_applies)


def test_sources_of_all_kinds_give_the_same(tmp_path: Path) -> None:
    trace = Trace.gamma(rate_rps=150, cv=4, duration_s=60, seed=1)
    rounded = Trace.from_ns(trace.arrival_ns // 1000 * 1000)
    csv, parquet = tmp_path / "a.csv", tmp_path / "a.parquet"
    table = pd.DataFrame({"arrival_ms": rounded.arrival_ns / 1e6})
    table.to_csv(csv, index=False)
    table.to_parquet(parquet)
    full = mp.replay(chain(), rounded)
    sources = (csv, str(parquet), rounded, rounded.arrival_ns, np.array_split(rounded.arrival_ns, 7))
    for source in sources:
        check_same(mp.replay_stream(chain(), source, chunk=1_000), full, slo_s=0.3)
    assert mp.replay_stream(chain(), csv).slo_s == 0.3  # the plan's


def test_memory_does_not_grow_with_the_length() -> None:
    def peak(queries: int) -> int:
        tracemalloc.start()
        try:
            result = replay_stream(
                chain(), gamma_chunks(150.0, 4.0, queries, seed=1, size=2_000), chunk=2_000
            )
            assert result.queries == queries
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(4_000)  # imports and compiled code
    assert peak(80_000) < 1.25 * peak(20_000)


def interrupted(after: int, size: int = 500) -> Iterator[Times]:
    for number, piece in enumerate(gamma_chunks(150.0, 4.0, 100 * size, seed=1, size=size)):
        if number == after:
            raise KeyboardInterrupt
        yield piece


def test_an_interrupt_returns_what_is_done() -> None:
    result = replay_stream(chain(), interrupted(after=20), chunk=500)
    assert result.end is StreamEnd.INTERRUPTED
    assert result.partial
    assert 9_000 < result.queries <= result.read == 10_000
    # The finished ones are those of a replay of everything read: what came later cannot change them.
    read = np.concatenate(list(gamma_chunks(150.0, 4.0, 50_000, seed=1, size=500)))[:10_000]
    full = mp.replay(chain(), Trace.from_ns(read))
    assert result.latency_sum_ns <= int(full.latency_ns.sum())
    assert result.histogram.largest_ns <= full.latency_ns.max()
    assert result.last_ns <= read[-1]


def test_an_interrupt_amid_a_piece_leaves_whole_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come anywhere: here after the first stages of a piece were served."""

    class Broken(NumpyEngine):
        calls = 0

        def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
            self.calls += 1
            if self.calls == 3 * 10 + 2:
                raise KeyboardInterrupt
            return super().serve_many(tasks)

    monkeypatch.setattr("mipplan.replayer.stream.resolve_engine", lambda *_: Broken())
    result = replay_stream(chain(), gamma_chunks(150.0, 4.0, 10_000, seed=1, size=500), chunk=500)
    assert (result.end, result.read) == (StreamEnd.INTERRUPTED, 5_000)
    assert result.histogram.total == result.queries
    assert all(totals.tokens >= result.queries for totals in result.stages.values())
    assert all(totals.tokens <= 5_000 for totals in result.stages.values())


def test_an_interrupt_before_anything_is_finished_stays_one() -> None:
    with pytest.raises(KeyboardInterrupt):
        replay_stream(chain(), interrupted(after=0))


def test_an_overloaded_plan_is_stopped() -> None:
    source = gamma_chunks(3_000.0, 1.0, 10**7, seed=1, size=1_000)
    result = replay_stream(chain(), source, chunk=1_000, backlog=20_000)
    assert result.end is StreamEnd.OVERLOADED
    assert result.partial
    assert 20_000 / 3 < result.read - result.queries < 10_000
    with pytest.raises(InputError, match=r"no query was finished before more than 5 tokens"):
        replay_stream(chain(), [np.zeros(10, dtype=np.int64)], chunk=10, backlog=5)


def test_a_backlog_that_ends_with_the_trace_is_no_overload() -> None:
    ingress_ns = np.zeros(1_000, dtype=np.int64)
    result = replay_stream(chain(), [ingress_ns], chunk=1_000, backlog=3_000)
    assert not result.partial
    assert result.queries == 1_000


def test_progress_tells_how_far_it_is() -> None:
    lines: list[str] = []
    replay_stream(chain(), gamma_chunks(100.0, 1.0, 3_000, seed=1), chunk=1_000, progress=lines.append)
    assert len(lines) == 4
    assert lines[-1] == "3,000 queries replayed, 30 s of the trace"


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"discipline": "lifo"}, "discipline"),
        ({"engine": "steam"}, "engine"),
        ({"seed": -1}, "seed"),
        ({"slo_s": 0.0}, "slo_s"),
        ({"chunk": 0}, "chunk"),
        ({"chunk": 1.5}, "chunk"),
        ({"backlog": True}, "backlog"),
        ({"source": []}, "source"),
        ({"source": [np.array([3, 2])]}, "source: row 2"),
    ],
)
def test_unusable_arguments_are_refused(arguments: dict[str, object], place: str) -> None:
    given_arguments = {"source": [np.arange(3)], **arguments}
    with pytest.raises(InputError) as caught:
        replay_stream(chain(), **given_arguments)  # type: ignore[arg-type]
    assert [fault.place for fault in caught.value.faults] == [place]


@given(
    st.lists(st.one_of(st.integers(0, 5_000), st.integers(0, 2**62)), min_size=1, max_size=50),
    st.floats(0.01, 1.0),
)
def test_histogram_quantiles_are_within_their_error(values: list[int], quantile: float) -> None:
    half = len(values) // 2
    histogram = LatencyHistogram.empty().plus(np.array(values[:half], dtype=np.int64))
    histogram = histogram.plus(np.array(values[half:], dtype=np.int64))
    assert histogram.total == len(values)
    actual = sorted(values)[higher_rank(quantile, len(values))]
    assert actual <= histogram.quantile_ns(quantile) <= actual * (1 + RELATIVE_ERROR)


def test_small_latencies_are_exact() -> None:
    for value in (0, 1, 2, 3, 1_023, 1_024, 2_047):
        histogram = LatencyHistogram.empty().plus(np.array([value, 10**9]))
        assert histogram.quantile_ns(1e-9) == 10**9  # "higher": rank 0 is for a quantile of 0 alone
        histogram = histogram.plus(np.array([value]))
        assert histogram.quantile_ns(0.5) == value


def test_sums_of_long_waits_are_exact() -> None:
    """A million waits of an hour each do not fit int64; neither sum nor mean may wrap."""
    waiting = StageTotals(1)
    hour_ns = 3_600 * 10**9
    ones = np.ones(10**6, dtype=np.int64)
    served = Served(10**6, None, np.full(10**6, 10 * hour_ns), ones, ones)
    waiting = waiting.plus(np.zeros(10**6, dtype=np.int64), served)
    assert waiting.wait_ns == 10**7 * hour_ns
    assert waiting.mean_wait_s == 36_000
