"""``mipplan compare``: several planners on one problem, judged on traffic that they did not see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mipplan as mp
from mipplan.cli.inputs import (
    Gathering,
    TraceRequest,
    check_out,
    optional_seconds,
    read_profiles,
    read_trace,
    shipped_path,
)
from mipplan.cli.session import EXIT_DONE, EXIT_INTERRUPTED, Session
from mipplan.comparison import Contender, check_rules
from mipplan.reporting import comparison_figures, comparison_report, replay_figures, show_comparison


@dataclass(frozen=True)
class CompareRequest:
    """The flags of ``mipplan compare``."""

    pipeline: str
    trace: TraceRequest
    slo: str | None
    profiles: Path | None
    quantile: float
    split: float
    planners: str | None
    discipline: str
    time_limit: str
    seed: int
    plot: Path | None


def run_compare(session: Session, request: CompareRequest) -> int:
    """Compare, draw, show; exit code 130 for what Ctrl-C left."""
    gathering = Gathering()
    slo_s = gathering.take(lambda: optional_seconds("--slo", request.slo))
    time_limit_s = gathering.take(lambda: optional_seconds("--time-limit", request.time_limit))
    pipeline = gathering.take(
        lambda: mp.Pipeline.read(shipped_path("pipelines", request.pipeline, (".yaml",)))
    )
    profiles = gathering.take(lambda: read_profiles(request.profiles))
    trace = gathering.take(lambda: read_trace(request.trace))
    planners = _names(request.planners)
    gathering.take(
        lambda: check_rules(
            quantile=request.quantile,
            split=request.split,
            discipline=request.discipline,
            planners=planners,
            seed=request.seed,
            seeds=None,
            time_limit_s=time_limit_s,
        )
    )
    gathering.take(lambda: check_out("--plot", request.plot, replay_figures.FIGURE_FILES))
    gathering.check()
    if pipeline is None or profiles is None or trace is None:
        raise AssertionError("faults were reported")
    with session.progress() as progress:
        comparison = mp.compare(
            pipeline,
            profiles,
            trace,
            slo_s=slo_s,
            quantile=request.quantile,
            split=request.split,
            discipline=request.discipline,
            planners=planners,
            seed=request.seed,
            time_limit_s=time_limit_s,
            progress=progress,
        )
        written = [] if request.plot is None else [str(request.plot)]
        report = comparison_report(pipeline, comparison, written)
        if request.plot is not None:
            progress(f"drawing {request.plot}")
            replay_figures.write_figure(request.plot, comparison_figures.draw_comparison(report))
    session.show(report, show_comparison)
    return EXIT_INTERRUPTED if comparison.left_out else EXIT_DONE


def _names(planners: str | None) -> list[str]:
    if planners is None:
        return list(Contender)
    return [name.strip() for name in planners.split(",")]
