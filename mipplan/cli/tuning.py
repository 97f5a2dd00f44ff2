"""``mipplan tune``: policies that follow traffic, in closed loop on a trace."""

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
    read_trace,
)
from mipplan.cli.session import EXIT_DONE, EXIT_INTERRUPTED, Session
from mipplan.documents import write_text_atomically
from mipplan.replayer import check_manner
from mipplan.reporting import replay_figures, show_tuning, tune_report, tuning_figures
from mipplan.tuner import check_delay, check_period, read_policies


@dataclass(frozen=True)
class TuneRequest:
    """The flags of ``mipplan tune``."""

    plan: Path
    trace: TraceRequest
    policies: str
    sample: str | None
    split: float | None
    period: str
    activation_delay: str
    discipline: str
    engine: str
    seed: int | None
    out: Path | None
    plot: Path | None


def run_tune(session: Session, request: TuneRequest) -> int:
    """Run, draw, write, show; exit code 130 for what Ctrl-C left."""
    gathering = Gathering()
    names = [name.strip() for name in request.policies.split(",")]
    gathering.take(lambda: check_manner(request.discipline, request.engine, request.seed))
    gathering.take(lambda: read_policies(names))
    gathering.take(lambda: _check_sample(request))
    period_s = gathering.take(lambda: optional_seconds("--period", request.period))
    delay_s = gathering.take(lambda: optional_seconds("--activation-delay", request.activation_delay))
    gathering.take(lambda: check_out("--out", request.out))
    gathering.take(lambda: check_out("--plot", request.plot, replay_figures.FIGURE_FILES))
    gathering.take(lambda: _check_files_apart(request))
    gathering.take(lambda: None if period_s is None else check_period(period_s))
    gathering.take(lambda: None if delay_s is None else check_delay(delay_s))
    sample = gathering.take(lambda: _read_sample(request))
    plan, trace = read_plan_and_trace(request.plan, request.trace, gathering)
    if period_s is None or delay_s is None:
        raise AssertionError("faults were reported")
    with session.progress() as progress:
        tuning = mp.tune(
            plan,
            trace,
            policies=names,
            sample=sample,
            **({} if request.split is None else {"split": request.split}),
            period_s=period_s,
            activation_delay_s=delay_s,
            discipline=request.discipline,
            engine=request.engine,
            seed=request.seed,
            progress=progress,
        )
        written = [str(path) for path in (request.out, request.plot) if path is not None]
        report = tune_report(tuning, str(request.plan), written)
        if request.plot is not None:
            progress(f"drawing {request.plot}")
            figure = tuning_figures.draw_tuning(tuning, title=f"{plan.pipeline.name} on {trace.name}")
            replay_figures.write_figure(request.plot, figure)
        if request.out is not None:
            write_text_atomically(request.out, report.model_dump_json(indent=2) + "\n")
    session.show(report, show_tuning)
    return EXIT_INTERRUPTED if tuning.left_out else EXIT_DONE


def _check_files_apart(request: TuneRequest) -> None:
    check_apart(
        {"plan": request.plan, "trace": request.trace.file, "sample": request.sample},
        {"--out": request.out, "--plot": request.plot},
    )


def _check_sample(request: TuneRequest) -> None:
    if request.sample is not None and request.split is not None:
        message = "does not go with --sample: then the whole trace is run"
        raise mp.InputError.one("--split", message)


def _read_sample(request: TuneRequest) -> mp.Trace | None:
    """Read the trace planned for, expanded like the other one."""
    if request.sample is None:
        return None
    asked = TraceRequest(request.sample, request.trace.expand, request.seed, None, None)
    return read_trace(asked)
