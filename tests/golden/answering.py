"""All golden cases by name, and how they are run: commands in this process, as if typed, in a folder of their own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from bad_inputs import (
    broken_flags,
    broken_pipelines,
    broken_plans,
    broken_profiles,
    broken_streams,
    broken_traces,
)
from bad_inputs import case as bad_case
from campaigns import tried
from golden.cases import COMMANDS, DEPENDING, USAGE
from golden.layout import ANSWERS, ROOT, lay_out
from golden.library import LIBRARY
from golden.normalising import plain_document, plain_text

_BROKEN = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (
        broken_pipelines,
        broken_profiles,
        broken_traces,
        broken_plans,
        broken_flags,
        broken_streams,
    )
}
#: Answers longer than this are kept as a hash.
_LONGEST = 60_000
_SURROUNDINGS = {"COLUMNS": "120", "LINES": "50", "TERM": "dumb", "NO_COLOR": "1"}
_FORCING = (
    "FORCE_COLOR",
    "PY_COLORS",
    "GITHUB_ACTIONS",
    "CLICOLOR_FORCE",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)


def tried_cases() -> list[str]:
    """Names of all cases; in CI, of the instances that are planned in many ways or slowly, every third."""
    ways = ("library/plan-every-way-", "library/plan-variants-", "library/fleet-", "library/refined-")
    return [name for name in CASES if not name.startswith(ways) or tried([name])]


def versions() -> dict[str, str]:
    """Return the versions that some answers depend on."""
    return {name: version(name) for name in sorted({name for names in DEPENDING.values() for name in names})}


def depends_on(name: str) -> dict[str, tuple[str, str]]:
    """Return what the answer of a case depends on and is not here as it was then: both versions by package."""
    before = json.loads((ANSWERS / "versions.json").read_text(encoding="utf-8"))
    needed = {part for prefix, names in DEPENDING.items() if name.startswith(prefix) for part in names}
    now = versions()
    return {part: (before[part], now[part]) for part in sorted(needed) if before[part] != now[part]}


def answer_of_command(line: str) -> dict[str, Any]:
    """Run one command line for people and for programs: exit code, output, errors, files written."""
    answer: dict[str, Any] = {"line": line}
    # A busy machine must not change how far a search gets. What other guarantees cost takes long and has its own tests.
    patience = ["--no-costs"] if line.startswith("plan ") else []
    if patience and "--time-limit" not in line:
        patience += ["--time-limit", "86400s"]
    # Documents hold what people are told.
    kinds = [("text", []), ("json", ["--json"])] if tried([line]) else [("text", [])]
    for kind, more in kinds:
        with _in_folder() as folder:
            lay_out(folder)
            answer[kind] = _answer([*shlex.split(line), *patience, *more], folder)
    return answer


def answer_of_usage(line: str) -> dict[str, Any]:
    """Run one command line that its parser answers."""
    with _in_folder(_SURROUNDINGS["COLUMNS"]) as folder:
        return {"line": line, "text": _run(shlex.split(line), folder)}


def answers_of_broken_inputs(module: str) -> dict[str, Any]:
    """What is said to each of the broken inputs of `bad_inputs`."""
    answers: dict[str, Any] = {}  # Broken inputs have tests of their own, so here some will do.
    cases = {case.name: case for case in _BROKEN[module] if not case.usage}
    for name in tried(cases):
        with _in_folder() as folder:
            bad_case.lay_out(folder, cases[name].files)
            answers[name] = _run(list(cases[name].arguments), folder)
    return answers


#: Every golden case by kind and name.
CASES: dict[str, Callable[[], Any]] = {
    **{f"commands/{name}": partial(answer_of_command, line) for name, line in COMMANDS.items()},
    **{f"usage/{name}": partial(answer_of_usage, line) for name, line in USAGE.items()},
    **{f"broken/{module}": partial(answers_of_broken_inputs, module) for module in _BROKEN},
    **{f"library/{name}": case for name, case in LIBRARY.items()},
}


def answer(name: str) -> Any:
    """Run a case; its answer as it is read back from a file, without what is not compared."""
    return plain_document(json.loads(json.dumps(CASES[name]())))


def recorded(name: str) -> Any:
    """Read the recorded answer of a case: in CI, of what is tried there."""
    answer = json.loads((ANSWERS / f"{name}.json").read_text(encoding="utf-8"))
    if name.startswith("broken/"):
        return {case: answer[case] for case in tried(answer)}
    if name.startswith("commands/") and not tried([answer["line"]]):
        del answer["json"]
    return answer


@contextlib.contextmanager
def _in_folder(columns: str = "140") -> Iterator[Path]:
    """Go into a new folder, under surroundings that are the same everywhere, and come back."""
    before, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        folder = Path(name).resolve()
        os.chdir(folder)
        os.environ.update(_SURROUNDINGS | {"COLUMNS": columns})
        for variable in _FORCING:
            os.environ.pop(variable, None)
        try:
            yield folder
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


def _answer(arguments: list[str], folder: Path) -> dict[str, Any]:
    there = {path: path.stat().st_mtime_ns for path in _files(folder)}
    answer = _run(arguments, folder)
    written = [path for path in _files(folder) if there.get(path) != path.stat().st_mtime_ns]
    if written:
        answer["files"] = {str(path.relative_to(folder)): _content(path, folder) for path in written}
    return answer


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _content(path: Path, folder: Path) -> Any:
    """Return a file's text for short, its hash, or for pictures and tables of libraries only that there is one."""
    if path.suffix in {".png", ".svg", ".pdf", ".parquet"}:
        return "written"
    text = plain_text(path.read_bytes().decode(), folder, ROOT)
    text = text.replace(
        '"engine": "numba"', '"engine": "numpy"'
    )  # which of the two depends on what was loaded before
    if path.suffix == ".json":
        document = json.loads(text)
        if plain_document(document) != document:  # durations are in it: compared as a document
            return {"document": plain_document(document)}
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "begins": text[:1200]}


def _run(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run the command line's own entry point."""
    from mipplan.cli import main

    out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n", write_through=True) for _ in range(2))
    program, package, hook = sys.argv, sys.modules["__main__"].__package__, sys.excepthook
    sys.argv = ["mipplan", *arguments]
    sys.modules["__main__"].__package__ = None  # whoever runs this, the program is called mipplan
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main()
            except SystemExit as end:
                code = end.code
    finally:
        sys.argv, sys.modules["__main__"].__package__, sys.excepthook = program, package, hook
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, error))  # type: ignore[attr-defined]
    # Of progress there is more where the machine is slow.
    complained = re.sub(r"(?m)^.*\(\d+ s(, \d+% of \w+)?\)\n", "", complained)
    answer: dict[str, Any] = {"exit": code}
    if "--json" in arguments and said:
        answer["stdout"] = plain_document(json.loads(plain_text(said, folder, ROOT)))
        again = to_json(json.loads(said), indent=2).decode()
        answer["layout"] = "indented by 2" if said == f"{again}\n" else "other"
    else:
        answer["stdout"] = _lines(plain_text(said, folder, ROOT))
    answer["stderr"] = _lines(plain_text(complained, folder, ROOT))
    return answer


def _lines(text: str) -> Any:
    """Text by lines, so that a difference shows where it is; what is very long as a hash."""
    if len(text) > _LONGEST:
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "begins": text[:1200]}
    return text.split("\n") if text else []
