"""One run of a command: where its output goes, and which exit code its errors mean.

0 done, 1 infeasible or not verified, 2 bad input or no room for the output, 3 no working solver or nothing found within
the limit. As for any program 130 after Ctrl-C, and 141 if whoever reads the output stops doing so (``| head``).
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from mipplan.core import Fault, InputError, NoPlanError, SolverError
from mipplan.reporting import error_report

EXIT_DONE = 0
EXIT_NOT_MET = 1
EXIT_BAD_INPUT = 2
EXIT_NO_ANSWER = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141

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
#: How signs are written where the terminal's encoding lacks them; others become a question mark.
_PLAIN = {
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "…": "...",
    "×": "x",
    "·": "*",
    "−": "-",
    "–": "-",
    "µ": "u",
    "∞": "inf",
}
#: Width of tables that go to a file or pipe, where there is no window to fit.
_PIPE_WIDTH = 140


class _OutputError(Exception):
    """What was to be printed could not be."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Session:
    """Output of one command: its document on stdout, as JSON or for people; progress and errors on stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, report: DocumentT, render: Callable[[Console, DocumentT], None]) -> None:
        """Print a document."""
        try:
            if self.as_json:
                _echo_json(report)
            else:
                render(_console(sys.stdout), report)
            if sys.stdout is not None:
                sys.stdout.flush()  # what goes wrong shows here rather than after the exit code is chosen
        except OSError as error:
            raise _OutputError(error) from error

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
        with contextlib.suppress(OSError):  # nobody listens: the exit code still says it
            typer.echo("\n".join(lines), err=True)
        if self.as_json:
            with contextlib.suppress(OSError):
                _echo_json(error_report(kind, message, faults))


def run(as_json: bool, command: Callable[[Session], int]) -> None:
    """Run a command and leave the process with its exit code."""
    codecs.register_error("mipplan_plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _holds_all(stream):
            stream.reconfigure(errors="mipplan_plain")
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
    except _OutputError as lost:
        _leave_stdout()
        if isinstance(lost.error, BrokenPipeError):
            return EXIT_UNREAD
        Session(as_json=False).fail("input", f"the output cannot be written: {lost.error.strerror}")
        return EXIT_BAD_INPUT


def _leave_stdout() -> None:
    """Lead what is still buffered to nowhere, or Python complains once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _echo_json(report: BaseModel) -> None:
    text = report.model_dump_json(indent=2)
    if sys.stdout is not None and not _holds_all(sys.stdout) and not text.isascii():
        text = json.dumps(json.loads(text), indent=2)  # escapes instead of signs
    typer.echo(text)


def _holds_all(stream: TextIO) -> bool:
    """Whether every sign can be written."""
    return (stream.encoding or "utf-8").lower().startswith("utf")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Write signs that an encoding lacks in others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "?") for sign in signs), error.end


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `_exit_code`: the exit code 1 that rich would choose means something else here."""
        raise BrokenPipeError


def _console(stream: TextIO | None) -> Console:
    if stream is None:  # closed before the start
        return Console(file=io.StringIO())
    return _Console(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)
