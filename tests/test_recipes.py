"""The recipes of CONTRIBUTING.md are complete: whatever is there stands in every place that its recipe names."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

import mipplan as mp
from mipplan.comparison import GUARANTEES
from mipplan.importers import FORMATS
from mipplan.profiling import SUBJECTS
from mipplan.replayer import ENGINES
from mipplan.solvers import available_solvers
from mipplan.tuner import POLICIES
from mipplan_formulations import FORMULATIONS

ROOT = Path(__file__).resolve().parents[1]
RECIPES = re.compile(r"^### (… .*)$", re.MULTILINE)


@cache
def places() -> dict[str, tuple[str, ...]]:
    """The places that each recipe names in its table, by the title of the recipe."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text[text.index("## How to add") : text.index("## Licence")]
    titles = [*RECIPES.finditer(text)]
    found: dict[str, tuple[str, ...]] = {}
    for title, following in zip(titles, [*titles[1:], None], strict=True):
        part = text[title.end() : following.start() if following else len(text)]
        cells = [row.split("|")[1] for row in part.splitlines() if row.startswith("| `")]
        found[title[1]] = tuple(place for cell in cells for place in re.findall(r"`([^`]+)`", cell))
    return found


def text_of(place: str) -> str:
    path = ROOT / place
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def occurs(name: str, place: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text_of(place)) is not None


def test_every_plug_point_has_a_recipe() -> None:
    assert set(places()) == {
        "… a formulation",
        "… a solver",
        "… an autoscaler policy",
        "… a kind of subject to measure",
        "… a serving system to export to",
        "… a replay engine",
        "… a key of the pipeline file",
        "… an option of `plan`",
        "… a guarantee with a price",
        "… a format of measurements",
        "… a hardware type or profiles",
    }


@pytest.mark.parametrize("recipe", places())
def test_places_of_a_recipe_are_there(recipe: str) -> None:
    assert [place for place in places()[recipe] if not (ROOT / place).exists()] == []


#: Places that only what brings a package of its own needs.
OF_PACKAGES = ("pyproject.toml", ".importlinter", "tests/test_house.py")


def missing(recipe: str, name: str, leave_out: tuple[str, ...] = ()) -> list[str]:
    return [place for place in places()[recipe] if place not in leave_out and not occurs(name, place)]


@pytest.mark.parametrize("name", [info.name for info in available_solvers()])
def test_solver_stands_in_all_places(name: str) -> None:
    register = "mipplan/solvers/register.py"  # holds the class, which holds the name
    assert missing("… a solver", name, (*OF_PACKAGES, register)) == []


@pytest.mark.parametrize("name", FORMATS)
def test_format_of_measurements_stands_in_all_places(name: str) -> None:
    assert missing("… a format of measurements", name) == []


@pytest.mark.parametrize("name", POLICIES)
def test_policy_stands_in_all_places(name: str) -> None:
    variant = name in ("lp-lean", "ray-tuned")  # of a class that stands there under its own name
    assert missing("… an autoscaler policy", name, ("mipplan/tuner/policies/", "docs/api.md")) == []
    made = POLICIES[name]()
    assert variant or occurs(type(made).__name__, "mipplan/tuner/policies/")


@pytest.mark.parametrize("name", GUARANTEES)
def test_guarantee_with_a_price_stands_in_all_places(name: str) -> None:
    assert missing("… a guarantee with a price", name) == []


@pytest.mark.parametrize("name", SUBJECTS)
def test_kind_of_subject_stands_in_all_places(name: str) -> None:
    """The register is in the folder that holds the kinds."""
    assert missing("… a kind of subject to measure", name) == []


@pytest.mark.parametrize("name", ENGINES)
def test_engine_stands_in_all_places(name: str) -> None:
    assert (
        missing("… a replay engine", name, ("mipplan/replayer/engines/__init__.py",)) == []
    )  # holds the class


@pytest.mark.parametrize(
    "key", ["model", "hardware", "batch", "replicas", "join", "delay", "probability", "fanout"]
)
def test_key_of_the_pipeline_file_stands_in_all_places(key: str) -> None:
    assert missing("… a key of the pipeline file", key) == []


#: Arguments of `plan` that a plan need not remember: how it is searched for, what it is for, and who is told.
NOT_REMEMBERED = ("time_limit_s", "progress", "confidence", "drift", "seeds")
#: Arguments whose name in a plan, or on the command line, has another unit.
UNITS = {
    "slo_s": ("slo", "slo_ns"),
    "margin_s": ("margin", "margin_ns"),
    "budget_usd_per_hour": ("budget", "budget_microusd_per_hour"),
    "time_limit_s": ("time_limit",),
}
OPTIONS = [
    name
    for name, parameter in inspect.signature(mp.plan).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("progress", "formulation", "solver")
]


@pytest.mark.parametrize("option", OPTIONS)
def test_option_of_plan_stands_in_all_places(option: str) -> None:
    planning, _, _, record, _, documents, question = places()["… an option of `plan`"]
    names = (option, *UNITS.get(option, ()))
    needed = (planning, question) if option in NOT_REMEMBERED else (planning, record, documents, question)
    assert [place for place in needed if not any(occurs(name, place) for name in names)] == []


#: Options that few others share, and the rooms with an option of that name of their own.
DECLARED: dict[str, tuple[str, ...]] = {
    "headroom": ("scheduling", "variants"),
    "guarantee": ("variants",),
    "margin_s": ("core", "refinement", "tuner"),
    "envelope": ("calculus", "plots", "scheduling", "tuner"),
}


@cache
def declared(path: Path) -> set[str]:
    """Names of all parameters and fields that a module declares."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.ClassDef):
            fields = [entry.target for entry in node.body if isinstance(entry, ast.AnnAssign)]
            found |= {target.id for target in fields if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("option", DECLARED)
def test_option_of_plan_is_declared_in_few_places(option: str) -> None:
    package = ROOT / "mipplan"
    names = {option, *UNITS.get(option, ())}
    files = {path.relative_to(package): declared(path) & names for path in sorted(package.rglob("*.py"))}
    others = set(DECLARED[option])
    files = {path: found for path, found in files.items() if found and not others.intersection(path.parts)}
    assert {f"mipplan/{path}" for path in files} <= set(places()["… an option of `plan`"])


@pytest.mark.parametrize("name", FORMULATIONS)
def test_files_of_a_formulation_are_where_its_recipe_says(name: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = text[text.index("### … a formulation") : text.index("### … a solver")]
    named = re.findall(r"`([\w/.]*NAME\.\w+)`", recipe)
    assert named == ["time_cost/NAME.py", "NAME.md", "INSTANCE.NAME.lp"]
    for place in named:
        path = place.replace("NAME", name).replace("INSTANCE", "*")
        folders = (ROOT / "formulations" / folder for folder in ("", "mipplan_formulations", "golden"))
        assert any([*folder.glob(path)] for folder in folders), f"{path} is not there"
