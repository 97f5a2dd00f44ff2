"""Pictures of a replay by stage: where a slow query spent its time, and who waited where over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mipplan.certificate import last_way
from mipplan.core import NS_PER_S, Float64, InputError, Int64, format_duration, shown
from mipplan.perturbation import of_a_run
from mipplan.pipeline import Discipline
from mipplan.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SMALLEST,
    colours_of,
    figure_of,
    folded,
    legend_below,
    new_axes,
    new_figure,
    open_frames,
    short_names,
    unit_for,
)
from mipplan.result import Plan, ReplayResult, StageReplay
from mipplan.tokens import realise
from mipplan.trace import Trace, date_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A panel over time has this many steps.
_STEPS = 100
#: Legends and headings have one row beside names of as many letters at most.
_LETTERS_BESIDE_LEGEND = 12
#: The width of one of the smallest letters; words take at most such a share of the width.
_LETTER_INCHES, _MOST_WORDS = 0.05, 0.6


@dataclass(frozen=True)
class StageStay:
    """What a query's last token did at one stage, ns: came, was taken into a batch, was done, was sent on."""

    stage: str
    delay_ns: int
    arrival_ns: int
    dispatch_ns: int
    exit_ns: int
    sent_ns: int
    batch: int


def slowest_stays(plan: Plan, trace: Trace, result: ReplayResult, query: int) -> tuple[StageStay, ...]:
    """Follow the token of a query that was done last back to its source; at joins along what came last.

    Parameters
    ----------
    query : int
        Of ``range(result.queries)``, in order of ingress.

    Returns
    -------
    tuple of StageStay
        From the source to the last exit; the times between them add up to the latency.

    Raises
    ------
    InputError
        If there is no such query, or the replay is of another trace.
    """
    if result.queries != len(trace):
        raise InputError.one("trace", f"has {len(trace):,} queries, {result.queries:,} were replayed")
    if not 0 <= query < result.queries:
        raise InputError.one("query", f"expected 0 to {result.queries - 1}, found {shown(query)}")
    workload = realise(plan.pipeline, trace, result.seed)
    is_fifo = result.discipline == Discipline.FIFO
    exits = {stage: replay.exit_ns for stage, replay in result.stages.items()}
    sent = {
        stage: replay.assignment.sent_ns(result.staggers_ns.get(stage, 0), fifo=is_fifo)
        for stage, replay in result.stages.items()
    }
    stays = []
    for stage, token, arrival_ns, left_ns, edge in last_way(workload, exits, query, sent):
        replay = result.stages[stage]
        sizes = replay.assignment.per_token(replay.batch_size)
        stays.append(
            StageStay(
                stage,
                0 if edge is None else edge.delay_ns,
                arrival_ns,
                int(replay.dispatch_ns[token]),
                int(exits[stage][token]),
                left_ns,
                int(sizes[token]),
            )
        )
    return tuple(reversed(stays))


def query_at_quantile(plan: Plan, result: ReplayResult) -> int:
    """Return the first query, by order of ingress, whose latency is the figure of the plan's objective."""
    answered = result.answered(np.arange(result.queries, dtype=np.int64))
    asked = of_a_run(plan.objective).criterion(result.ingress_ns[answered])
    return int(answered[asked.query_at(result.latency_ns[answered])])


def draw_waterfall(
    plan: Plan, trace: Trace, result: ReplayResult, query: int | None = None, *, axes: Axes | None = None
) -> Axes:
    """Draw where one query spent its time: waiting, in service, on its way, stage by stage.

    Parameters
    ----------
    plan, trace, result
        The replay of this plan on this trace.
    query : int, optional
        In order of ingress; by default the one at the quantile of the plan's objective.
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.

    Raises
    ------
    InputError
        If there is no such query, or the replay is of another trace.
    """
    query = query_at_quantile(plan, result) if query is None else query
    return draw_stays(slowest_stays(plan, trace, result, query), plan.slo_ns, query, axes=axes)


def draw_stays(stays: Sequence[StageStay], slo_ns: int, query: int, *, axes: Axes | None = None) -> Axes:
    """Draw what `slowest_stays` found of a query, beside an objective in nanoseconds; see `draw_waterfall`."""
    begin_ns, latency_ns = stays[0].arrival_ns, stays[-1].exit_ns - stays[0].arrival_ns
    axes = new_axes(1.1 + 0.4 * len(stays)) if axes is None else axes
    unit, scale = unit_for(max(latency_ns, slo_ns) / NS_PER_S)
    axes.set_xlim(0.0, 1.06 * max(latency_ns, slo_ns) * scale)
    axes.set_yticks(range(len(stays)), list(short_names(stay.stage for stay in stays).values()), fontsize=8.5)
    for row, stay in enumerate(stays):
        _draw_stay(axes, row, stay, begin_ns, scale, unit)
    axes.axvline(slo_ns * scale, color=RED, linestyle=(0, (6, 2)), linewidth=1.2)
    for label, colour, hatch in (
        ("waits", "white", "////"),
        ("in service", BLUE, None),
        ("on its way", ORANGE, None),
    ):
        axes.barh(0, 0, color=colour, edgecolor=BLUE if hatch else colour, hatch=hatch, label=label)
    axes.plot([], [], color=RED, linestyle=(0, (6, 2)), label=f"objective: {slo_ns * scale:g} {unit}")
    axes.set_ylim(len(stays) - 0.4, -0.6)
    axes.set_xlabel(f"since ingress ({unit})")
    axes.set_title(f"query {query:,}: {format_duration(latency_ns)}", fontsize=9.5, loc="left")
    # Beside longer names all four would be cut at the edge of the figure.
    legend_below(axes, ncols=4 if max(len(stay.stage) for stay in stays) <= _LETTERS_BESIDE_LEGEND else 2)
    open_frames([axes])
    return axes


def _draw_stay(axes: Axes, row: int, stay: StageStay, begin_ns: int, scale: float, unit: str) -> None:
    def bar(from_ns: int, until_ns: int, colour: str, hatch: str | None = None) -> None:
        if until_ns > from_ns:
            left, width = (from_ns - begin_ns) * scale, (until_ns - from_ns) * scale
            edge = BLUE if hatch else colour
            axes.barh(
                row, width, left=left, height=0.6, color=colour, edgecolor=edge, hatch=hatch, linewidth=0.6
            )

    bar(stay.arrival_ns - stay.delay_ns, stay.arrival_ns, ORANGE)
    bar(stay.arrival_ns, stay.dispatch_ns, "white", "////")
    bar(stay.dispatch_ns, stay.exit_ns, BLUE)
    bar(stay.exit_ns, stay.sent_ns, ORANGE)
    waited, served = (
        (end - start) * scale
        for start, end in ((stay.arrival_ns, stay.dispatch_ns), (stay.dispatch_ns, stay.exit_ns))
    )
    words = f" {waited:.3g} + {served:.3g} {unit}, batch of {stay.batch} "
    first, last = ((at_ns - begin_ns) * scale for at_ns in (stay.arrival_ns - stay.delay_ns, stay.sent_ns))
    # On the side where there is more room; where there is none on either, room is made behind.
    needed, end = words_width(axes, words), axes.get_xlim()[1]
    before = first > end - last and first > needed * end
    if not before:
        axes.set_xlim(0.0, max(end, last / (1.0 - needed)))
    axes.text(
        first if before else last,
        row,
        words,
        ha="right" if before else "left",
        va="center",
        fontsize=SMALLEST,
    )


def words_width(axes: Axes, words: str) -> float:
    """Return about which share of the width of axes words in the smallest letters take, beside names of stages."""
    names = max(len(label.get_text()) for label in axes.get_yticklabels())
    inches = figure_of(axes).get_figwidth() * axes.get_position().width - _LETTER_INCHES * max(0, names - 6)
    return min(_MOST_WORDS, _LETTER_INCHES * len(words) / max(inches, _LETTER_INCHES))


def draw_queues(plan: Plan, result: ReplayResult, *, zero_ns: int | None = None) -> Figure:
    """Draw over time, a row for each stage: tokens that wait, the share of replicas that is busy, and time spent there.

    Parameters
    ----------
    plan : Plan
    result : ReplayResult
    zero_ns : int or None
        When time 0 of the trace was, ns since 1970, if it has dates.

    Returns
    -------
    matplotlib.figure.Figure
        Averages over equal steps between the first ingress and the last exit; of times, over tokens by their arrival.
    """
    stages = list(result.stages)
    figure = new_figure(0.9 + 0.75 * len(stages))
    # Shared by matplotlib, axes look at all others at each change: of a hundred stages that took a minute and more.
    panels = figure.subplots(len(stages), 3, squeeze=False)
    begin_ns = int(result.ingress_ns[0])
    edges_ns = np.unique(
        np.linspace(begin_ns, begin_ns + max(result.span_ns, _STEPS), _STEPS + 1).astype(np.int64)
    )
    edges_s = (edges_ns - begin_ns) / NS_PER_S
    beside_s = 0.05 * (edges_s[-1] - edges_s[0])
    colours, names = colours_of(stages), short_names(stages)
    unit, scale = unit_for(plan.slo_s)
    for row, (stage, replay) in zip(panels, result.stages.items(), strict=True):
        shares = 100.0 * replay.busy_replicas.means(edges_ns) / max(1, replay.replicas)
        spent = _mean_time_ns(replay, edges_ns) * scale
        for axes, means in zip(row, (replay.queue_length.means(edges_ns), shares, spent), strict=True):
            axes.stairs(means, edges_s, fill=True, color=colours[stage], alpha=0.35)
            axes.stairs(means, edges_s, baseline=None, color=colours[stage], linewidth=0.8)
            axes.set_ylim(bottom=0.0)
            axes.set_xlim(edges_s[0] - beside_s, edges_s[-1] + beside_s)
            axes.tick_params(labelsize=SMALLEST, labelbottom=stage == stages[-1])
        row[0].set_ylabel(names[stage], rotation=0, ha="right", va="center", fontsize=8)
        row[1].set_ylim(0.0, 105.0)
        row[1].axhline(100.0, color=GREY, linewidth=0.8, linestyle=":")
    # Beside long names the panels are so narrow that headings in one line would be written over each other.
    end = " " if max(map(len, stages)) <= _LETTERS_BESIDE_LEGEND else "\n"
    for axes, title in zip(
        panels[0], (f"tokens{end}waiting", f"replicas{end}busy (%)", f"time{end}there ({unit})"), strict=True
    ):
        axes.set_title(title, fontsize=8, loc="left")
    step = format_duration(int(edges_ns[1] - edges_ns[0]))
    first_ns = None if zero_ns is None else (zero_ns + begin_ns) // NS_PER_S * NS_PER_S
    at = "" if first_ns is None else f" at {date_text(first_ns).replace('T', ' ')} UTC"
    figure.supxlabel(f"since the first query{at} (s); means over {step}", fontsize=8)
    figure.suptitle(folded(f"{plan.pipeline.name}: {result.queries:,} queries"), fontsize=9.5)
    open_frames(panels.ravel())
    return figure


def _mean_time_ns(replay: StageReplay, edges_ns: Int64) -> Float64:
    """Mean time from arrival to exit of the tokens that come in each step; NaN where none does."""
    steps = np.searchsorted(edges_ns, replay.arrival_ns, side="right") - 1
    steps = np.clip(steps, 0, edges_ns.size - 2)
    spent, count = (
        np.bincount(steps, weights=weights, minlength=edges_ns.size - 1)
        for weights in (replay.exit_ns - replay.arrival_ns, None)
    )
    means: Float64 = np.divide(spent, count, out=np.full(spent.size, np.nan), where=count > 0)
    return means
