"""What is shipped: the source distribution, and the wheel that is built from it."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import mipplan as mp
from drawn_plans import drawn_plan, drawn_trace
from mipplan.logs import LogMetadata

ROOT = Path(__file__).resolve().parents[1]


def build(kind: str, source: Path, target: Path) -> Path:
    """Build without isolation: the back end is in the test environment, so nothing is fetched."""
    done = subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def source_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(source_distribution: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source_distribution) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("folder", "installed"),
    [
        ("mipplan", "mipplan"),
        ("formulations/mipplan_formulations", "mipplan_formulations"),
        ("profiles", "mipplan/shipped_profiles"),
    ],
)
def test_wheel_holds_exactly_the_files_of(folder: str, installed: str, wheel: dict[str, bytes]) -> None:
    here = files_below(ROOT / folder)
    there = {
        name.removeprefix(f"{installed}/"): content
        for name, content in wheel.items()
        if name.startswith(f"{installed}/")
        and (installed == "mipplan/shipped_profiles" or not name.startswith("mipplan/shipped_profiles/"))
    }
    assert here
    assert there == here


def test_wheel_holds_nothing_else(wheel: dict[str, bytes]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mipplan", "mipplan_formulations"}
    assert len(tops) == 3


def test_wheel_is_typed_licensed_and_has_the_command(wheel: dict[str, bytes]) -> None:
    assert {"mipplan/py.typed", "mipplan_formulations/py.typed"} <= wheel.keys()
    info = {
        name.split(".dist-info/")[1]: text.decode() for name, text in wheel.items() if ".dist-info/" in name
    }
    assert info["licenses/LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")
    commands = configparser.ConfigParser()
    commands.read_string(info["entry_points.txt"])
    assert dict(commands["console_scripts"]) == {"mipplan": "mipplan.cli:main"}
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in info["METADATA"]


def test_shipped_profiles_are_a_profile_folder(wheel: dict[str, bytes]) -> None:
    shipped = {name.removeprefix("mipplan/shipped_profiles/") for name in wheel if "shipped_profiles" in name}
    assert {
        "README.md",
        "hardware.yaml",
        "pipelines/video-monitoring.yaml",
        "traces/bursty.csv.gz",
    } <= shipped
    assert any(name.startswith("models/") and name.endswith(".csv") for name in shipped)


@pytest.mark.parametrize("name", ["tests", "docs", "formulations", "profiles"])
def test_source_distribution_holds_the_folder(name: str, unpacked: Path) -> None:
    assert files_below(unpacked / name).keys() == files_below(ROOT / name).keys()


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml"])
def test_source_distribution_holds_the_file(name: str, unpacked: Path) -> None:
    assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_wheel_is_the_same_to_the_byte_whenever_it_is_built(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = build("wheel", unpacked, tmp_path / "first").read_bytes()
    (unpacked / "README.md").touch()
    assert build("wheel", unpacked, tmp_path / "second").read_bytes() == first


def test_the_citation_names_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_hosted_workflows_and_templates_are_yaml(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(document) & {"jobs", "body", "blank_issues_enabled"}


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("make") is None, reason="make is not installed")
def test_what_pip_is_told_elsewhere_leads_nothing_out_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pip refuses `--user` in a virtual environment, and takes it from PIP_USER or from its own settings."""
    for name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
        monkeypatch.setenv(name, "1")
    told = subprocess.run(
        ["make", "--no-print-directory", "--file", "-", "PYTHON=python3", "told"],
        input="include Makefile\ntold:; @env\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"^PIP_(?:USER|TARGET|PREFIX|ROOT)=.*", told.stdout, re.MULTILINE) == ["PIP_USER=0"]


def test_a_checkout_that_is_not_installed_does_all_that_an_installed_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the path alone, our own version is unknown: a page ended with that, once all of it was computed."""
    read = importlib.metadata.version

    def version(package: str) -> str:
        if package == "mipplan":
            raise importlib.metadata.PackageNotFoundError(package)
        return read(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    page = mp.report(drawn_plan(), drawn_trace(), costs=False, compare=False, perturb=False, vary=False)
    assert "mipplan unknown, numpy " in page.html
    assert all(solver.available for solver in mp.solvers.available_problem_solvers())
    assert LogMetadata.here().mipplan == "unknown"
