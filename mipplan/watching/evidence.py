"""What is known of a running system: from logs, every arrival and batch; from metrics, counts between two looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc

from mipplan.core import NS_PER_S, InputError, Int64, quantile_ns
from mipplan.documents import AnyPath
from mipplan.exporters import names_among
from mipplan.following import (
    READERS,
    CounterMemory,
    MetricSample,
    WebError,
    check_metrics_urls,
    fetch,
    parse_answers,
)
from mipplan.logs import MISSING, RunLog
from mipplan.observing import arrivals_of, batches_of, last_part, run_of
from mipplan.replayer import NEVER
from mipplan.result import Plan

#: This much longer than the table is the dispatcher's own time: `mipplan serve` allows for it by default.
_ALLOWANCE_NS = 2_000_000
#: Fewer batches say nothing of a P99.
_FEWEST = 100
#: What is less likely than this is no chance.
_CHANCE = 1 / 30_000


@dataclass(frozen=True)
class StageEvidence:
    """Batches of one stage."""

    batches: int
    over: int
    """Of these, those that took longer than ℓ(k) and an allowance."""
    ratio: float
    """Service over table: the P99 of the batch size where that is most; of metrics, means."""

    def is_late(self, share: float) -> bool:
        """Whether more than a share take longer, and that is no chance."""
        # That so many or more are late although only that share is: the tail of a binomial distribution.
        chance = float(bdtrc(self.over - 1, self.batches, share)) if self.over else 1.0
        return self.batches >= _FEWEST and chance < _CHANCE


@dataclass(frozen=True, eq=False, repr=False)
class Evidence:
    """What was seen.

    Attributes
    ----------
    arrival_ns : int64, shape (queries,)
        From 0 on; of metrics drawn between two looks.
    edges_ns : int64, shape (looks + 1,), or None
        When metrics were looked at; counts between them are exact. None where every arrival is known.
    stages : mapping of str to StageEvidence
    latency_ns : int or None
        What measured latencies keep of the plan's objective, if logs of queries have them; `NEVER` where more queries
        got no good answer than may be late.
    notes : tuple of str
    """

    arrival_ns: Int64
    edges_ns: Int64 | None
    stages: Mapping[str, StageEvidence]
    latency_ns: int | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Evidence: {self.arrival_ns.size} queries>"


def read_evidence(plan: Plan, logs: Sequence[AnyPath | RunLog], last_s: float | None = None) -> Evidence:
    """Read logs of one run, or of its last seconds; raises `InputError` as `mipplan.observe` does."""
    run = run_of(tuple(logs), None, plan)
    if last_s is not None:
        run = last_part(run, last_s)
    notes = []
    times, latency_ns = arrivals_of(run), None
    if times.size < 2:
        raise InputError.one("logs", "hold fewer than two queries")
    if len(run.queries):
        order = np.argsort(run.queries.sent_ns, kind="stable")
        late_ns = np.where(run.queries.ok, run.queries.latency_ns, NEVER)[order]
        latency_ns = plan.objective.criterion(times).figure_ns(late_ns)
    else:
        notes.append("no log of queries: arrivals are those at the first stages")
    stages = {}
    for stage, seen in batches_of(run.stages).items():
        table = plan.service_ns(stage)
        known = (seen.size <= table.size) & (seen.size != MISSING)
        if not known.all():
            notes.append(f"{stage}: {np.count_nonzero(~known):,} batches were larger than the plan's cap")
        size, service = seen.size[known], seen.service_ns[known]
        stated = table[size - 1]
        ratios = [
            quantile_ns(service[size == k], 0.99) / int(table[k - 1])
            for k in np.unique(size).tolist()
            if np.count_nonzero(size == k) >= _FEWEST
        ]
        over = int(np.count_nonzero(service > stated + _ALLOWANCE_NS))
        stages[stage] = StageEvidence(int(size.size), over, max(ratios, default=1.0))
    return Evidence(times, None, stages, latency_ns, tuple(notes))


def look_at_metrics(
    plan: Plan,
    urls: Sequence[str],
    *,
    duration_s: float,
    system: str = "mipplan",
    names: Mapping[str, str] | None = None,
    look_s: float = 0.5,
    timeout_s: float = 2.0,
    stop: threading.Event | None = None,
) -> Evidence:
    """Look at metrics for some time.

    Raises
    ------
    InputError
        If an address is none, more than half of the looks fail, or fewer than two queries came.
    """
    check_metrics_urls(urls)
    known = dict(names or {})
    reader, memory = READERS[system](plan, known), CounterMemory()
    stop = stop or threading.Event()
    begin_ns, failed, reason, tells_late = time.monotonic_ns(), 0, "", False
    edges: list[int] = []
    counts: list[float] = []
    sums = {stage: np.zeros(4) for stage in plan.choices}  # batches, over, busy seconds, tokens
    looks = max(2, round(duration_s / look_s))
    for look in range(looks + 1):
        if stop.wait(max(0.0, look * look_s - (time.monotonic_ns() - begin_ns) / NS_PER_S)):
            break
        try:
            samples = parse_answers(fetch(url, timeout_s=timeout_s) for url in urls)
            if not edges:
                if system == "triton":
                    there = [one.labels.get("model", "") for one in samples]
                    known = names_among(plan, there) | dict(names or {})
                reader = READERS[system](plan, known)
            seen = memory.copy()  # of a look that fails nothing is remembered
            grown = {stage: _grown(seen, samples, known.get(stage, stage)) for stage in plan.choices}
            scrape, memory = reader.read(samples), seen
        except (WebError, InputError) as error:
            failed, reason = failed + 1, str(error)
            continue
        tells_late = any(one.name.startswith("mipplan_overruns") for one in samples)
        for stage, (batches, over, tokens) in grown.items():
            if edges:  # before the first look nothing is known
                sums[stage] += (batches, over, scrape.stages[stage].busy_s or 0.0, tokens)
        if edges:
            counts.append(scrape.queries)
        edges.append(time.monotonic_ns() - begin_ns)
    if failed > looks // 2 or len(edges) < 2:
        raise InputError.one("metrics", f"{failed} of {looks + 1} looks failed{': ' * bool(reason)}{reason}")
    whole = np.diff(np.floor(np.concatenate([[0.0], np.cumsum(counts)]))).astype(np.int64)
    if whole.sum() < 2:
        raise InputError.one("metrics", "fewer than two queries came while they were looked at")
    draws = np.random.default_rng(0)
    pieces = [
        np.sort(draws.integers(low, high, size=count))
        for low, high, count in zip(edges, edges[1:], whole.tolist(), strict=False)
    ]
    arrival_ns = np.concatenate(pieces).astype(np.int64)
    stages = {}
    for stage, (batches, over, busy_s, tokens) in sums.items():
        if batches:
            table = plan.service_ns(stage)
            mean = min(table.size, max(1, round(tokens / batches)))
            ratio = busy_s * NS_PER_S / batches / float(table[mean - 1])
            stages[stage] = StageEvidence(int(batches), int(over), ratio)
    notes = ["arrivals are counts between looks, placed at random: bursts shorter than these are not seen"]
    if not tells_late:
        notes.append(
            "these metrics do not tell which batches were late: whether tables still hold is not judged"
        )
    if failed:
        notes.append(f"{failed} looks at the metrics failed")
    return Evidence(arrival_ns - edges[0], np.array(edges) - edges[0], stages, None, tuple(notes))


def _grown(memory: CounterMemory, samples: Sequence[MetricSample], name: str) -> tuple[float, float, float]:
    """Batches, those that overran, and tokens since the last look, by whichever system's names there are."""
    batches = memory.increase(samples, "mipplan_batch_size_count", stage=name)
    if batches is None:
        executed = memory.increase(samples, "nv_inference_exec_count", model=name)
        return executed or 0.0, 0.0, memory.increase(samples, "nv_inference_count", model=name) or 0.0
    over = memory.increase(samples, "mipplan_overruns", stage=name)
    return batches, over or 0.0, memory.increase(samples, "mipplan_batch_size_sum", stage=name) or 0.0
