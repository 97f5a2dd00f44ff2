"""Cheap rules of the house that no linter checks."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mipplan

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("mipplan/**/*.py"), *ROOT.glob("formulations/**/*.py")])
MOST_LINES = 400

#: What takes long to import. `mipplan --help` and completion must not pay for it.
HEAVY = ("highspy", "matplotlib", "numpy", "ortools", "pandas", "pulp", "pyarrow", "scipy")


def test_sources_are_found() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in SOURCES}
    assert folders == {"mipplan", "formulations"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_is_short_enough_to_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines: split it by what its parts do"


@pytest.mark.parametrize("module", ["mipplan", "mipplan.cli"])
def test_import_is_light(module: str) -> None:
    probe = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_import_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import mipplan, mipplan_formulations"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_public_names_are_distinct_and_listed_by_dir() -> None:
    assert len(set(mipplan.__all__)) == len(mipplan.__all__)
    assert set(mipplan.__all__) <= set(dir(mipplan))


@pytest.mark.parametrize("name", sorted(mipplan.__all__))
def test_public_name_has_a_docstring(name: str) -> None:
    thing = getattr(mipplan, name)
    if isinstance(thing, str):  # __version__
        return
    # Looked up in the thing's own dictionary where it has one: a class inherits its parent's text, and a
    # dataclass makes up its signature.
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert own, f"mipplan.{name} has no docstring"
    assert not own.startswith(f"{name}("), f"mipplan.{name} has only the docstring that dataclass made up"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mipplan.no_such_name


def test_hooks_use_the_linter_that_ci_uses() -> None:
    pin = re.compile(r"ruff==[0-9.]+")
    pins = [
        set(pin.findall((ROOT / name).read_text(encoding="utf-8")))
        for name in ("pyproject.toml", ".pre-commit-config.yaml")
    ]
    assert pins[0] == pins[1]
    assert len(pins[0]) == 1
