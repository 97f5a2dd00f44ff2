"""One run of a command: where its output goes, and which exit code its errors mean.

0 done, 1 infeasible or not verified, 2 bad input or no room for the output, 3 no working solver, too little memory or
nothing found within the limit. As for any program 130 after Ctrl-C, 141 if whoever reads the output stops (``| head``).
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO, TypeVar

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli.config import key_of, source_of
from mipplan.core import NS_PER_S, Fault, InputError, NoPlanError, SolverError
from mipplan.documents import write_text_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

EXIT_DONE = 0
EXIT_NOT_MET = 1
EXIT_BAD_INPUT = 2
EXIT_NO_ANSWER = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141

DocumentT = TypeVar("DocumentT", bound="reporting.Report")
#: What is wrong in a file is told with the file, not with the option that names it.
_FILES = ("trace", "profiles")
#: Arguments whose entries are given one by one with a flag, which is called otherwise; with a dot, those with names.
_LISTED = {
    "logs": "--log",
    "inputs": "--inputs",
    "names.": "--name",
    "limits.": "--limit",
    "headers.": "--header",
    "urls.": "--endpoint",
    "workers.": "--endpoint",
    "repeats": "--once",
}
#: Where the terminal's encoding lacks these signs they are written like this; others become a question mark.
_SIGNS = "≤≥→…×·−–µ∞"
_PLAIN = dict(zip(_SIGNS, ("<=", ">=", "->", "...", "x", "*", "-", "-", "u", "inf"), strict=True))
#: What goes to a file or pipe is not wrapped, since there is no window to fit: so wide is no table.
_UNWRAPPED = 100_000


class _OutputError(OSError):
    """What was to be printed could not be."""


@contextmanager
def _output() -> Iterator[None]:
    """Print on stdout: what goes wrong shows here rather than after the exit code is chosen."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise _OutputError(*error.args) from error


class Session:
    """One run of a command; leaving it ends the process with its exit code, or that of what went wrong.

    Output: the command's document on stdout, as JSON or for people; progress and errors on stderr.
    """

    def __init__(self, context: typer.Context, as_json: bool) -> None:
        self.as_json = as_json
        self.exit_code, self._interrupts = EXIT_DONE, list[int]()
        self._unwritten, self._lost = list[Fault](), list[str]()
        self._options, self._limit = _options(context), context.params.get("time_limit")

    def __enter__(self) -> Self:
        codecs.register_error("mipplan_plain", _plainly)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and not _holds_all(stream):
                stream.reconfigure(errors="mipplan_plain")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None and self._unwritten:
            self.as_json = False  # stdout has its one document
            error = InputError(self._unwritten)
        code = self.exit_code if error is None else self._failed(error)
        if code is not None:
            sys.exit(code)

    def show(
        self, report: DocumentT, render: Callable[[Console, DocumentT], None], out: Path | None = None
    ) -> None:
        """Print a document, and write it as ``--json`` prints it."""
        report = self._as_written(report)
        self.save(lambda path: write_text_atomically(path, reporting.json_text(report) + "\n"), out)
        report = self._as_written(report)
        with _output():
            if self.as_json:
                _echo_json(report)
            else:
                self._render(_console(sys.stdout), report, render)

    @staticmethod
    def say(*lines: str) -> None:
        """Print lines as they come, where there is no document to be shown at the end."""
        with _output():
            for line in lines:
                typer.echo(line)

    def save(
        self, write: Callable[[Path], object], out: Path | None, progress: Callable[[str], None] | None = None
    ) -> Path | None:
        """Write a file if it was asked for, and return it; if it cannot be, that is told behind what was found."""
        try:
            if out is not None:
                if progress is not None:
                    progress(f"writing {out}")
                write(out)
        except InputError as error:
            self._unwritten.extend(error.faults)
            self._lost.append(str(out))
            return None
        return out

    def draw(
        self, figure: Callable[[], Figure], out: Path | None, progress: Callable[[str], None]
    ) -> Path | None:
        """Draw a figure if it was asked for, and write it as `save` does."""
        return self.save(lambda file: plots.write_figure(file, figure()), out, progress)

    def _as_written(self, report: DocumentT) -> DocumentT:
        """Return a document that names none of the files that could not be written."""
        names: list[str] = getattr(report, "written", [])
        kept = [name for name in names if name not in self._lost]
        return report if kept == names else report.model_copy(update={"written": kept})

    def answer(self, *, is_found: bool, is_proven: bool) -> None:
        """Choose the exit code by whether anything was found, else by whether it is proven that there is nothing."""
        self.exit_code = EXIT_DONE if is_found else EXIT_NOT_MET if is_proven else EXIT_NO_ANSWER

    @property
    def was_interrupted(self) -> bool:
        """Whether Ctrl-C came while progress was shown."""
        return bool(self._interrupts)

    def answer_in_part(self) -> None:
        """Say by the exit code that Ctrl-C came while progress was shown, if it did: what is shown is not all."""
        if self.was_interrupted:
            self.exit_code = EXIT_INTERRUPTED

    @staticmethod
    def _render(console: Console, report: DocumentT, render: Callable[[Console, DocumentT], None]) -> None:
        """Print for people; lines that are not wrapped without the blanks that would fill a table's last column."""
        if console.width < _UNWRAPPED:
            render(console, report)
            return
        with console.capture() as captured:
            render(console, report)
        lines = captured.get().splitlines()
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))

    @contextmanager
    def progress(self, *, as_log: bool = False, whole: bool = True) -> Iterator[Callable[[str], None]]:
        """Show on stderr what is going on, and how much of the time limit is gone, if it is one of the whole.

        On a terminal that is one changing line; elsewhere one every two seconds at most, or with `as_log` one for each
        step.
        """
        from mipplan.core import interrupts_seen, terminations_heard

        pace = Pace(self._limit if whole else None)
        with interrupts_seen() as self._interrupts, terminations_heard(self._interrupts):
            if sys.stderr is None or not sys.stderr.isatty():
                yield _echo_progress if as_log else pace.log
                return
            with _console(sys.stderr).status(pace):
                yield partial(setattr, pace, "line")

    def _failed(self, error: BaseException) -> int | None:
        """Say what went wrong and return the exit code for it; None for a defect of ours."""
        if isinstance(error, InputError):
            faults = tuple(Fault(self._flag_of(f.place), f.message) for f in error.faults)
            self._complain("input", f"the input has {len(faults)} fault{'s' * (len(faults) > 1)}", faults)
            return EXIT_BAD_INPUT
        if isinstance(error, SolverError | MemoryError):
            told = str(error) if isinstance(error, SolverError) else f"memory is short: {error}"
            self._complain("solver", told)
            return EXIT_NO_ANSWER
        if isinstance(error, NoPlanError):
            self._complain("no_plan", str(error))
            return EXIT_NO_ANSWER if str(error).startswith(f"{mp.PlanStatus.UNKNOWN}: ") else EXIT_NOT_MET
        if isinstance(error, KeyboardInterrupt):
            self._complain("interrupted", "interrupted")
            return EXIT_INTERRUPTED
        if isinstance(error, _OutputError):
            _leave_stdout()
            if isinstance(error.__cause__, BrokenPipeError):
                return EXIT_UNREAD
            self.as_json = False
            self._complain("input", f"the output cannot be written: {error.strerror}")
            return EXIT_BAD_INPUT
        return None

    def _flag_of(self, place: str) -> str:
        """What was given where the library finds a fault: a flag, perhaps with the name of an entry, or the place."""
        head, dot, entry = place.partition(".")
        group = self._options.get(f"{head}.") if dot and entry else None
        return self._options.get(place, place if group is None else f"{group} {entry}")

    def _complain(
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
                _echo_json(reporting.ErrorReport(error=kind, message=message, faults=list(faults)))


def _options(context: typer.Context) -> dict[str, str]:
    """Options of a command by what the library calls these arguments: the same, with a unit where they have one.

    What a configuration file says of an option is told as its key there: nobody typed the option.
    """
    flags, keys, known = dict[str, str](), dict[str, str](), set[str]()
    for option in context.command.params:
        if option.param_type_name == "option" and option.name is not None:
            flag = option.opts[0]
            known.add(flag)
            if source_of(context, option.name) == "DEFAULT_MAP":
                keys[flag] = key_of(context, flag)
            if option.name not in _FILES:
                flags[option.name] = keys.get(flag, flag)
    priced = {f"energy.{name}": flag for name, flag in flags.items()}
    others = {
        "budget_usd_per_hour": "--budget",
        "energy.max_power_w": "--max-power",
        "weights.accuracy": "--alpha",
        "weights.cost": "--beta",
        "weights.batch": "--delta",
        "slo.share": "--share",
        "window": "--from, --to",
        "policies": "--policy",
        "headroom": "--headroom",
        "switch_usd": "--switch",
        "n_jobs": "--jobs",
        "worth_usd": "--worth",
        "Newsvendor.worth_usd": "--worth",
        "params.cheaper": "--cheaper",
    }
    others |= {place: flag for place, flag in _LISTED.items() if flag in known}
    told = flags | {f"{name}_s": flag for name, flag in flags.items()} | priced | others
    return {name: keys.get(flag, flag) for name, flag in told.items()} | keys


class Pace:
    """What is going on, and how long it has taken so far."""

    def __init__(self, limit: str | None, seldom_s: float = 2.0) -> None:
        from mipplan.core import parse_duration_ns

        self.line, self._limit, self._begun = "starting", limit, time.monotonic()
        # It was read before any work began; at least a nanosecond.
        self._limit_s = 0.0 if limit is None else max(1, parse_duration_ns(limit)) / NS_PER_S
        self._logged, self._seldom_s = self._begun, seldom_s

    def __rich__(self) -> str:
        from rich.markup import escape

        return escape(str(self))

    def __str__(self) -> str:
        taken_s = time.monotonic() - self._begun
        share = "" if self._limit is None else f", {min(1.0, taken_s / self._limit_s):.0%} of {self._limit}"
        return f"{self.line}  ({taken_s:.0f} s{share})"

    def log(self, line: str) -> None:
        """Write a line, unless the last one, or the beginning, was a moment ago."""
        self.line = line
        if time.monotonic() >= self._logged + self._seldom_s:
            self._logged = time.monotonic()
            _echo_progress(str(self))


def _echo_progress(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads the log: no reason to end the search
        typer.echo(line, err=True)


def _leave_stdout() -> None:
    """Lead what is still buffered to nowhere, or Python complains once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _echo_json(report: reporting.Report) -> None:
    text = reporting.json_text(report)
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
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def _console(stream: TextIO | None) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        def print(self, *objects: Any, crop: bool = False, **given: Any) -> None:
            """Print; what is wider than the terminal goes on in its next line instead of being cut."""
            super().print(*objects, crop=crop, **given)

        def on_broken_pipe(self) -> None:
            """Leave it to the session: the exit code 1 that rich would choose means something else here."""
            raise BrokenPipeError

    if stream is None:  # closed before the start
        return Console(file=io.StringIO())
    # Whoever wants another width of what is piped says so, as for other programs.
    wide = None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else _UNWRAPPED
    return PipeConsole(file=stream, highlight=False, width=wide)
