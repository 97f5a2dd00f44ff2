"""Replay traces larger than memory: piece by piece, exactly, keeping sums and a histogram."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from mipplan.core import NS_PER_S, InputError, Int64, check_seed, check_slo, is_whole, keep_memory, shown
from mipplan.pipeline import CollectionWindow, Dispatch, Stagger
from mipplan.profiles import EnergyTerms
from mipplan.replayer.engines import resolve_engine
from mipplan.replayer.schedule import ReplicaSchedule, finishing_ns
from mipplan.replayer.settings import (
    Noise,
    ReplaySettings,
    check_at_once,
    check_plan,
    engine_and_seed,
    read_settings,
)
from mipplan.replayer.stage_task import ALWAYS, NEVER, Served, StageTask, no_times
from mipplan.replayer.walk import ChunkedReplay, Released
from mipplan.result import (
    BusyTimes,
    LatencyHistogram,
    Plan,
    StreamEnd,
    StreamResult,
    exact_sum,
    resolve_slo_ns,
    run_energy,
)
from mipplan.trace import Trace, checked_chunks, read_pieces

#: Queries in a piece: enough to make the work per piece negligible, few enough to stay within some 100 MiB.
CHUNK = 2**16
#: Tokens of unfinished queries that may be held, over all stages; each takes about 100 bytes.
BACKLOG = 2_000_000


def replay_stream(
    plan: Plan,
    source: str | os.PathLike[str] | Trace | Iterable[Int64],
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    window_s: CollectionWindow = None,
    engine: str = "auto",
    seed: int | None = None,
    schedule: Mapping[str, ReplicaSchedule] | None = None,
    noise: Noise = None,
    slo_s: float | None = None,
    chunk: int = CHUNK,
    backlog: int = BACKLOG,
    progress: Callable[[str], None] | None = None,
) -> StreamResult:
    """Replay a trace of any length in bounded memory, exactly, in integer nanoseconds.

    Every query has the latency that `replay` gives it. What is kept are counts, sums and a histogram. Ctrl-C ends
    the replay and returns what is done so far, marked partial.

    Parameters
    ----------
    plan : Plan
    source : path, Trace, or iterable of int64 arrays
        A CSV or Parquet file with a column ``arrival_s``, ``arrival_ms`` or ``timestamp`` (gzip accepted for CSV),
        or arrays of nanoseconds, shape (k,) each; sorted from the first to the last.
    dispatch, discipline, stagger_s, window_s
        As for `replay`.
    engine : str
        ``"auto"`` or a key of `ENGINES`.
    seed : int, optional
        Seed of the token draws; the plan's own by default.
    schedule : mapping of str to ReplicaSchedule, optional
        Replica counts over time; stages not named keep the plan's.
    noise : ServiceNoise, or mapping of str to ServiceNoise, optional
        Random service times, of all stages or of those named; by default a batch of k takes ℓ(k).
    slo_s : float, optional
        Count queries slower than this; the plan's objective by default.
    chunk : int
        Queries served at a time. The result does not depend on it.
    backlog : int
        Tokens of unfinished queries that may be held in memory, over all stages. An overloaded plan reaches any
        limit; the replay then stops, and the result is partial.
    progress : callable, optional
        Told now and then how far the replay is.

    Returns
    -------
    StreamResult

    Raises
    ------
    InputError
        With every argument that cannot be used; for an engine that lacks what is needed, or a source that is
        unsorted, empty or damaged (with the row).
    NoPlanError
        If the plan holds no choices.
    KeyboardInterrupt
        If Ctrl-C comes before any query is finished.
    """
    check_plan(plan)
    settings = read_settings(
        [plan],
        discipline,
        schedule,
        noise,
        dispatch,
        stagger_s,
        window_s=window_s,
        also=[
            lambda: _check_source(source),
            *engine_and_seed(engine, seed),
            lambda: None if slo_s is None else check_slo(slo_s),
            lambda: _check_count("chunk", chunk),
            lambda: _check_count("backlog", backlog),
            lambda: _check_progress(progress),
        ],
    )
    check_at_once(plan, settings, "nothing is served piece by piece")
    chosen = resolve_engine(engine, settings.needed([plan], in_pieces=True))
    drawn = check_seed(plan.seed if seed is None else seed)
    slo_ns = resolve_slo_ns(plan.pipeline, plan.slo_s if slo_s is None else slo_s)
    energy = None if plan.energy is None else _Energy(plan, plan.energy, settings)
    chunks = ChunkedReplay([plan], settings, chosen, drawn, None if energy is None else energy.add)
    result = StreamResult(
        read=0,
        queries=0,
        first_ns=0,
        last_ns=0,
        latency_sum_ns=0,
        histogram=LatencyHistogram.empty(),
        slo_s=slo_ns / NS_PER_S,
        misses=0,
        stages={},
        discipline=settings.discipline_of(plan).value,
        engine=chosen.name,
        seed=drawn,
        service=settings.service(drawn),
        certificate_applies=settings.certificate_applies(plan),
        staggers_ns=MappingProxyType(settings.staggers_ns(plan)),
    )
    keep_memory()
    try:
        for arrival_ns, until_ns in _pieces(source, chunk):
            if energy is not None:
                energy.before(arrival_ns, until_ns)
            chunks.advance(arrival_ns, until_ns)
            # One assignment: whenever Ctrl-C comes, `result` is of whole pieces.
            result = replace(
                _plus(result, chunks.release([0]), slo_ns),
                read=chunks.seen,
                stages=MappingProxyType(chunks.totals(0)),
            )
            if progress is not None:
                last_s = result.last_ns / NS_PER_S
                progress(f"{result.queries:,} queries replayed, {last_s:,.0f} s of the trace")
            if chunks.carried_tokens > backlog and until_ns < NEVER:
                result = replace(result, end=StreamEnd.OVERLOADED)
                break
    except KeyboardInterrupt:
        if not result.queries:
            raise
        result = replace(result, end=StreamEnd.INTERRUPTED)
    if not result.queries:
        message = (
            f"no query was finished before more than {backlog:,} tokens had to be held: too many arrive at once for "
            "this plan, or the times are in another unit (in Python: or raise backlog)"
        )
        raise InputError.one(_origin(source), message if chunks.seen else "holds no arrival")
    return result if energy is None else energy.told_of(result)


class _Energy:
    """Adds up, piece by piece, what energy is made of: busy time by batch size, and what retiring replicas finish."""

    def __init__(self, plan: Plan, terms: EnergyTerms, settings: ReplaySettings) -> None:
        self._terms, self._draws, self._schedule = terms, plan.draws(), settings.schedule
        self._busy: dict[str, BusyTimes] = {}
        self._finishing_ns = dict.fromkeys(settings.schedule, 0)
        # Of scheduled stages, when batches under way began and end.
        self._under_way = dict.fromkeys(settings.schedule, (no_times(), no_times()))
        self._low_ns = self._high_ns = ALWAYS

    def before(self, arrival_ns: Int64, until_ns: int) -> None:
        """Say what is served next: queries, and everything up to an instant."""
        self._low_ns, self._high_ns = self._high_ns, until_ns
        if not self._busy and arrival_ns.size:
            first_ns, by_hour = int(arrival_ns[0]), self._terms.is_hourly
            self._busy = {n: BusyTimes(d.busy_mw.size, first_ns, by_hour) for n, d in self._draws.items()}

    def add(self, stage: str, _: StageTask, served: Served) -> None:
        """Take in what a stage did."""
        if not self._busy:
            return  # There is no query.
        start_ns, service_ns = served.batch_start_ns, served.batch_service_ns
        self._busy[stage].add(start_ns, served.batch_size, service_ns)
        if stage in self._schedule:
            before_ns, due_ns = self._under_way[stage]
            begun_ns = np.concatenate([before_ns, start_ns])
            ends_ns = np.concatenate([due_ns, start_ns + service_ns])
            capacity = self._schedule[stage].capacity
            self._finishing_ns[stage] += finishing_ns(
                capacity, begun_ns, ends_ns, self._low_ns, self._high_ns
            )
            left = ends_ns > self._high_ns
            self._under_way[stage] = begun_ns[left], ends_ns[left]

    def told_of(self, result: StreamResult) -> StreamResult:
        """Return the result with what the run took."""
        if result.partial:
            return replace(result, energy_reason="the run ended early")
        first_ns, last_ns = result.first_ns, max(stage.last_exit_ns for stage in result.stages.values())
        replicas = {name: stage.replicas for name, stage in result.stages.items()}
        span_ns = last_ns - first_ns
        paid_ns = {
            name: count * span_ns
            if name not in self._schedule
            else self._schedule[name].planned_ns(first_ns, last_ns) + self._finishing_ns[name]
            for name, count in replicas.items()
        }
        draws, terms, queries = self._draws, self._terms, result.queries
        busy = {name: self._busy[name] for name in replicas}
        try:
            taken = run_energy(busy, replicas, draws, paid_ns, terms, queries, first_ns, span_ns)
        except InputError as error:
            return replace(result, energy_reason=error.faults[0].message)
        return replace(result, energy=taken)


def _pieces(
    source: str | os.PathLike[str] | Trace | Iterable[Int64], size: int
) -> Iterator[tuple[Int64, int]]:
    """Yield arrivals with the instant up to which everything is known, and in the end nothing and `NEVER`."""
    if isinstance(source, str | os.PathLike):
        pieces: Iterable[object] = read_pieces(source)
    elif isinstance(source, Trace):
        pieces = [source.arrival_ns]
    else:  # an array, or what becomes one as a whole, is one piece
        pieces = [source] if hasattr(source, "__array__") else source
    for arrival_ns in checked_chunks(pieces, size, _origin(source)):
        # The next piece may begin at the very instant at which this one ends.
        yield arrival_ns, int(arrival_ns[-1]) - 1
    yield no_times(), NEVER


def _origin(source: object) -> str:
    """What a source is called in messages."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "source"


def _check_source(source: object) -> None:
    if isinstance(source, Mapping | bytes | bytearray) or not (
        isinstance(source, Trace | os.PathLike | Iterable) or hasattr(source, "__array__")
    ):
        message = f"expected a file, a Trace, or arrays of nanoseconds, found {shown(source)}"
        raise InputError.one("source", message)


def _check_count(name: str, value: object) -> None:
    if not is_whole(value) or value < 1:
        raise InputError.one(name, f"expected a whole number from 1 on, found {shown(value)}")


def _check_progress(progress: object) -> None:
    if progress is not None and not callable(progress):
        raise InputError.one("progress", f"expected a function of one text, found {shown(progress)}")


def _plus(result: StreamResult, released: Released, slo_ns: int) -> StreamResult:
    """Add the queries that were released."""
    if not released.query.size:
        return result
    (latency_ns,) = released.latency_ns
    first_ns, last_ns = int(released.ingress_ns[0]), int(released.ingress_ns[-1])
    return replace(
        result,
        queries=result.queries + latency_ns.size,
        first_ns=min(result.first_ns, first_ns) if result.queries else first_ns,
        last_ns=max(result.last_ns, last_ns),
        latency_sum_ns=result.latency_sum_ns + exact_sum(latency_ns),
        misses=result.misses + int(np.count_nonzero(latency_ns > slo_ns)),
        histogram=result.histogram.plus(latency_ns),
    )
