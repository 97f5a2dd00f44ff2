"""One run of a command: where its output goes, and which exit code its errors mean.

0 done, 1 infeasible or not verified, 2 bad input, 3 no working solver or nothing found within the limit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from mipplan.errors import Fault, InputError, NoPlanError, SolverError
from mipplan.reporting.summaries import error_report

EXIT_DONE = 0
EXIT_NOT_MET = 1
EXIT_BAD_INPUT = 2
EXIT_NO_ANSWER = 3
EXIT_INTERRUPTED = 130

DocumentT = TypeVar("DocumentT", bound=BaseModel)
#: How library arguments are called on the command line.
_FLAGS = {
    name: f"--{name.removesuffix('_s').replace('_', '-')}"
    for name in (
        *("slo_s", "quantile", "headroom", "margin_s", "guarantee", "envelope", "seed", "formulation"),
        *("solver", "time_limit_s", "discipline", "engine", "split", "planners"),
        *("period_s", "activation_delay_s", "sample"),
        *("method", "gap", "checkpoint", "budget"),
    )
} | {
    "start_s": "--from",
    "end_s": "--to",
    "window": "--from, --to",
    "budget_usd_per_hour": "--budget",
    "window_s": "--windows",
    "policies": "--policy",
}
#: Width of tables that go to a file or pipe, where there is no window to fit.
_PIPE_WIDTH = 140


class Session:
    """Output of one command: its document on stdout, as JSON or for people; progress and errors on stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, report: DocumentT, render: Callable[[Console, DocumentT], None]) -> None:
        """Print a document."""
        if self.as_json:
            typer.echo(report.model_dump_json(indent=2))
        else:
            render(_console(sys.stdout), report)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Show one changing line on stderr while the work goes on; nothing where stderr is no terminal."""
        console = _console(sys.stderr)
        with console.status("starting") as status:
            yield lambda line: status.update(escape(line))

    def fail(
        self,
        kind: Literal["input", "solver", "no_plan", "interrupted"],
        message: str,
        faults: tuple[Fault, ...] = (),
    ) -> None:
        """Say on stderr what went wrong, and with ``--json`` on stdout too."""
        lines = [f"mipplan: {message}{':' if faults else ''}", *(f"  {fault}" for fault in faults)]
        typer.echo("\n".join(lines), err=True)
        if self.as_json:
            typer.echo(error_report(kind, message, faults).model_dump_json(indent=2))


def run(as_json: bool, command: Callable[[Session], int]) -> None:
    """Run a command and leave the process with its exit code."""
    session = Session(as_json)
    sys.exit(_exit_code(session, command))


def _exit_code(session: Session, command: Callable[[Session], int]) -> int:
    try:
        return command(session)
    except InputError as error:
        faults = tuple(Fault(_FLAGS.get(f.place, f.place), f.message) for f in error.faults)
        session.fail("input", f"the input has {len(faults)} fault{'s' if len(faults) > 1 else ''}", faults)
        return EXIT_BAD_INPUT
    except SolverError as error:
        session.fail("solver", str(error))
        return EXIT_NO_ANSWER
    except NoPlanError as error:
        session.fail("no_plan", str(error))
        return EXIT_NOT_MET
    except KeyboardInterrupt:
        session.fail("interrupted", "interrupted")
        return EXIT_INTERRUPTED


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)
