"""The replay command: replay a plan file, write what was asked for, show the figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mipplan as mp
from mipplan.cli.inputs import (
    Gathering,
    TraceRequest,
    check_apart,
    check_out,
    optional_seconds,
    read_plan_and_trace,
)
from mipplan.cli.session import EXIT_DONE, Session
from mipplan.documents import write_text_atomically
from mipplan.replayer import check_manner
from mipplan.reporting import LATENCY_FILES, replay_figures, summaries, terminal, write_latencies
from mipplan.result import check_window, check_windows


@dataclass(frozen=True)
class ReplayRequest:
    """The flags of ``mipplan replay``."""

    plan: Path
    trace: TraceRequest
    discipline: str
    engine: str
    seed: int | None
    windows: str | None
    out: Path | None
    latencies: Path | None
    plot: Path | None


def run_replay(session: Session, request: ReplayRequest) -> int:
    """Replay, write, show."""
    gathering = Gathering()
    check_common_flags(request, gathering)
    window_s = gathering.take(lambda: optional_seconds("--windows", request.windows))
    gathering.take(lambda: None if window_s is None else check_window(window_s))
    gathering.take(lambda: check_out("--latencies", request.latencies, LATENCY_FILES))
    gathering.take(lambda: check_out("--plot", request.plot, replay_figures.FIGURE_FILES))
    plan, trace = read_plan_and_trace(request.plan, request.trace, gathering)
    if window_s is not None:
        check_windows(trace.arrival_ns, window_s)
    with session.progress() as progress:
        progress(f"replaying {len(trace):,} queries")
        result = mp.replay(
            plan, trace, discipline=request.discipline, engine=request.engine, seed=request.seed
        )
        windows = None if window_s is None else result.windows(window_s, plan.slo_s)
        progress("computing quantiles and their intervals")
        report = summaries.replay_command_report(
            plan, str(request.plan), trace, result, windows, _outputs(request)
        )
        if request.latencies is not None:
            progress(f"writing {request.latencies}")
            write_latencies(request.latencies, result)
        if request.plot is not None:
            progress(f"drawing {request.plot}")
            figure = replay_figures.draw_replay(result, plan.slo_s, plan.quantile, window_s, title=trace.name)
            replay_figures.write_figure(request.plot, figure)
        if request.out is not None:
            write_text_atomically(request.out, report.model_dump_json(indent=2) + "\n")
    session.show(report, terminal.show_replay)
    return EXIT_DONE


def check_common_flags(request: ReplayRequest, gathering: Gathering) -> None:
    """Check what replays of both kinds are given."""
    gathering.take(lambda: check_manner(request.discipline, request.engine, request.seed))
    gathering.take(lambda: check_out("--out", request.out))
    outputs = {"--out": request.out, "--latencies": request.latencies, "--plot": request.plot}
    gathering.take(lambda: check_apart({"plan": request.plan, "trace": request.trace.file}, outputs))


def _outputs(request: ReplayRequest) -> list[str]:
    asked = (request.out, request.latencies, request.plot)
    return [str(path) for path in asked if path is not None]
