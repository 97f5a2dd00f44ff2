"""Every code block of the documentation runs: a page that shows what no longer works fails here.

The blocks of one document share a namespace and a temporary folder that holds a copy of ``profiles/``.
``python`` and ``bash`` (or ``sh``) blocks run, except those

* with ``norun`` after the language, or after a line ``<!-- not run -->``;
* that set up a checkout (``make``, ``pip``, ``git`` …), which CI does by itself.

A line ``<!-- exits 1 -->`` before a shell block states the exit code that its last command has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("formulations/**/*.md")),
    *sorted(ROOT.glob("profiles/**/*.md")),
]

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


def parse_blocks(document: Document) -> Iterable[Region]:
    """Find the blocks that are to run, and refuse those of which that cannot be told."""
    for region in FencedCodeBlockLexer(language=r".+")(document):
        language, *words = region.lexemes["language"].split()
        before = document.text[: region.start]
        if "norun" in words or NOT_RUN.search(before):
            continue
        region.parsed = region.lexemes["source"]
        if language == "python":
            region.evaluator = PythonEvaluator()
        elif language in SHELL_LANGUAGES:
            stated = EXITS.search(before)
            region.evaluator = ShellEvaluator(int(stated["code"]) if stated else 0)
        elif language in MISSPELT:
            region.evaluator = Refusal(f"write `{MISSPELT[language]}`, not `{language}`: this never runs")
        else:
            continue
        yield region


class Refusal:
    """Fails a block that would otherwise look as if it were tested."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, example: Example) -> str:
        return self.reason


class ShellEvaluator:
    """Runs a block in bash with this environment's commands first on the path."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def __call__(self, example: Example) -> str | None:
        commands = shell_commands(str(example.parsed))
        if any(SETS_UP.match(command) for command in commands):
            if any(command.startswith("mipplan ") for command in commands):
                return "set-up is not run: give the mipplan commands a block of their own"
            return None
        here = str(Path(sys.executable).parent)
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", str(example.parsed)],
                env={**os.environ, "PATH": here + os.pathsep + os.environ["PATH"], "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return f"still running after {COMMAND_LIMIT_S} s"
        if done.returncode == self.exit_code:
            return None
        return f"exit code {done.returncode}, not {self.exit_code}\n{done.stdout}{done.stderr}"


def shell_commands(block: str) -> list[str]:
    """Split a block into its commands: continued lines joined, comments and blank lines dropped."""
    lines = (line.strip() for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def run_document(path: Path) -> int:
    """Run the blocks of a document in order, in the current folder; return how many there were."""
    document = Document.parse(str(path), parse_blocks)
    document.namespace["__name__"] = "code_blocks"  # classes defined in a block ask for it
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
    return len(examples)


@pytest.fixture
def reader_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where a reader stands: in a folder with the shipped profiles, free to write files."""
    if (ROOT / "profiles").is_dir():
        shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_blocks_of_document_run(path: Path, reader_folder: Path) -> None:
    run_document(path)


def test_readme_has_blocks_that_run() -> None:
    readme = Document((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    regions = list(parse_blocks(readme))
    shell = [str(region.parsed) for region in regions if isinstance(region.evaluator, ShellEvaluator)]
    assert any(isinstance(region.evaluator, PythonEvaluator) for region in regions)
    assert any("mipplan " in block for block in shell)


# --- the runner itself: a block that fails must fail the test, and only what is marked may be left out ---


def run_text(folder: Path, text: str) -> int:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return run_document(page)


def test_blocks_share_names_and_files(reader_folder: Path) -> None:
    text = (
        "```python\nfrom pathlib import Path\nwritten = 'a'\nPath('x').write_text(written)\n```\n"
        '```bash\ntest "$(cat x)" = a && echo b > y\n```\n'
        "1. in a list\n   ```python title='t'\n   assert Path('y').read_text() == 'b\\n' != written\n   ```\n"
    )
    assert run_text(reader_folder, text) == 3


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\nassert 1 == 2, 'not two'\n```\n", "not two"),
        ("```python\n>>> 1 + 1\n3\n```\n", "invalid syntax"),
        ("```bash\nfalse\n```\n", "exit code 1, not 0"),
        ("```sh\nfalse\ntrue\n```\n", "exit code 1, not 0"),
        ("```bash\nfalse | true\n```\n", "exit code 1, not 0"),
        ("```bash\necho $undefined_name\n```\n", "undefined_name"),
        ("```bash\nmipplan-no-such-command\n```\n", "exit code 127"),
        ("<!-- exits 1 -->\n```bash\ntrue\n```\n", "exit code 0, not 1"),
        ("```bash\npip install mipplan\nmipplan \\\n  plan x\n```\n", "block of their own"),
        ("```console\n$ mipplan --help\n```\n", "write `bash`"),
        ("```py\n1 / 0\n```\n", "write `python`"),
    ],
    ids=[
        "assertion",
        "doctest-prompt",
        "bash-false",
        "sh-first-line",
        "pipe",
        "unset-variable",
        "no-such-command",
        "other-exit-code",
        "set-up-mixed-with-mipplan",
        "console",
        "py",
    ],
)
def test_failing_block_fails(block: str, message: str, reader_folder: Path) -> None:
    with pytest.raises((AssertionError, SyntaxError), match=re.escape(message)):
        run_text(reader_folder, block)


@pytest.mark.parametrize(
    ("block", "run"),
    [
        ("```sh norun\nfalse\n```\n", 0),
        ("```python norun\n1 / 0\n```\n", 0),
        ("<!-- not run -->\n\n```bash\nfalse\n```\n", 0),
        ("<!-- not run -->\n```python\n1 / 0\n```\n", 0),
        ("```yaml\nslo: 1\n```\n```text\nfalse\n```\n```\nfalse\n```\n", 0),
        ("```bash\n# from a checkout\ngit clone somewhere\ncd somewhere\nmake no-such-target\n```\n", 1),
        ("```bash\npython -m venv env\n. env/bin/activate\n```\n", 1),
        ("<!-- exits 3 -->\n```bash\nexit 3\n```\n", 1),
        ("<!-- not run -->\n```text\nx\n```\n```bash\ntrue\n```\n", 1),
    ],
    ids=[
        "sh-norun",
        "python-norun",
        "not-run-bash",
        "not-run-python",
        "other-languages",
        "checkout",
        "environment",
        "exits-3",
        "not-run-is-for-the-next-block-only",
    ],
)
def test_marked_block_does_not_run(block: str, run: int, reader_folder: Path) -> None:
    assert run_text(reader_folder, block) == run
    assert {path.name for path in reader_folder.iterdir()} <= {"page.md", "profiles"}


def test_failure_names_the_line_of_the_page(reader_folder: Path) -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        run_text(reader_folder, "# Title\n\ntext\n\n```python\nx = 0\n1 / x\n```\n")
    assert failure.traceback[-1].lineno + 1 == 7
