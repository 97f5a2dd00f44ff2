"""``mipplan replay --stream``: replay a trace larger than memory, piece by piece."""

from __future__ import annotations

import mipplan as mp
from mipplan.cli.inputs import Gathering, check_out, shipped_path
from mipplan.cli.replays import ReplayRequest
from mipplan.cli.session import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NOT_MET, Session
from mipplan.errors import Fault, InputError
from mipplan.files import write_text_atomically
from mipplan.reporting.streams import show_stream, stream_report
from mipplan.result import StreamEnd

_EXITS = {
    StreamEnd.COMPLETE: EXIT_DONE,
    StreamEnd.OVERLOADED: EXIT_NOT_MET,
    StreamEnd.INTERRUPTED: EXIT_INTERRUPTED,
}


def run_stream(session: Session, request: ReplayRequest) -> int:
    """Replay, show; exit code 130 for what Ctrl-C left, 1 if the plan does not keep up."""
    gathering = Gathering()
    gathering.take(lambda: _check_flags(request))
    gathering.take(lambda: check_out("--out", request.out))
    plan = gathering.take(lambda: mp.Plan.load(request.plan))
    file = gathering.take(lambda: shipped_path("traces", request.trace.file, (".csv.gz", ".csv")))
    gathering.check()
    if plan is None or file is None:
        raise AssertionError("faults were reported")
    with session.progress() as progress:
        result = mp.replay_stream(
            plan,
            file,
            discipline=request.discipline,
            engine=request.engine,
            seed=request.seed,
            progress=progress,
        )
    report = stream_report(plan, str(request.plan), file, result)
    if request.out is not None:
        write_text_atomically(request.out, report.model_dump_json(indent=2) + "\n")
    session.show(report, show_stream)
    return _EXITS[result.end]


def _check_flags(request: ReplayRequest) -> None:
    """Refuse what needs the whole trace, or a latency for each query."""
    unusable = {
        "--expand": request.trace.expand,
        "--from": request.trace.start,
        "--to": request.trace.end,
        "--windows": request.windows,
        "--latencies": request.latencies,
        "--plot": request.plot,
    }
    faults = [
        Fault(flag, "does not go with --stream") for flag, value in unusable.items() if value is not None
    ]
    if faults:
        raise InputError(faults)
