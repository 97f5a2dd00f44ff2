"""What tests can reach is read off their imports, and off whatever else may lead to a room of the package."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.deep_record import keys_of_tests
from benchmarks.house.hops import measure_all
from benchmarks.import_closure import ImportClosure

ROOT = Path(__file__).resolve().parents[1]
#: A package of seven rooms. ``result`` draws when ``plot`` is called, and asks ``search`` by what is no method.
PACKAGE = {
    "__init__.pyi": "from .planner import plan as plan\nfrom . import figures as figures\n",
    "core/__init__.py": "def from_front(name, room='mipplan'):\n    pass\n",
    "result/__init__.py": (
        "from mipplan.core import drawn, from_front\n\n\nclass Plan:\n"
        "    def plot(self):\n        return drawn('draw_plan', self)\n\n"
        "    def __post_init__(self):\n        self.search = from_front('search_for', 'mipplan.search')\n"
    ),
    "planner/__init__.py": "",
    "planner/planning.py": "def plan():\n    from mipplan.result import Plan\n    return Plan()\n",
    "search/__init__.py": "'''Knows mipplan.figures by its name only.'''\n",
    "figures/__init__.py": "",
    "cli/__init__.py": "import mipplan as mp\n\n\ndef main():\n    mp.plan()\n",
    "plots/__init__.py": "import mipplan.figures\n",
}
SHARED = {
    "conftest.py": "settings.register_profile('mipplan')\n",
    "plans.py": "from mipplan.planner.planning import plan\n",
    "room/__init__.py": "",
    "room/more.py": "import plans\n",
    "room/conftest.py": "",
}


BENCHMARKS = {
    "__init__.py": "",
    "__main__.py": "NAMES = ['benchmarks.speed']\n",
    "speed.py": "import mipplan.planner\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder, files in (("mipplan", PACKAGE), ("tests", SHARED), ("benchmarks", BENCHMARKS)):
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
    return tmp_path


def reached(checkout: Path, text: str, name: str = "test_it.py") -> tuple[set[str], set[str]]:
    (checkout / "tests" / name).write_text(text)
    rooms, files = ImportClosure(checkout).of(checkout / "tests" / name)
    return set(rooms), {os.path.relpath(path, checkout / "tests") for path in files}


PLANNED = {"planner", "result", "core", "search"}
DRAWN = {*PLANNED, "figures", "plots"}
ALL = {*DRAWN, "cli"}


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("import mipplan\n", set()),
        ("import pytest, numpy.plots\n", set()),
        ("from mipplan.core import from_front\n", {"core"}),
        ("import mipplan as mp\n\ndef test_it():\n    mp.plan()\n", PLANNED),
        ("from mipplan import plan\n", PLANNED),
        ("from mipplan import figures\n", {"figures"}),
        ("from mipplan.cli import main\n", {*PLANNED, "cli"}),
        ("def test_it():\n    from mipplan.planner import planning\n", PLANNED),
        # A method of a result draws, whichever room makes the result.
        ("import mipplan as mp\n\nmp.plan().plot()\n", DRAWN),
        ("def test_it(figure):\n    figure.plot()\n", {"plots", "figures"}),
        # Code for other processes, command lines and folders are texts.
        ("CODE = 'import mipplan.core.checks'\n", {"core"}),
        ("CODE = f'{1}import mipplan.plan{2}'\n", PLANNED),
        ("COMMAND = ['-m', 'mipplan', 'plan']\n", ALL),
        ("CODE = 'import mipplan as mp'\n", ALL),
        ("FOLDER = ROOT / 'mipplan/figures'\n", {"figures"}),
        ("NAME = 'mipplan_formulations'\n", set()),
        ("'''All of mipplan.'''\n\ndef test_it():\n    '''And of mipplan.plots.'''\n", set()),
    ],
)
def test_rooms_are_reached_by_whatever_names_them(checkout: Path, text: str, rooms: set[str]) -> None:
    assert reached(checkout, text) == (rooms, {"conftest.py"})


def test_what_tests_share_leads_to_rooms_too(checkout: Path) -> None:
    own = {"conftest.py", "room/conftest.py"}
    assert reached(checkout, "import room.more\n") == (
        PLANNED,
        {"conftest.py", "plans.py", "room/__init__.py", "room/more.py"},
    )
    assert reached(checkout, "from plans import plan\n", "room/test_it.py") == (PLANNED, own | {"plans.py"})
    assert reached(checkout, "from tests.room import more\n", "room/test_it.py")[0] == PLANNED
    assert reached(checkout, "", "room/test_it.py") == (set(), own)
    (checkout / "tests" / "room" / "conftest.py").write_text("from mipplan import plots\n")
    assert reached(checkout, "", "room/test_it.py") == ({"plots", "figures"}, own)
    assert reached(checkout, "") == (set(), {"conftest.py"})


def test_benchmarks_count_where_tests_import_or_start_them(checkout: Path) -> None:
    files = {"conftest.py", "../benchmarks/__init__.py", "../benchmarks/speed.py"}
    for text in ("from benchmarks import speed\n", "COMMAND = 'python -m benchmarks.speed --quick'\n"):
        assert reached(checkout, text) == (PLANNED, files)
    listed = reached(checkout, "from benchmarks.__main__ import NAMES\n")
    assert listed == (PLANNED, files | {"../benchmarks/__main__.py"})


def test_a_key_changes_with_what_is_reached_and_with_nothing_else(checkout: Path) -> None:
    tests = {"test_plan.py": "import plans\n", "test_draw.py": "import mipplan.plots\n", "test_none.py": ""}
    for name, text in tests.items():
        (checkout / "tests" / name).write_text(text)
    keys = keys_of_tests(checkout)
    for changed, which in (
        ("mipplan/planner/planning.py", {"test_plan.py"}),
        ("mipplan/figures/new.py", {"test_draw.py"}),
        ("tests/plans.py", {"test_plan.py"}),
        ("tests/test_none.py", {"test_none.py"}),
        ("tests/room/more.py", set()),
        ("tests/conftest.py", set(tests)),
        ("tests/room/cases.yaml", set(tests)),
        ("mipplan/__init__.py", set(tests)),
        ("profiles/prices.csv", set(tests)),
        ("formulations/mipplan_formulations/new.py", set(tests)),
    ):
        path = checkout / changed
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else None
        path.write_text((before or "") + "\n")
        now = keys_of_tests(checkout)
        assert {name.removeprefix("tests/") for name in keys if now[name] != keys[name]} == which, changed
        path.unlink() if before is None else path.write_text(before)
    assert keys_of_tests(checkout) == keys


def test_what_calls_go_through_is_reached(tmp_path: Path) -> None:
    """Measured, since rooms are loaded late in more ways than a reader of their code might think of."""
    hops = measure_all()
    closure = ImportClosure(ROOT)
    for call, code in (
        ("plan, video-monitoring", "import mipplan as mp\n\nmp.plan()\n"),
        ("replay, numpy engine", "import mipplan as mp\n\nmp.replay()\n"),
        ("retune, first", "import mipplan as mp\n\nmp.Tuner()\n"),
    ):
        test = tmp_path / f"test_{len(call)}.py"
        test.write_text(code)
        rooms, _ = closure.of(test)
        gone_through = {file.split("/")[1] for file in hops[call].files if file.count("/") > 1}
        assert len(gone_through) > 3
        assert {room for room in gone_through if room in closure.rooms} <= rooms < closure.rooms
