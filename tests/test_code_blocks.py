"""Every code block of the documentation runs and prints what is shown: what no longer works fails here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from sybil.evaluators.python import PythonEvaluator

from code_blocks import Page, ShellEvaluator, lines_of

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("formulations/**/*.md")),
    *sorted(ROOT.glob("profiles/**/*.md")),
]


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
    """And they print what is shown; the README's figures depend on the solvers, see `test_docs`."""
    page = Page(path)
    page.run()
    for shown, printed in page.outputs if path.name != "README.md" else []:
        assert lines_of(printed) == lines_of(shown)


def test_readme_has_blocks_that_run() -> None:
    regions = Page(ROOT / "README.md").blocks
    shell = [str(region.parsed) for region in regions if isinstance(region.evaluator, ShellEvaluator)]
    assert any(isinstance(region.evaluator, PythonEvaluator) for region in regions)
    assert any("mipplan " in block for block in shell)


# --- the runner itself: a block that fails must fail the test, and only what is marked may be left out ---


def run_text(folder: Path, text: str) -> int:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    made = Page(page)
    made.run()
    return len(made.blocks)


def test_blocks_share_names_and_files(reader_folder: Path) -> None:
    text = (
        "```python\nfrom pathlib import Path\nwritten = 'a'\nPath('x').write_text(written)\n```\n"
        '```bash\ntest "$(cat x)" = a && echo b > y\n```\n'
        "1. in a list\n   ```python title='t'\n   assert Path('y').read_text() == 'b\\n' != written\n   ```\n"
    )
    assert run_text(reader_folder, text) == 3


def test_outputs_are_those_of_the_block_before(reader_folder: Path) -> None:
    path = reader_folder / "page.md"
    path.write_text(
        "```python\nprint(1)\n```\n\n```text\n2\n```\n\nprose\n\n```text\n3\n```\n"
        "```bash\necho 4\n```\n```text\n4\n```\n```bash norun\necho 5\n```\n```text\n6\n```\n"
    )
    page = Page(path)
    page.run()
    assert [(lines_of(shown), lines_of(printed)) for shown, printed in page.outputs] == [
        (["2"], ["1"]),
        (["4"], ["4"]),
    ]


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
