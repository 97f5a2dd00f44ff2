"""Rules of the house that no linter checks (CONTRIBUTING.md, "The house")."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mipplan
from benchmarks.house.hops import measure_all

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "mipplan": ROOT / "mipplan",
    "mipplan_formulations": ROOT / "formulations" / "mipplan_formulations",
}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
ROOMS = sorted({path.parent for path in SOURCES})
TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])

#: A file is read at one sitting, and worth opening.
MOST_LINES, LEAST_LINES = 400, 60
MOST_FILES = 12
#: The whole house: what is added beyond this takes something away, or has a reason to change the number. It was 37,000
#: lines when the house was rebuilt; laws of dispatch, sharper certificates, a policy by loss and plans for fifo
#: queues came after, then plans that hold tomorrow (windows, reliability, fragility), the way from a model to a
#: profile, and that from a plan to what runs it (exporters, serving, driving) and back (logs, observing, validation);
#: variants, energy, questions and figures; last what eight referees found: odd models, ends of time limits, dates, how
#: far a pass is, names that other systems read in their own way, tables of accuracy in every question;
#: and tokens that each get a part of their own, without which no page could be served line by line; the most accurate
#: of plans that cost the same, and the energy of streams; good plans of large trees before the time is up, and fleets
#: that choose variants; and what auditors found: gaps in logs, imported figures that were not what they seemed, inputs
#: that change between measurements, and processes that outlive them; servers that collect batches; machines with
#: phases of minutes; comparisons that tell accuracy and energy, and fleets of every law and queue; answers that are
#: stopped half-way, and what is given in place of an object; runs of servers whose arguments are all checked first, and
#: explanations of plans that are none of the options; annealing, compiled walks, and servers whose clients and
#: clocks misbehave; the price of a sharp certificate beside the others, and explanations, by trial, of plans that rest
#: on it or on a replay; reasons for there being no plan that are found soon; classes of runs that serving keeps; and
#: what four more referees found: numbers of NumPy, columns of latencies, and promises that serving did not keep; and
#: values of `mipplan.toml`, told at their keys; what a referee of traces' options found; and what two more did:
#: paced counts that the tuner gives back, rows that imports keep, and faults that hid each other;
#: and days that begin at another hour than midnight, prices that span lines, measurements into one folder at once; and
#: weights of IPA's program of any size, arguments of another kind around serving, and allowances that logs state;
#: and what a review found where systems differ from what is usual: second applications, late answers, clashes of names;
#: and compiled walks that refine faster, and words for electricity, power and windows where a referee read others.
MOST_FILES_OF_ALL, MOST_LINES_OF_ALL = 403, 89_150
#: How many of the package's files a call enters, and how deep its stack gets, on the shipped examples.
HOPS = {"plan, video-monitoring": (35, 14), "replay, numpy engine": (18, None), "retune, second": (15, None)}

#: What takes long to import. `mipplan --help` and completion must not pay for it.
HEAVY = ("highspy", "matplotlib", "numpy", "ortools", "pandas", "pulp", "pyarrow", "scipy")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


# --------------------------------------------------------------------------------------------- files and rooms


def test_sources_are_found() -> None:
    assert all(any(path.is_relative_to(folder) for path in SOURCES) for folder in PACKAGES.values())


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_is_short_enough_to_read(path: Path) -> None:
    lines = lines_of(path)
    assert lines <= MOST_LINES, f"{lines} lines: split it by what its parts do"


def is_protocol(path: Path) -> bool:
    """Whether a file says what a plug point must offer."""
    classes = [node for node in tree_of(path).body if isinstance(node, ast.ClassDef)]
    return any("Protocol" in ast.unparse(base) for node in classes for base in node.bases)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_is_worth_opening(path: Path) -> None:
    lines = lines_of(path)
    if path.stem not in ("__init__", "__main__") and not is_protocol(path):
        assert lines >= LEAST_LINES, f"{lines} lines: a part of another file's subject"


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_room_is_small_enough_to_know(room: Path) -> None:
    files = [path.name for path in room.glob("*.py")]
    assert len(files) <= MOST_FILES, f"{len(files)} files: two rooms in one, or two files for one thing"


def test_house_is_small_enough_to_walk() -> None:
    assert len(SOURCES) <= MOST_FILES_OF_ALL
    assert sum(lines_of(path) for path in SOURCES) <= MOST_LINES_OF_ALL


@cache
def hops() -> dict[str, tuple[int, int]]:
    return {call: (len(measured.files), measured.depth) for call, measured in measure_all().items()}


@pytest.mark.parametrize("call", HOPS)
def test_walk_of_a_request_is_short(call: str) -> None:
    (files, depth), (most_files, most_depth) = hops()[call], HOPS[call]
    assert files <= most_files, "python -m benchmarks.house.hops --files says which"
    assert most_depth is None or depth <= most_depth


# ------------------------------------------------------------------------------------------ names and imports


def test_class_names_are_unique() -> None:
    """One word, one thing: private names do not count."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name_of(path))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import of ours in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def test_private_functions_are_called() -> None:
    """One that nothing calls is a leftover, or an override of what has another name by now."""
    nodes = [node for path in SOURCES for node in ast.walk(tree_of(path))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    private = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef) and re.match(r"_(?!_|repr_)", node.name)
        if not node.decorator_list  # a decorator may hand it to somebody else
    }
    assert private - used == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_other_rooms_are_entered_by_their_front(path: Path) -> None:
    """`from mipplan.room import name`, never `from mipplan.room.module import name`, but in the room itself."""
    package = "mipplan" if path.is_relative_to(PACKAGES["mipplan"]) else "mipplan_formulations"
    own = path.relative_to(PACKAGES[package]).parts[:-1]
    for line, module in imports_of(path):
        parts = module.split(".")
        if parts[0] == package and own[:1] == tuple(parts[1:2]):
            continue
        rooms = [*PACKAGES.get(parts[0], Path()).joinpath(*parts[1:2]).glob("__init__.py")]
        if parts[0] in PACKAGES and rooms and path.name != "__init__.py":
            assert len(parts) <= 2, f"line {line} imports {module}: take the name from the room's front"


@pytest.mark.parametrize(
    "front",
    sorted(folder / "__init__.pyi" for folder in ROOMS if (folder / "__init__.pyi").exists()),
    ids=name_of,
)
def test_what_a_room_offers_is_no_file_of_it(front: Path) -> None:
    """Whoever imports the file `menu` of a room makes the room's function `menu` a module, with old lazy-loaders."""
    files = {path.stem for path in front.parent.iterdir()}
    imports = [node for node in tree_of(front).body if isinstance(node, ast.ImportFrom) and node.module]
    assert files.isdisjoint(alias.name for node in imports for alias in node.names)


def private_patches(path: Path) -> Iterator[str]:
    """Calls `setattr(…, "_name", …)` and texts such as "mipplan.room.module._name" in a test."""
    for node in ast.walk(tree_of(path)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr")):
            continue
        for argument in node.args[:2]:
            text = argument.value if isinstance(argument, ast.Constant) else None
            if isinstance(text, str) and re.search(r"(^|\.)_[A-Za-z]\w*$", text):
                yield f"{name_of(path)}:{node.lineno}: {text}"


def test_no_test_patches_private_names() -> None:
    """What tunes a search is a parameter (a frozen `…Params`), so that a test can pass another."""
    assert [found for path in TESTS for found in private_patches(path)] == []


# ---------------------------------------------------------------------------------------------------- the front


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
