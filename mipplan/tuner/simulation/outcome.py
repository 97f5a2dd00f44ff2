"""What came of policies in closed loop: commands, an exact replay, and figures of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import (
    NS_PER_HOUR,
    NS_PER_S,
    FieldOf,
    Float64,
    Printable,
    Summary,
    drawn,
    format_seconds,
    usd_text,
)
from mipplan.replayer import ReplicaSchedule
from mipplan.result import Plan, ReplayResult, StageReplay, Windows
from mipplan.trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: A run is judged over time by windows of this length.
WINDOW_S = 5.0


@dataclass(frozen=True)
class Action:
    """One change of a replica count; its time is on the trace's axis."""

    at_s: float
    stage: str
    before: int
    after: int


@dataclass(frozen=True)
class WorstWindow:
    """The stretch in which the largest share of queries missed the objective."""

    start_s: float
    window_s: float
    queries: int
    miss_rate: float
    p99_s: float


class StagesOnDemand(Mapping[str, StageReplay]):
    """The stages of a replay, which is done again, exactly, for whoever asks for one.

    Times of tokens and batches take some 80 bytes a query, and a run's own figures need none of them.
    """

    def __init__(self, names: Sequence[str], replayed: Callable[[], ReplayResult]) -> None:
        self._names, self._replayed = tuple(names), replayed

    @cached_property
    def _stages(self) -> Mapping[str, StageReplay]:
        return self._replayed().stages

    def __reduce__(self) -> tuple[type[StagesOnDemand], tuple[Sequence[str], Callable[[], ReplayResult]]]:
        return StagesOnDemand, (self._names, self._replayed)  # what was asked for is too much to send

    def __getitem__(self, stage: str) -> StageReplay:
        return self._stages[stage]

    def __contains__(self, stage: object) -> bool:
        return stage in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False, repr=False)
class TuningRun(Printable):
    """One policy on one trace.

    Attributes
    ----------
    policy : str
        Its name.
    clairvoyant : bool
        Whether it knew the trace beforehand.
    slo_s, quantile : float
        The plan's objective.
    schedules : mapping of str to ReplicaSchedule
        What was commanded, stage by stage.
    result : ReplayResult
        The replay of the trace under these schedules. Its stages are replayed again when they are asked for.
    until_s : float or None
        When the last query came before Ctrl-C ended the run, which is about those up to it only. None: it is complete.
    notes : tuple of str
        What the policy has to say about itself.
    """

    policy: str
    clairvoyant: bool
    slo_s: float
    quantile: float
    schedules: Mapping[str, ReplicaSchedule]
    result: ReplayResult
    until_s: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def misses(self) -> int:
        """Queries slower than the objective."""
        return self.result.misses(self.slo_s)

    @property
    def miss_rate(self) -> float:
        """Share of queries slower than the objective."""
        return self.result.miss_rate(self.slo_s)

    usd = FieldOf[float]("result.usd")
    """Dollars paid between the first ingress and the last exit."""

    @property
    def usd_per_hour(self) -> float:
        """Dollars paid per hour, on average."""
        return self.usd * NS_PER_HOUR / self.result.span_ns

    @property
    def mean_replicas(self) -> dict[str, float]:
        """Replicas told of each stage, on average over the time between the first ingress and the last exit."""
        start_ns, span_ns = int(self.result.ingress_ns[0]), self.result.span_ns
        return {
            stage: made.planned_ns(start_ns, start_ns + span_ns) / span_ns
            for stage, made in self.schedules.items()
        }

    def _summary(self) -> Summary:
        worst = self.worst_window
        when = f"{worst.miss_rate:.0%} missed within {worst.window_s:g} s at {worst.start_s:.4g} s"
        return Summary(
            f"Policy {self.policy} on {self.result.queries:,} queries",
            figures=(
                (
                    "partial",
                    "" if self.until_s is None else f"Ctrl-C came, queries up to {self.until_s:,g} s",
                ),
                ("missed", f"{self.miss_rate:.3%} of queries, objective {format_seconds(self.slo_s)}"),
                (
                    "latency",
                    f"P{100 * self.quantile:g} {format_seconds(self.result.quantile(self.quantile))}",
                ),
                ("cost", f"{usd_text(self.usd_per_hour)} $/h"),
                ("actions", f"{len(self.actions):,}"),
                ("worst", when if worst.miss_rate else None),
                *(("note", note) for note in self.notes),
            ),
            headings=("stage", ">least", ">mean", ">most replicas"),
            rows=(
                (stage, str(made.replicas.min()), f"{made.replicas.mean():.3g}", str(made.replicas.max()))
                for stage, made in self.schedules.items()
            ),
            count=len(self.schedules),
            what="stages",
        )

    def _line(self) -> str:
        return f" {self.policy}: {self.miss_rate:.3%} missed, {usd_text(self.usd_per_hour)} $/h"

    @cached_property
    def actions(self) -> tuple[Action, ...]:
        """Every change of a count, in order of time."""
        found = [
            Action(at_ns / NS_PER_S, stage, before, after)
            for stage, schedule in self.schedules.items()
            for at_ns, (before, after) in zip(
                schedule.change_ns.tolist(), pairwise(schedule.replicas.tolist()), strict=True
            )
        ]
        return tuple(sorted(found, key=lambda action: action.at_s))

    @property
    def schedule(self) -> pd.DataFrame:
        """Counts ordered: ``time_s``, ``stage`` and ``replicas`` at the first query and at every change, by time."""
        import pandas as pd

        start_ns = self.result.ingress_ns[0]
        made = [
            pd.DataFrame(
                {
                    "time_s": np.append(start_ns, one.change_ns) / NS_PER_S,
                    "stage": stage,
                    "replicas": one.replicas,
                }
            )
            for stage, one in self.schedules.items()
        ]
        return pd.concat(made).sort_values("time_s", kind="stable", ignore_index=True)

    @cached_property
    def windows(self) -> Windows:
        """Latencies over time, by ingress, in windows of five seconds."""
        return self.result.windows(WINDOW_S, self.slo_s)

    @property
    def missed_over_time(self) -> Float64:
        """Share of queries slower than the objective, window by window; 0 where none came."""
        assert self.windows.miss_rate is not None  # They were made with an objective.
        return np.nan_to_num(self.windows.miss_rate)

    @property
    def worst_window(self) -> WorstWindow:
        """The first of the windows with the largest miss rate; with the largest P99, if none misses."""
        windows, missed = self.windows, self.missed_over_time
        worst = int(np.argmax(missed if missed.any() else np.nan_to_num(windows.p99_s)))
        return WorstWindow(
            float(windows.start_s[worst]),
            windows.window_s,
            int(windows.queries[worst]),
            float(missed[worst]),
            float(windows.p99_s[worst]),
        )

    @property
    def reaction_s(self) -> float:
        """Longest time, window by window, that the objective was missed at a stretch: until replicas had caught up."""
        broken = (self.missed_over_time > 1.0 - self.quantile + 1e-12).tolist()
        longest = max((len(list(run)) for missed, run in groupby(broken) if missed), default=0)
        return longest * self.windows.window_s


@dataclass(frozen=True, eq=False, repr=False)
class Tuning(Printable):
    """Several policies on one trace."""

    plan: Plan
    sample: Trace
    """The traffic planned for, as policies are told."""
    trace: Trace
    """The traffic that they met."""
    period_s: float
    activation_delay_s: float
    seed: int
    """Of the token draws."""
    discipline: str
    runs: tuple[TuningRun, ...]
    """In the order asked for; after Ctrl-C the last one may be partial."""
    left_out: tuple[str, ...] = ()
    """Policies asked for, but Ctrl-C came first."""

    @property
    def is_partial(self) -> bool:
        """Whether Ctrl-C came before all was done."""
        return bool(self.left_out) or any(run.until_s is not None for run in self.runs)

    def run(self, policy: str) -> TuningRun:
        """Return the run of a policy.

        Raises
        ------
        KeyError
            If it has none.
        """
        return {run.policy: run for run in self.runs}[policy]

    @property
    def schedule(self) -> pd.DataFrame:
        """Counts ordered, policy by policy: `TuningRun.schedule` and a column ``policy``."""
        import pandas as pd

        return pd.concat([run.schedule.assign(policy=run.policy) for run in self.runs], ignore_index=True)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per policy: misses, latency quantile, cost, number of changes."""
        import pandas as pd

        rows = [
            {
                "policy": run.policy,
                "miss_rate": run.miss_rate,
                "latency_s": run.result.quantile(run.quantile),
                "usd_per_hour": run.usd_per_hour,
                "actions": len(run.actions),
                "reaction_s": run.reaction_s,
            }
            for run in self.runs
        ]
        return pd.DataFrame(rows).set_index("policy")

    def plot(self) -> Figure:
        """Draw over time the traffic, and replicas, their cost, the P99 and the misses of each policy.

        Returns
        -------
        matplotlib.figure.Figure
        """
        title = f"{self.plan.pipeline.name} on {self.trace.name}"
        figure: Figure = drawn("draw_tuning", self, title=title)
        return figure

    def _summary(self) -> Summary:
        plan = self.plan
        return Summary(
            f"{len(self.runs)} policies on {self.trace.name}: "
            f"P{100 * plan.quantile:g} ≤ {format_seconds(plan.slo_s)}, planned at {usd_text(plan.usd_per_hour)} $/h",
            figures=(
                ("control", f"every {format_seconds(self.period_s)}"),
                ("replicas", f"serve {format_seconds(self.activation_delay_s)} after their order"),
                ("left out", ", ".join(self.left_out)),
                *(("note", f"{run.policy}: {note}") for run in self.runs for note in run.notes),
            ),
            headings=("policy", ">missed", f">P{100 * plan.quantile:g}", ">$/h", ">actions", ">reaction"),
            rows=(
                (
                    run.policy,
                    f"{run.miss_rate:.3%}",
                    format_seconds(run.result.quantile(run.quantile)),
                    usd_text(run.usd_per_hour),
                    f"{len(run.actions):,}",
                    format_seconds(run.reaction_s) if run.reaction_s else "none",
                )
                for run in self.runs
            ),
            count=len(self.runs),
            what="policies",
        )

    def _line(self) -> str:
        runs = ", ".join(f"{run.policy} {run.miss_rate:.2%} missed" for run in self.runs[:6])
        return f": {self.trace.name}, {runs}"
