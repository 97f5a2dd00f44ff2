"""What a replay observed: integer times per query, token and batch, and the figures people ask for.

Figures are computed when asked for: a replay of 10⁷ queries keeps nothing beside the times themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_HOUR,
    NS_PER_S,
    Bool,
    FieldOf,
    Float64,
    InputError,
    Int64,
    Printable,
    Summary,
    check_quantile,
    check_slo,
    drawn,
    format_duration,
    from_front,
    listed,
    quantile_ns,
    shown,
)
from mipplan.documents import write_text_atomically
from mipplan.profiles import EnergyTerms, PowerDraw
from mipplan.result.stage import NEVER, StageReplay
from mipplan.result.statistics import CONFIDENCE, QUANTILES, LatencyStatistics, latency_statistics
from mipplan.result.stream import (
    SHOWN_QUANTILES,
    STAGE_HEADINGS,
    exact_sum,
    latencies_text,
    manner_text,
    stage_row,
    systems_text,
)
from mipplan.result.timeline import BusyTimes, RunEnergy, StepFunction, Windows, latency_windows, run_energy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mipplan.result.record import Objective


def overruns_text(overruns: Mapping[str, int] | None, lost: int | None) -> str | None:
    """Say what overran in a run, and what that voids."""
    if overruns is None or lost is None:
        return None
    batches = sum(overruns.values())
    if not batches:
        return "none"
    where = ", ".join(f"{count:,} at {stage}" for stage, count in overruns.items() if count)
    return f"{batches:,} batches took longer than their table says ({where}); {lost:,} queries lose the guarantee"


@dataclass(frozen=True, eq=False, repr=False)
class ReplayResult(Printable):
    """Outcome of one replay.

    Attributes
    ----------
    latency_ns : int64, shape (n,)
        Latency of each query, in the order of ingress: last exit of any of its tokens minus ingress.
    stages : mapping of str to StageReplay
        In topological order.
    discipline, engine : str
    seed : int
    ingress_ns : int64, shape (n,)
        Ingress time of each query, non-decreasing.
    replica_microusd_per_hour : mapping of str to int
        Price of one replica, by stage, in whole micro-dollars per hour.
    paid_replica_ns : mapping of str to int
        Replica-nanoseconds paid for at each stage between the first ingress and the last exit.
    service : str
        What the service times were drawn from.
    certificate_applies : bool
        Whether the plan's certificate (`mipplan.certify`) covers this run: laws, discipline and replicas are as
        planned, and no batch of k can take longer than ℓ(k), nor less than the class of runs allows that it is for.
    overruns : mapping of str to int, or None
        Where service is random, and all else as planned: batches of each stage that took longer than ℓ(k).
    lost : bool, shape (n,), or None
        Queries that lose the guarantee by these: they may exceed the certificate; where all stages are timed, what
        happens to them may differ from the replay.
    staggers_ns : mapping of str to int
        Time between the outputs of a batch on their way to other stages, by stage; 0 if they went on at once.
    systems : mapping of str to str
        By stage, the serving system's law by which batches were made there, in words; empty if by the plan's law.
    rejected : bool, shape (n,), or None
        Queries that were turned away, where queues had a bound: they miss every objective, and their `latency_ns` is
        the time until then. Means, quantiles, windows and plots are of the others.
    draws, energy_terms : mapping of str to PowerDraw, EnergyTerms or None
        What a device of each stage draws, and what is asked of energy, where the plan asks; see `energy`.
    """

    latency_ns: Int64
    stages: Mapping[str, StageReplay]
    discipline: str
    engine: str
    seed: int
    ingress_ns: Int64
    replica_microusd_per_hour: Mapping[str, int]
    paid_replica_ns: Mapping[str, int]
    service: str = "as measured"
    certificate_applies: bool = True
    overruns: Mapping[str, int] | None = None
    lost: Bool | None = None
    staggers_ns: Mapping[str, int] = field(default_factory=dict)
    systems: Mapping[str, str] = field(default_factory=dict)
    rejected: Bool | None = None
    draws: Mapping[str, PowerDraw] = field(default_factory=dict)
    energy_terms: EnergyTerms | None = None

    @property
    def queries(self) -> int:
        """Number of queries."""
        return int(self.latency_ns.size)

    latency_s = FieldOf[Float64]("latency_ns", NS_PER_S)
    """Latency of each query in seconds, shape (n,)."""

    @property
    def queries_rejected(self) -> int | None:
        """How many queries were turned away; None where no queue had a bound."""
        return None if self.rejected is None else int(np.count_nonzero(self.rejected))

    def answered(self, times_ns: Int64) -> Int64:
        """Of times of each query, return those of the queries that were not turned away.

        Raises
        ------
        InputError
            If all of them were.
        """
        if self.rejected is None:
            return times_ns
        if not self._is_answered:
            raise InputError.one("system", "every query was turned away: there is no latency to speak of")
        return times_ns[~self.rejected]

    @property
    def _is_answered(self) -> bool:
        return self.rejected is None or not self.rejected.all()

    @property
    def answered_ns(self) -> Int64:
        """Latency of each query that was not turned away; raises as `answered`."""
        return self.answered(self.latency_ns)

    @property
    def late_ns(self) -> Int64:
        """Latency of each query, beyond every limit for one that was turned away."""
        return self.latency_ns if self.rejected is None else np.where(self.rejected, NEVER, self.latency_ns)

    @property
    def mean_latency_s(self) -> float:
        """Mean latency in seconds, of an exact sum."""
        return exact_sum(self.answered_ns) / self.answered_ns.size / NS_PER_S

    def quantile_ns(self, quantile: float) -> int:
        """Latency quantile over queries in ns (``method="higher"``)."""
        return quantile_ns(self.answered_ns, check_quantile(quantile))

    def objective_ns(self, objective: Objective) -> int:
        """Return the least limit, in ns, with which the run would keep an objective: its quantile, by its windows."""
        figure_ns: int = objective.criterion(self.ingress_ns).figure_ns(self.late_ns)
        return figure_ns

    def quantile(self, quantile: float) -> float:
        """Latency quantile over queries in seconds (``method="higher"``).

        Raises
        ------
        InputError
            If `quantile` is not in (0, 1].
        """
        return self.quantile_ns(quantile) / NS_PER_S

    def misses(self, slo_s: float) -> int:
        """Count the queries slower than `slo_s`.

        Raises
        ------
        InputError
            If `slo_s` is no positive time.
        """
        return int(np.count_nonzero(self.late_ns > check_slo(slo_s)))

    def miss_rate(self, slo_s: float) -> float:
        """Share of queries slower than `slo_s`; errors as for `misses`."""
        return self.misses(slo_s) / self.queries

    def statistics(
        self,
        slo_s: float | None = None,
        *,
        quantiles: tuple[float, ...] = QUANTILES,
        confidence: float = CONFIDENCE,
        seed: int = 0,
    ) -> LatencyStatistics:
        """Compute quantiles, and the miss rate if there is an objective, with confidence intervals.

        Parameters
        ----------
        slo_s, quantiles
            The objective in seconds, and quantiles in (0, 1].
        confidence : float
            Nominal, in (0, 1).
        seed : int
            Of the bootstrap, which has nothing to do with the token draws.

        Returns
        -------
        LatencyStatistics
            Says what the intervals mean, and when there is none.

        Raises
        ------
        InputError
            With every argument that cannot be used.
        """
        drawn: dict[str, Any] = {"confidence": confidence, "seed": seed}
        found = latency_statistics(self.answered_ns, quantiles=quantiles, slo_s=slo_s, **drawn)
        if self.rejected is None or slo_s is None:
            return found
        return replace(
            found, misses=latency_statistics(self.late_ns, quantiles=(), slo_s=slo_s, **drawn).misses
        )

    def windows(self, window_s: float, slo_s: float | None = None) -> Windows:
        """Latencies over time: figures of the queries that came in each window of `window_s` seconds.

        Raises
        ------
        InputError
            If the window or the objective is not positive, or there would be more than a million windows.
        """
        return latency_windows(self.answered(self.ingress_ns), self.answered_ns, window_s, slo_s)

    @property
    def queries_lost(self) -> int | None:
        """How many queries lose the guarantee of timed dispatch, because batches took longer than their tables say."""
        return None if self.lost is None else int(np.count_nonzero(self.lost))

    @property
    def in_flight(self) -> StepFunction:
        """How many queries are in the pipeline, over time; its integral is the sum of the latencies."""
        return StepFunction.counting(self.ingress_ns, self.ingress_ns + self.latency_ns)

    @property
    def span_ns(self) -> int:
        """Time from the first ingress to the last exit."""
        ends_ns = [int(np.max(self.ingress_ns + self.latency_ns))]
        if self.rejected is not None:
            # What else there is of a query that was turned away is served all the same.
            ends_ns += [stage.assignment.last_exit_ns for stage in self.stages.values() if stage.batches]
        return max(ends_ns) - int(self.ingress_ns[0])

    @property
    def usd(self) -> float:
        """Rent of all replicas from the first ingress to the last exit, dollars; electricity is told by `energy`."""
        microusd_ns = sum(
            paid_ns * self.replica_microusd_per_hour[stage] for stage, paid_ns in self.paid_replica_ns.items()
        )
        return microusd_ns / (NS_PER_HOUR * MICRODOLLARS_PER_DOLLAR)

    @property
    def usd_per_query(self) -> float:
        """Rent per query, dollars."""
        return self.usd / self.queries

    @cached_property
    def energy(self) -> RunEnergy | None:
        """What the run took, exactly; None where the plan asks nothing of energy."""
        terms, first_ns = self.energy_terms, int(self.ingress_ns[0])
        if terms is None:
            return None
        busy = {n: BusyTimes(d.busy_mw.size, first_ns, terms.is_hourly) for n, d in self.draws.items()}
        for name, stage in self.stages.items():
            busy[name].add(stage.batch_start_ns, stage.batch_size, stage.batch_service_ns)
        replicas = {name: stage.replicas for name, stage in self.stages.items()}
        paid_ns, span_ns = self.paid_replica_ns, self.span_ns
        return run_energy(busy, replicas, self.draws, paid_ns, terms, self.queries, first_ns, span_ns)

    def utilisation(self, stage: str) -> float:
        """Share of the paid replica time of a stage that was busy, between first ingress and last exit.

        Raises
        ------
        InputError
            If there is no such stage.
        """
        if not isinstance(stage, str) or stage not in self.stages:
            raise InputError.one("stage", f"expected one of {listed(self.stages)}, found {shown(stage)}")
        paid_ns = self.paid_replica_ns[stage]
        return self.stages[stage].total_service_ns / paid_ns if paid_ns else 0.0

    def plot(self, slo_s: float, quantile: float = 0.99, window_s: float | None = None) -> Figure:
        """Draw latencies over time, the traffic, and how latencies are distributed, beside an objective.

        Parameters
        ----------
        slo_s, quantile : float
            The objective, drawn as lines.
        window_s : float, optional
            Length of the windows; by default such that each holds enough queries for a quantile.

        Returns
        -------
        matplotlib.figure.Figure
        """
        figure: Figure = drawn("draw_replay", self, slo_s, quantile, window_s)
        return figure

    def _energy_text(self) -> str | None:
        """What the run took, or why that is not known: all else is told nevertheless."""
        try:
            return None if self.energy is None else self.energy.text
        except InputError as error:
            return f"not known: {error.faults[0].message}"

    def _summary(self) -> Summary:
        applies = "" if self.certificate_applies else "does not cover this run"
        if self.systems and not self.certificate_applies and not self.overruns:
            applies = "does not cover this run: the plan is not certified for its law (replay only)"
        return Summary(
            f"Replay of {self.queries:,} queries over {format_duration(self.span_ns)}",
            figures=(
                ("latency", latencies_text(self, *SHOWN_QUANTILES) if self._is_answered else ""),
                ("mean", format_duration(self.mean_latency_s * NS_PER_S) if self._is_answered else ""),
                ("rent", f"{self.usd:.4g} $, {1_000 * self.usd_per_query:.4g} $ per 1,000 queries"),
                ("energy", self._energy_text()),
                ("manner", manner_text(self)),
                ("system", systems_text(self.systems)),
                ("rejected", "" if not self.queries_rejected else f"{self.queries_rejected:,} queries"),
                ("service", "" if self.service == "as measured" else self.service),
                ("certificate", applies),
                ("overruns", overruns_text(self.overruns, self.queries_lost)),
            ),
            headings=STAGE_HEADINGS,
            rows=(stage_row(name, stage, self.utilisation(name)) for name, stage in self.stages.items()),
            count=len(self.stages),
            what="stages",
        )

    def _line(self) -> str:
        span = f"{self.span_ns / NS_PER_S:.6g} s"
        latencies = latencies_text(self, "P50", "P99", "max") if self._is_answered else "all turned away"
        return f": {self.queries} queries, {span}, {latencies}, {len(self.stages)} stages"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per query: ``ingress_ns`` and ``latency_ns``, which ``pandas.to_timedelta`` understands."""
        import pandas as pd

        columns: dict[str, Int64 | Bool] = {"ingress_ns": self.ingress_ns, "latency_ns": self.latency_ns}
        if self.rejected is not None:
            columns["rejected"] = self.rejected
        return pd.DataFrame(columns, index=pd.RangeIndex(self.queries, name="query"))

    def summary(self, slo_s: float | None = None) -> dict[str, Any]:
        """All figures as a JSON-able dictionary: the *replay figures* of ``docs/json.md``."""
        figures: dict[str, Any] = from_front("replay_report", "mipplan.reporting")(self, slo_s).model_dump()
        return figures

    def to_json(self, slo_s: float | None = None) -> str:
        """Return the summary as JSON text: same replay, same bytes."""
        return json.dumps(self.summary(slo_s), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | Path, slo_s: float | None = None) -> None:
        """Write the summary as a JSON file, whole or not at all.

        Raises
        ------
        InputError
            If the place cannot be written to.
        """
        write_text_atomically(path, self.to_json(slo_s))
