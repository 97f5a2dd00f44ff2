"""``mipplan replay --stream``: replay a trace larger than memory, piece by piece."""

from __future__ import annotations

import mipplan as mp
from mipplan.cli.inputs import Gathering, check_beginning, trace_path
from mipplan.cli.replays import ReplayRequest, check_common_flags
from mipplan.cli.session import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NOT_MET, Session
from mipplan.core import Fault, InputError
from mipplan.documents import write_text_atomically
from mipplan.reporting import show_stream, stream_report
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
    check_common_flags(request, gathering)
    plan = gathering.take(lambda: mp.Plan.load(request.plan))
    file = gathering.take(lambda: trace_path(request.trace.file))
    gathering.take(lambda: None if file is None else check_beginning(file))
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
    written = [] if request.out is None else [str(request.out)]
    report = stream_report(plan, str(request.plan), file, result, written)
    if request.out is not None:
        write_text_atomically(request.out, report.model_dump_json(indent=2) + "\n")
    session.show(report, show_stream)
    return _EXITS[result.end]


def _check_flags(request: ReplayRequest) -> None:
    """Refuse what needs the whole trace, or a latency for each query."""
    whole, each = "the trace is never held as a whole", "latencies of single queries are not kept"
    unusable = (
        ("--expand", request.trace.expand, whole),
        ("--from", request.trace.start, whole),
        ("--to", request.trace.end, whole),
        ("--windows", request.windows, each),
        ("--latencies", request.latencies, each),
        ("--plot", request.plot, each),
    )
    faults = [
        Fault(flag, f"does not go with --stream: {reason}")
        for flag, value, reason in unusable
        if value is not None
    ]
    if faults:
        raise InputError(faults)
