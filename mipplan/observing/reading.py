"""The logs of a run, held against the plan that was served: its stages, and every query where the edges lead it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from mipplan.core import NS_PER_S, Fault, InputError, Int64, format_duration, shown
from mipplan.documents import AnyPath
from mipplan.exporters import names_among
from mipplan.logs import MISSING, STEADY_CLOCK, ClockParams, RunLog, StageLog, read_log
from mipplan.result import Plan

_GAPS = "the log has gaps; give every file of the run"


def run_of(
    logs: tuple[AnyPath | RunLog, ...], shift_ns: Mapping[str, int] | None, plan: Plan | None = None
) -> RunLog:
    """Read logs, or take the one that was read already; where Triton's have its models, name the plan's stages.

    Raises `InputError` as `read_log` does, or with every stage that the plan does not have, every gap, and clocks of
    stages that contradict each other.
    """
    paths = [log for log in logs if not isinstance(log, RunLog)]
    if len(logs) > 1 and len(paths) < len(logs):
        raise InputError.one("logs", "expected files, or one RunLog")
    run = logs[0] if len(logs) == 1 and isinstance(logs[0], RunLog) else read_log(*paths, shift_ns=shift_ns)
    # Triton traces as many requests as it is told to, so that single ones tell nothing of others.
    is_whole = not is_tritons(run)
    if is_whole:
        InputError.raise_if(_strangers(run))
    if plan is None:
        return run
    if not is_whole:
        stages = {name: stage for stage, name in names_among(plan, run.stages.stages).items()}
        named = np.array([stages.get(name, name) for name in run.stages.stage], dtype=object)
        run = replace(run, stages=replace(run.stages, stage=named))
    InputError.raise_if(
        Fault("logs", f"the plan has no stage {shown(stage)}, which the log has")
        for stage in run.stages.stages
        if stage not in plan.choices
    )
    if is_whole:
        InputError.raise_if(
            [*_twice(run, plan), *_gaps(run, plan), *_contradicting_clocks(run, plan, ClockParams())]
        )
    return run


def is_tritons(run: RunLog) -> bool:
    """Whether stages were logged by Triton."""
    return any(source.clock == STEADY_CLOCK for source in run.sources)


def _parents(plan: Plan, stages: StageLog) -> Iterator[tuple[str, list[str]]]:
    """Stages of the log with those above them; without those of which some have no row: their files were not given."""
    logged = set(stages.stages)
    for name in plan.choices:
        above = [edge.parent for edge in plan.pipeline.edges if edge.child == name]
        if name in logged and logged.issuperset(above):
            yield name, above


def _strangers(run: RunLog) -> Iterator[Fault]:
    """Find queries that stages served and nobody sent."""
    if not len(run.queries):
        return
    served = np.unique(run.stages.query)
    strange = np.setdiff1d(served, run.queries.query)
    if strange.size and strange.size == served.size:
        yield Fault("logs", "no query of the stages is among those that were sent: logs of different runs")
    elif strange.size:
        what = f"{_counted(strange)} came to stages, and no log says when they were sent"
        yield Fault("logs", f"{what}: {_GAPS}, or that of the stages alone")


def came_twice(run: RunLog, stage: str) -> Int64:
    """Queries of which a stage served more than one token, ascending; an attempt that failed counts for none.

    None in Triton's traces, whose requests need no number.
    """
    here = run.stages.at(stage)
    number, tokens = np.unique(here.query[~here.has_error], return_counts=True)
    again: Int64 = number[(tokens > 1) & (not is_tritons(run))]
    return again


def _twice(run: RunLog, plan: Plan) -> Iterator[Fault]:
    """Find queries with several tokens where they have one each: where they begin."""
    for stage in run.stages.stages:
        if not plan.pipeline.incoming(stage) and (again := came_twice(run, stage)).size:
            what = f"{_counted(again)} came to {stage} twice, where queries begin"
            yield Fault("logs", f"{what}: numbers that began anew, in several runs; give the log of one")


def _gaps(run: RunLog, plan: Plan) -> Iterator[Fault]:
    """Find queries without a row of a stage that they must have passed."""
    queries, stages = run.queries, run.stages
    if not len(stages):
        return
    everywhere = np.union1d(stages.query, queries.query[queries.ok])
    for stage, above in _parents(plan, stages):
        here = np.unique(stages.at(stage).query)
        if above:
            lacking = np.setdiff1d(here, np.concatenate([stages.at(name).query for name in above]))
            where = f"of {' or '.join(above)}, though they came to {stage}"
        else:
            lacking, where = np.setdiff1d(everywhere, here), f"of {stage}, where all queries begin"
        if lacking.size:
            yield Fault("logs", f"{_counted(lacking)} have no row {where}: {_GAPS}")


def _contradicting_clocks(run: RunLog, plan: Plan, params: ClockParams) -> Iterator[Fault]:
    """Find stages that queries reach before any stage above has finished them."""
    hosts = sorted({source.host for source in run.sources if source.host})
    for stage, above in _parents(plan, run.stages):
        early_ns = _early_ns(run.stages, stage, above)
        too_early = early_ns[early_ns > params.tolerance_ns]
        if not too_early.size:
            continue
        offset = format_duration(int(too_early.max()))
        yield Fault(
            "logs",
            f"clock: {too_early.size:,} of {early_ns.size:,} queries come to {stage} up to {offset} before "
            f"{' or '.join(above)} has finished them: clocks of hosts ({', '.join(hosts) or 'unknown'}) are apart; let "
            f"NTP hold them together, or take the offset out: --shift HOST={offset.replace(' ', '')}, HOST being where "
            f"{stage} ran",
        )


def _early_ns(stages: StageLog, stage: str, above: list[str]) -> Int64:
    """By how much each query's first arrival is before the first finish at stages above, shape (queries,)."""
    finished = np.isin(stages.stage.astype(str), above) & (stages.finish_ns != MISSING)
    number, finish_ns = earliest(stages.query[finished], stages.finish_ns[finished])
    here, arrival_ns = earliest(stages.at(stage).query, stages.at(stage).arrival_ns)
    _, first, second = np.intersect1d(number, here, assume_unique=True, return_indices=True)
    early: Int64 = finish_ns[first] - arrival_ns[second]
    return early


def entries_of(run: RunLog) -> tuple[Int64, Int64]:
    """Return the queries, each with when it was sent or, without a log of them, reached its first stage."""
    if len(run.queries):
        return run.queries.query, run.queries.sent_ns
    return earliest(run.stages.query, run.stages.arrival_ns)


def earliest(query: Int64, at_ns: Int64) -> tuple[Int64, Int64]:
    """Return the queries, ascending, each with its earliest time, shape (queries,) both."""
    order = np.lexsort((at_ns, query))
    number, first = np.unique(query[order], return_index=True)
    return number, at_ns[order][first]


def last_part(run: RunLog, length_s: float) -> RunLog:
    """Return the queries that came within so many seconds before the last one, with all their rows."""
    number, at_ns = entries_of(run)
    recent = number[at_ns >= max(-(2**63), int(at_ns.max(initial=0)) - round(length_s * NS_PER_S))]
    queries = run.queries.taken(np.isin(run.queries.query, recent))
    return replace(run, queries=queries, stages=run.stages.taken(np.isin(run.stages.query, recent)))


def _counted(query: Int64) -> str:
    return f"query {query[0]}" if query.size == 1 else f"{query.size:,} queries from {query[0]} on"
