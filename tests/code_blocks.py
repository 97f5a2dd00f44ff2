"""Runs the code blocks of a document, and tells what they printed beside the outputs that it shows.

The blocks of one document share a namespace and a temporary folder that holds a copy of ``profiles/``.
``python`` and ``bash`` (or ``sh``) blocks run, except those

* with ``norun`` after the language, or after a line ``<!-- not run -->``;
* that set up a checkout (``make``, ``pip``, ``git`` …), which CI does by itself.

A line ``<!-- exits 1 -->`` before a shell block states the exit code that its last command has. A ``text`` block right
after one that runs is its output.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from warm_start import folder_of_commands

SHELL_LANGUAGES = frozenset({"bash", "sh"})
#: Other spellings would silently not run.
MISSPELT = {
    "py": "python",
    "python3": "python",
    "pycon": "python",
    "shell": "bash",
    "console": "bash",
    "zsh": "bash",
}
NOT_RUN = re.compile(r"<!--\s*not run\s*-->\s*\Z")
EXITS = re.compile(r"<!--\s*exits (?P<code>\d+)\s*-->\s*\Z")
SETS_UP = re.compile(r"(make|pip|git|source|\.|pre-commit|bash \.ci/run|python3? -m (venv|pip))(\s|$)")
COMMAND_LIMIT_S = 300


#: A busy machine must not change how far a search gets; the table of guarantees takes long where it is not shown.
IMPATIENT = re.compile(r"^mipplan plan (?!.*--time-limit)", re.MULTILINE)
PATIENT = "mipplan plan --time-limit 86400s --no-costs "


class Page:
    """A document's blocks that run, and what they print."""

    def __init__(self, path: Path) -> None:
        #: Outputs shown, and what was printed.
        self.outputs: list[tuple[str, str]] = []
        #: The blocks that run, without outputs.
        self.blocks: list[Region] = []
        self._printed = ""
        self._document = Document.parse(str(path), self._parse)
        self._document.namespace["__name__"] = "code_blocks"  # classes defined in a block ask for it

    def run(self) -> None:
        """Run the blocks in order, in the current folder."""
        for example in self._document.examples():
            example.evaluate()

    def print_(self, printed: str) -> None:
        """Take in what the last block printed."""
        self._printed = printed

    def show(self, shown: str) -> None:
        """Take in what the page says that it printed."""
        self.outputs.append((shown, self._printed))

    def _parse(self, document: Document) -> Iterable[Region]:
        """Find the blocks that are to run, and refuse those of which that cannot be told."""
        end = -1  # Of the last block, if it runs.
        for region in FencedCodeBlockLexer(language=r".+")(document):
            language, *words = region.lexemes["language"].split()
            before = document.text[: region.start]
            region.parsed = region.lexemes["source"]
            follows, end = end >= 0 and not before[end:].strip(), -1
            if language == "text" and follows:
                region.evaluator = Shown(self)
                yield region
            if "norun" in words or NOT_RUN.search(before):
                continue
            if language == "python":
                region.evaluator = PrintingEvaluator(self)
            elif language in SHELL_LANGUAGES:
                stated = EXITS.search(before)
                region.evaluator = ShellEvaluator(self, int(stated["code"]) if stated else 0)
            elif language in MISSPELT:
                region.evaluator = Refusal(f"write `{MISSPELT[language]}`, not `{language}`: this never runs")
            else:
                continue
            end = region.end
            self.blocks.append(region)
            yield region


class Shown:
    """An output that a page shows."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def __call__(self, example: Example) -> None:
        self.page.show(str(example.parsed))


class PrintingEvaluator(PythonEvaluator):
    """Runs a block of Python, and keeps what it prints."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page

    def __call__(self, example: Example) -> None:
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            super().__call__(example)
        self.page.print_(written.getvalue())


class Refusal:
    """Fails a block that would otherwise look as if it were tested."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, example: Example) -> str:
        return self.reason


class ShellEvaluator:
    """Runs a block in bash, and keeps what it prints."""

    def __init__(self, page: Page, exit_code: int) -> None:
        self.page, self.exit_code = page, exit_code

    def __call__(self, example: Example) -> str | None:
        commands = shell_commands(str(example.parsed))
        if any(SETS_UP.match(command) for command in commands):
            if any(command.startswith("mipplan ") for command in commands):
                return "set-up is not run: give the mipplan commands a block of their own"
            return None
        try:
            done = run_shell(IMPATIENT.sub(PATIENT, str(example.parsed)))
        except subprocess.TimeoutExpired:
            return f"still running after {COMMAND_LIMIT_S} s"
        self.page.print_(done.stdout)
        if done.returncode == self.exit_code:
            return None
        return f"exit code {done.returncode}, not {self.exit_code}\n{done.stdout}{done.stderr}"


def run_shell(block: str) -> subprocess.CompletedProcess[str]:
    """Run a block in bash with this environment's commands first on the path, in a window of 140 columns."""
    surroundings = {"NO_COLOR": "1", "COLUMNS": "140", "MPLBACKEND": "agg"}
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder_of_commands(**surroundings), here, os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        env={**os.environ, **surroundings, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_LIMIT_S,
    )


def shell_commands(block: str) -> list[str]:
    """Split a block into its commands: continued lines joined, comments and blank lines dropped."""
    lines = (line.strip() for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def lines_of(output: str) -> list[str]:
    """Return the lines of an output as they are compared."""
    return [line.rstrip() for line in output.strip().splitlines()]
