"""Where output goes when something is in its way: closed pipes, full disks, encodings without the signs."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.cli.session import Pace, Session
from mipplan.core import SolverError
from mipplan.documents import write_text_atomically

SHOW = ("profiles",)
FOUND = ("plan", "cascade", "--trace", "steady", "--to", "10s", "--no-costs")
#: Infeasible, with a reason that holds signs beyond ASCII.
NONE = ("plan", "cascade", "--trace", "steady", "--to", "10s", "--slo", "1ms")


def mipplan(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mipplan", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        check=False,
    )
    return done.returncode, done.stdout or "", done.stderr


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_reader_that_leaves_is_no_verdict(flags: tuple[str, ...]) -> None:
    """Exit code 1 would say that there is no plan."""
    reading, writing = os.pipe()
    os.close(reading)
    code, _, said = mipplan(*SHOW, *flags, stdout=writing)
    os.close(writing)
    assert (code, said) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_full_disk_is_told(flags: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        code, _, said = mipplan(*SHOW, *flags, stdout=full.fileno())
    assert code == 2
    assert said == "mipplan: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("asked", [("--version",), ("--help",), ("plan", "--help"), ()])
def test_help_that_finds_no_room_is_told_as_any_output(asked: tuple[str, ...]) -> None:
    """It ended with a traceback, and with the exit code that says that there is no plan."""
    with Path("/dev/full").open("w") as full:
        code, _, said = mipplan(*asked, stdout=full.fileno())
    assert (code, said) == (2, "mipplan: the output cannot be written: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files")
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_file_that_cannot_be_written_costs_no_answer(flags: tuple[str, ...], tmp_path: Path) -> None:
    """The disk may fill up while a plan is looked for: the search is not to be lost with the file."""
    out = tmp_path / "plan.json"
    command = shlex.join([sys.executable, "-m", "mipplan", *FOUND, "--out", str(out), *flags])
    limited = f"ulimit -f 1; exec {command}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(f"mipplan: the input has 1 fault:\n  {out}: cannot be written: .*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
    if flags:
        report = json.loads(done.stdout)
        assert (report["status"], report["plan_file"]) == ("optimal", None)
    else:
        assert "optimal" in done.stdout
        assert "written to" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files")
@pytest.mark.parametrize(
    ("command", "flags", "held"),
    [
        ("fragility", ("--out", "made.json", "--plot", "made.svg"), "eager dispatch"),
        ("replay", ("--latencies", "made.csv", "--plot", "made.svg"), "P99"),
        ("tune", ("--policy", "static", "--out", "made.json", "--plot", "made.svg"), "static"),
    ],
)
def test_figures_and_tables_that_cannot_be_written_cost_no_answer(
    command: str, flags: tuple[str, ...], held: str, tmp_path: Path
) -> None:
    """All that was found was lost with them; `--out` alone was told behind it."""
    assert mipplan(*FOUND, "--no-replay", "--out", str(tmp_path / "plan.json"))[0] == 0
    asked = [
        sys.executable,
        "-m",
        "mipplan",
        command,
        "plan.json",
        "--trace",
        "steady",
        "--to",
        "10s",
        *flags,
    ]
    limited = ["bash", "-c", f"ulimit -f 1; exec {shlex.join(asked)}"]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert held in done.stdout
    assert "written to" not in done.stdout
    assert done.stderr.count(": cannot be written: ") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_links_that_lead_back_to_themselves_are_told(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    for out in (tmp_path / "there", tmp_path / "back" / "plan.json"):
        code, text, said = mipplan(*FOUND, "--out", str(out))
        assert (code, text) == (2, "")
        assert said.endswith(f"--out {out}: is a link that leads back to itself\n")


#: No file can be called so: like a folder that is closed to us, it is none that merely is not there.
LONG = "x" * 300


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("plan", LONG, "--trace", "steady"), "is neither a file nor one of the shipped pipelines"),
        (("plan", "cascade", "--trace", f"{LONG}.csv"), "cannot be read: File name too long"),
        (
            ("plan", "cascade", "--trace", "steady", "--profiles", LONG),
            "cannot be reached: File name too long",
        ),
        ((*FOUND, "--out", LONG), "cannot be reached: File name too long"),
        (("profiles", "--profiles", LONG), "cannot be reached: File name too long"),
        (("export", "plan.json", "--to", "triton", "-o", LONG), "cannot be reached: File name too long"),
        (("observe", LONG, "-o", f"{LONG}.d"), f"{LONG}.d cannot be reached: File name too long"),
        (("truth", "plan.json", LONG), "cannot be reached: File name too long"),
        (("serve", "plan.json", "--emulate", "--log", LONG), "cannot be reached: File name too long"),
        (("replay", "plan.json", "--trace", f"./{LONG}", "--stream"), "File name too long"),
        (("--config", LONG, "profiles"), "cannot be read: File name too long"),
    ],
)
def test_names_that_cannot_be_looked_at_are_told(arguments: tuple[str, ...], told: str) -> None:
    """They ended with a traceback, and with the exit code that says that there is no plan."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert told in done.stderr


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="no folder is closed to root")
def test_nothing_is_needed_of_a_working_folder_that_is_closed(tmp_path: Path) -> None:
    command = ["sh", "-c", f"chmod 0 .; exec {shlex.join([sys.executable, '-m', 'mipplan', *FOUND])}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="a folder in use is not removed there")
def test_nothing_is_needed_of_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    """It was told as an output that cannot be written."""
    (tmp_path / "gone").mkdir()
    command = f"rmdir ../gone; exec {shlex.join([sys.executable, '-m', 'mipplan', *FOUND])}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path / "gone", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("length", [200, 255])
def test_names_as_long_as_they_may_be_are_written(length: int, tmp_path: Path) -> None:
    out = tmp_path / "plan.json".rjust(length, "x")
    write_text_atomically(out, "{}")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_none_of_our_business(closed: str) -> None:
    command = f"{shlex.join([sys.executable, '-m', 'mipplan', *SHOW])} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed == "2>&-")


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp1252"])
def test_encodings_without_our_signs(encoding: str) -> None:
    code, text, said = mipplan(*NONE, PYTHONIOENCODING=encoding)
    assert (code, said) == (1, "")
    assert "no configuration can be certified to keep P99 <= 1 ms" in text
    code, text, said = mipplan(*NONE, "--json", PYTHONIOENCODING=encoding)
    assert (code, said) == (1, "")
    assert "P99 ≤ 1 ms" in json.loads(text)["reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are any bytes on Linux")
def test_documents_name_files_whose_names_are_no_text(tmp_path: Path) -> None:
    """Python reads such bytes as halves of characters, which no JSON holds as they are: they are escaped there."""
    missing, out = os.fsdecode(bytes(tmp_path) + b"/none\xff"), os.fsdecode(bytes(tmp_path) + b"/made\xff")
    code, text, _ = mipplan("verify", missing, "--trace", "steady", "--json")
    assert (code, json.loads(text)["faults"][0]["place"]) == (2, missing)
    code, text, _ = mipplan(*FOUND, "--out", out, "--json")
    assert (code, json.loads(text)["plan_file"]) == (0, out)
    code, text, _ = mipplan("verify", out, "--trace", "steady", "--to", "10s", "--json")
    assert (code, json.loads(text)["plan_file"]) == (0, out)


@pytest.mark.skipif(os.name == "nt", reason="reads a pipe by its name")
def test_a_plan_is_verified_as_it_comes_through_a_pipe(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert mipplan(*FOUND, "--out", str(plan))[0] == 0
    verify = [sys.executable, "-m", "mipplan", "verify", "/dev/stdin", "--trace", "steady", "--to", "10s"]
    for text, code in ((plan.read_text(), 0), (plan.read_text().replace('"batch": 1,', '"batch": 2,'), 1)):
        done = subprocess.run(verify, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, "")


def test_ctrl_c_while_it_loads_leaves_no_traceback() -> None:
    loading = (
        "import builtins, os, signal, sys\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'typer':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from mipplan.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", loading], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "")


def test_help_loads_nothing_heavy() -> None:
    heavy = ("highspy", "matplotlib", "numba", "numpy", "ortools", "pandas", "pulp", "pyarrow", "scipy")
    probe = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from mipplan.cli.app import app\n"
        "assert CliRunner().invoke(app, ['plan', '--help']).exit_code == 0\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([], "")


def test_long_work_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where stderr is a pipe; on a terminal the same line changes by itself."""
    command = typer.Context(typer.main.get_command(app).commands["plan"])  # type: ignore[attr-defined]
    command.params = {"time_limit": "60s"}
    with Session(command, as_json=False).progress() as progress:
        progress("just begun")
        time.sleep(2.1)
        progress("[at work]")
        progress("once more")
    assert re.fullmatch(r"\[at work\]  \(\d+ s, \d+% of 60s\)\n", capsys.readouterr().err)
    console = Console(file=io.StringIO(), width=80)
    console.print(Pace("0ns"), Pace(None))
    assert console.file.getvalue().split("  ") == ["starting", "(0 s, 100% of 0ns) starting", "(0 s)\n"]


def test_too_little_memory_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """It was a traceback, with the exit code that says that there is no plan."""
    command = typer.Context(typer.main.get_command(app))
    with pytest.raises(SystemExit) as ended, Session(command, as_json=False):
        raise MemoryError("Unable to allocate 31.0 MiB")
    assert ended.value.code == 3
    assert capsys.readouterr().err == "mipplan: memory is short: Unable to allocate 31.0 MiB\n"


def test_reading_a_trace_needs_no_pandas() -> None:
    """pyarrow imports it where a Ctrl-C is swallowed."""
    reading = "import sys, mipplan as mp; mp.Trace.read('steady'); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", reading], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n"


def test_what_is_piped_is_not_wrapped() -> None:
    code, text, _ = mipplan(*NONE, "--no-costs", COLUMNS="")
    assert code == 1
    assert max(map(len, text.splitlines())) > 200
    assert all(line == line.rstrip() for line in text.splitlines())
    code, text, _ = mipplan(*NONE, "--no-costs", COLUMNS="80")
    assert code == 1
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("columns", ["0", "00", ""])
def test_a_terminal_of_no_columns_is_one_of_unknown_width(columns: str) -> None:
    """Nothing at all was printed into it, with exit code 0; some terminals of containers have none."""
    assert mipplan(*SHOW, COLUMNS=columns)[1] == mipplan(*SHOW, COLUMNS="100000")[1]


def test_a_narrow_terminal_cuts_no_figure_and_no_name(tmp_path: Path) -> None:
    """Numbers stay whole, names are folded, and a table that finds no room is wider than the terminal."""
    file, traffic = str(tmp_path / "plan.json"), ("--trace", "steady", "--to", "20s")
    asked = ("replay", file, *traffic)
    code, text, _ = mipplan("plan", "cascade", *traffic, "--no-costs", "--out", file)
    assert code == 0
    code, text, _ = mipplan(*asked, COLUMNS="")
    assert code == 0
    stages = [line.split() for line in text.splitlines() if " ms " in line and "%" in line]
    assert stages
    for columns in ("60", "40"):
        code, narrow, _ = mipplan(*asked, COLUMNS=columns)
        assert code == 0
        assert "…" not in narrow
        assert [line.split() for line in narrow.splitlines() if " ms " in line and "%" in line] == stages


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for part in getattr(command, "commands", {}).values():
        yield from _commands(part)


def test_help_names_no_option_that_a_command_lacks() -> None:
    """What stands in backquotes is of another command."""
    wrong = []
    for command in _commands(typer.main.get_command(app)):
        known = {option for found in command.params for option in (*found.opts, *found.secondary_opts)}
        for option in command.params:
            said = re.sub(r"`[^`]*`", "", option.help or "")
            named = re.findall(r"--[a-z][a-z-]*", said)
            wrong += [(command.name, option.name, name) for name in named if name not in known]
    assert not wrong


@pytest.mark.parametrize("command", ["menu", "compare"])
def test_commands_without_a_budget_do_not_ask_for_one(command: str) -> None:
    code, _, said = mipplan(command, "video", "--trace", "bursty", "--accuracy", "max")
    assert code == 2
    assert said.endswith("  --accuracy: expected a share such as 10% or 0.1, found 'max'\n")


def test_a_limit_of_each_search_is_none_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of six planners was at "100% of 60s" from its second one on."""
    limits: list[str | None] = []

    def paced(limit: str | None) -> Pace:
        limits.append(limit)
        return Pace(limit)

    def stopped(*_given: object, **_settings: object) -> None:
        raise SolverError("seen enough")

    monkeypatch.setattr("mipplan.cli.session.Pace", paced)
    for command in ("compare", "plan"):
        monkeypatch.setattr(mp, command, stopped)
        done = CliRunner().invoke(app, [command, "cascade", "--trace", "steady", "--to", "10s"])
        assert done.exit_code == 3
    assert limits == [None, "60s"]
