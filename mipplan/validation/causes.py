"""Which terms of a prediction are off, and what the comparison comes to, by rules that are written here.

*Services* are compared with the plan's table, batch size by batch size. *Hops* are compared with the plan's delays.
What a stage's waits would be with the arrivals and services that were measured is known from a replay of that stage
alone; where waits exceed that, the stage does not dispatch as planned, and why is looked for in the log: a stall,
replicas that are not there, batches that stay small. So services that are too slow are not blamed on queueing, nor
queues on the stage below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mipplan.core import NS_PER_MS, NS_PER_S, format_duration
from mipplan.validation.bootstrap import Agreement, FigureComparison
from mipplan.validation.result import Cause, HopComparison, StageComparison, Term, TruthVerdict


@dataclass(frozen=True)
class CauseParams:
    """From where on a difference is a cause."""

    service: float = 0.03
    """The whole interval of measured by planned service times is off by more than this share."""
    of_latency: float = 0.02
    """A hop, or a wait, is off by at least this share of the predicted mean latency, …"""
    least_hop_ns: int = NS_PER_MS // 5
    """… and a hop by this much."""
    of_wait: float = 0.1
    """A wait is off by at least this share of itself."""
    batches: float = 0.1
    """Mean batches differ by at least this share."""
    stall: float = 5.0
    """Nothing began for as long as this many full batches while tokens waited, or a batch took that much longer, …"""
    least_stall_ns: int = 50 * NS_PER_MS
    """… and this long: shorter ones are pauses of garbage collectors and schedulers."""
    finer: float = 10.0
    """Where figures are off and nothing is found, waits are looked at this many times as closely."""
    tokens: float = 0.03
    tokens_errors: float = 4.0
    """Tokens of a query at a stage are off by this share, and by so many standard errors."""
    send_error_ns: int = 10 * NS_PER_MS
    """As where `mipplan drive` says that a measurement is spoilt."""
    failed: float = 0.01


def verdict_of(
    figures: Sequence[FigureComparison], measured_grows: bool, predicted_grows: bool
) -> TruthVerdict:
    """Say what the comparison comes to.

    Nothing is off: it agrees. Else saturation comes first, since with it no latency can be right; the replay of the
    same arrivals says whether the plan knows of it.
    """
    if all(figure.agreement is Agreement.UNKNOWN for figure in figures):
        return TruthVerdict.TOO_SHORT
    if not any(figure.agreement is Agreement.OFF for figure in figures):
        return TruthVerdict.AGREES
    if measured_grows:
        return TruthVerdict.SATURATED if predicted_grows else TruthVerdict.SATURATED_UNLIKE_REPLAY
    return TruthVerdict.MODEL_WRONG


def causes_of(
    stages: Sequence[StageComparison],
    hops: Sequence[HopComparison],
    figures: Sequence[FigureComparison],
    caps: dict[str, int],
    eager: Collection[str],
    queries: int,
    mean_latency_s: float,
    params: CauseParams,
) -> list[Cause]:
    """Return the terms that are off: along the way of a query, hop by hop and stage by stage.

    At `eager` stages no token may wait while a replica is idle: where one does, something held the stage up.

    What is small may still be why figures are off, since it changes what meets in a batch further down. So where
    figures are off and no term is, waits are looked at more closely.
    """
    agreements = {figure.agreement for figure in figures}
    # Real outputs never arrive at the same instant; that is worth a word only where there is something to explain.
    is_exact = agreements <= {Agreement.WITHIN, Agreement.UNKNOWN}
    found = [*_along(stages, hops, caps, eager, queries, mean_latency_s, params, is_exact)]
    if not found and Agreement.OFF in agreements:
        closer = replace(params, of_latency=params.of_latency / params.finer, of_wait=params.of_wait / 2)
        found = [*_along(stages, hops, caps, eager, queries, mean_latency_s, closer, is_exact)]
    return found


def _along(
    stages: Sequence[StageComparison],
    hops: Sequence[HopComparison],
    caps: dict[str, int],
    eager: Collection[str],
    queries: int,
    mean_latency_s: float,
    params: CauseParams,
    is_exact: bool,
) -> Iterator[Cause]:
    for stage in stages:
        for hop in hops:
            if hop.below == stage.stage:
                yield from _hop_causes(hop, mean_latency_s, params)
                if not is_exact:
                    yield from _stagger_causes(hop, stage, mean_latency_s, params)
        yield from _routing_causes(stage, params)
        yield from _service_causes(stage, params)
        held_up = [*_held_up_causes(stage, params)] if stage.stage in eager else []
        yield from held_up
        if not held_up:  # Else the waits are explained.
            yield from _dispatch_causes(stage, caps[stage.stage], mean_latency_s, params)
    names = {stage.stage for stage in stages}
    for hop in hops:
        if hop.below not in names:
            yield from _hop_causes(hop, mean_latency_s, params)
    yield from _all_hops_causes(hops, queries, mean_latency_s, params)


def run_causes(send_p99_s: float, failed: int, queries: int, params: CauseParams) -> Iterator[Cause]:
    """Yield what is wrong with the run as a whole."""
    if send_p99_s * NS_PER_S > params.send_error_ns:
        late = format_duration(send_p99_s * NS_PER_S)
        text = f"one query of a hundred was sent {late} late or more: the arrivals are not those of the trace"
        yield Cause(Term.SENDING, "", f"{text} (the replay is of those that were sent)")
    if failed > params.failed * queries:
        text = f"{failed:,} of {queries:,} queries got no good answer, and in the replay all do"
        yield Cause(Term.ERRORS, "", text)


def _hop_causes(hop: HopComparison, mean_latency_s: float, params: CauseParams) -> Iterator[Cause]:
    excess_s = hop.p50_s - hop.predicted_p50_s
    least_s = max(params.of_latency * mean_latency_s, params.least_hop_ns / NS_PER_S)
    interval = hop.p50_interval
    is_sure = interval is not None and not interval.low <= hop.predicted_p50_s <= interval.high
    if abs(excess_s) >= least_s and is_sure:
        found, stated = _time(hop.p50_s), _time(hop.predicted_p50_s)
        more = f"{_time(abs(excess_s))} {'more' if excess_s > 0 else 'less'}"
        place = f"{hop.above} → {hop.below}"
        yield Cause(
            Term.HOP, place, f"{place} takes {found} in the median, {more} than the {stated} of the plan"
        )


def _all_hops_causes(
    hops: Sequence[HopComparison], queries: int, mean_latency_s: float, params: CauseParams
) -> Iterator[Cause]:
    """Hops of which none is long by itself, and all together are, as a query goes through them in the mean."""
    if any(True for hop in hops for _ in _hop_causes(hop, mean_latency_s, params)):
        return
    shares = [(hop, hop.count / queries * (hop.p50_s - hop.predicted_p50_s)) for hop in hops]
    together_s = sum(excess_s for _, excess_s in shares)
    if abs(together_s) >= max(params.of_latency * mean_latency_s, params.least_hop_ns / NS_PER_S):
        each = ", ".join(
            f"{hop.above} → {hop.below} {_time(excess_s)}" for hop, excess_s in shares if excess_s
        )
        more = f"{_time(abs(together_s))} {'more' if together_s > 0 else 'less'}"
        yield Cause(Term.HOP, "", f"all hops together take {more} than the plan's delays: {each}")


def _stagger_causes(
    hop: HopComparison, stage: StageComparison, mean_latency_s: float, params: CauseParams
) -> Iterator[Cause]:
    if not hop.stagger_s or hop.predicted_stagger_s != 0.0 or stage.served_wait_s is None:
        return
    if stage.served_together:  # They come one after the other, and are taken as one arrival all the same.
        return
    if abs(stage.served_wait_s - stage.predicted_wait_s) >= params.of_latency * mean_latency_s:
        apart = _time(hop.stagger_s)
        text = (
            f"outputs of a batch at {hop.above} reach {hop.below} one after the other, {apart} apart in the median; in "
            f"the replay they all come at once, and tokens at {hop.below} wait {_time(stage.predicted_wait_s)} instead "
            f"of {_time(stage.wait_s)}: replay with a stagger of {apart}"
        )
        yield Cause(Term.STAGGER, f"{hop.above} → {hop.below}", text)


def _routing_causes(stage: StageComparison, params: CauseParams) -> Iterator[Cause]:
    off = stage.tokens_per_query - stage.predicted_tokens_per_query
    if abs(off) > max(
        params.tokens * stage.predicted_tokens_per_query, params.tokens_errors * stage.tokens_error
    ):
        text = f"{stage.stage} gets {stage.tokens_per_query:.3g} tokens a query"
        yield Cause(
            Term.ROUTING, stage.stage, f"{text}, in the replay {stage.predicted_tokens_per_query:.3g}"
        )


def _service_causes(stage: StageComparison, params: CauseParams) -> Iterator[Cause]:
    interval = stage.service_interval
    if interval is None or stage.service_ratio is None:
        return
    if interval.low <= 1 + params.service and interval.high >= 1 - params.service:
        return
    tables = [one for one in stage.services if one.table_s]
    worst = max(tables, key=lambda one: one.batches * abs(one.p50_s / (one.table_s or 1.0) - 1.0))
    text = (
        f"batches at {stage.stage} take {stage.service_ratio:.2f} × their table ({interval.low:.2f} to "
        f"{interval.high:.2f}); most of it at {worst.batch}: {_time(worst.p50_s)} in the median, the table says "
        f"{_time(worst.table_s or 0.0)}"
    )
    if stage.service_ratio > 1 and stage.overruns is not None:
        text += f"; {stage.overruns:.0%} take longer than ℓ(k)"
    yield Cause(Term.SERVICE, stage.stage, text)


def _held_up_causes(stage: StageComparison, params: CauseParams) -> Iterator[Cause]:
    tables_s = [one.table_s for one in stage.services if one.table_s is not None] or [0.0]
    least_s = max(params.stall * max(tables_s), params.least_stall_ns / NS_PER_S)
    if stage.most_at_once < stage.replicas:
        # One that is there would have begun at once, or after a window that is shorter than any batch takes.
        if stage.longest_idle_s >= min(tables_s):
            text = (
                f"{stage.stage} never had more than {stage.most_at_once} batches under way, also while tokens waited; "
                f"the plan has {stage.replicas} replicas"
            )
            yield Cause(Term.REPLICAS, stage.stage, text)
        return
    if stage.longest_idle_s >= least_s:
        text = (
            f"{stage.stage} stalled {_time(stage.idle_at_s)} into the run: for {_time(stage.longest_idle_s)} tokens "
            f"waited although fewer than {stage.replicas} batches were under way"
        )
        yield Cause(Term.STALL, stage.stage, text)
    elif stage.longest_service_s - stage.longest_table_s >= least_s:
        text = (
            f"{stage.stage} stalled {_time(stage.longest_at_s)} into the run: a batch took "
            f"{_time(stage.longest_service_s)}, its table says {_time(stage.longest_table_s)}"
        )
        yield Cause(Term.STALL, stage.stage, text)


def _dispatch_causes(
    stage: StageComparison, cap: int, mean_latency_s: float, params: CauseParams
) -> Iterator[Cause]:
    largest = max(stage.batch_sizes, default=0)
    if largest > cap:
        text = f"{stage.stage} makes batches of up to {largest}, the plan's cap is {cap}"
        yield Cause(Term.BATCHING, stage.stage, text)
        return
    excess, served_s = stage.wait_excess, stage.served_wait_s
    if excess is None or served_s is None:
        return
    least_s = max(params.of_latency * mean_latency_s, params.of_wait * served_s)
    if excess.low <= least_s and excess.high >= -least_s:
        return
    waits = (
        f"tokens at {stage.stage} wait {_time(stage.wait_s)} in the mean; with the arrivals and service times that "
        f"were measured, the plan's dispatch gives {_time(served_s)}"
    )
    stated, most = stage.predicted_mean_batch, max(stage.predicted_batch_sizes, default=0)
    if stated and (abs(stage.mean_batch / stated - 1) > params.batches or largest < most):
        sizes = f"batches of {stage.mean_batch:.2f} in the mean and {largest} at most"
        text = f"{waits}: {sizes}, in the replay of {stated:.2f} and {most}"
        yield Cause(Term.BATCHING, stage.stage, text)
    else:
        idle = ""
        if stage.longest_idle_s:
            idle = f"; tokens waited up to {_time(stage.longest_idle_s)} although a replica was free"
        yield Cause(Term.QUEUEING, stage.stage, waits + idle)


def _time(seconds: float) -> str:
    return format_duration(seconds * NS_PER_S)
