"""Install the package into fresh environments, with each extra in turn, and weigh what lies there.

Sizes are those of the files that each distribution lists in its record, in decimal megabytes (MB), without compiled
Python (``__pycache__``), which every machine makes for itself. It needs a package index, and takes some minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from benchmarks.machine import headline, record

ROOT = Path(__file__).resolve().parents[2]
#: Extras that users install; the others are for those who work on mipplan.
EXTRAS = ("fast", "drive", "serve", "profile", "ray", "all")
#: What is left of a fresh environment if nothing is installed.
BARE = ("pip", "setuptools")
#: Below this, a package is told with the rest.
SMALL_MB = 4.0
PURPOSE = {
    "aiohttp": "`drive` and `serve`: HTTP",
    "fonttools": "matplotlib",
    "highspy": "the solver HiGHS, the default",
    "joblib": "planning a fleet's pipelines, judging many plans: in parallel",
    "kiwisolver": "matplotlib",
    "llvmlite": "numba",
    "matplotlib": "figures (`--plot`); loaded when one is drawn",
    "mipplan": "itself, with its profiles, prices and traces",
    "networkx": "pipelines as graphs",
    "numba": "replay, and the sharp certificate, compiled",
    "numpy": "everything",
    "onnxruntime": "`profile`: runs ONNX models",
    "ortools": "the solvers CP-SAT and SCIP",
    "pandas": "profiles, tables, dates",
    "pillow": "matplotlib",
    "protobuf": "ortools",
    "pulp": "models as users of PuLP know them, and the solver CBC",
    "pyarrow": "traces and logs: CSV in pieces, Parquet; loaded when one is read or written",
    "pydantic": "documents: checks with places",
    "pydantic-core": "pydantic",
    "pygments": "rich",
    "ray": "fleets over a cluster, serving on Ray",
    "rich": "tables, progress",
    "scipy": "sparse matrices, distributions",
    "typer": "the command line",
    "tzdata": "pandas: time zones",
}
#: Run in the environment that is weighed.
WEIGH = """
import json
from importlib.metadata import distributions
print(json.dumps({
    each.metadata["Name"].lower().replace("_", "-"): [each.version, sum(
        path.stat().st_size for file in each.files or () if "__pycache__" not in file.parts
        for path in [each.locate_file(file)] if path.is_file())]
    for each in distributions()}))
"""


def run(folder: Path, *, quick: bool) -> None:
    """Write ``sizes.json`` and the summary into `folder`; a quick run weighs the base alone."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {extra: weigh(extra) for extra in ("", *(() if quick else EXTRAS))}
    (folder / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    record(folder / "machine.json", "environment")
    report(folder)


def weigh(extra: str) -> dict[str, tuple[str, int]]:
    """Install the checkout with one extra; version and bytes of each distribution."""
    print(f"environment: mipplan[{extra}] …", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        python = Path(scratch, "bin", "python")
        wanted = f"{ROOT}[{extra}]" if extra else str(ROOT)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
        subprocess.run(install, check=True)
        weighed = subprocess.run([python, "-c", WEIGH], check=True, capture_output=True, text=True)
    found: dict[str, tuple[str, int]] = json.loads(weighed.stdout)
    return {name: size for name, size in sorted(found.items()) if name not in BARE}


def report(folder: Path) -> None:
    """Write ``summary.md`` from the sizes that are there."""
    sizes: dict[str, dict[str, tuple[str, int]]] = json.loads(
        (folder / "sizes.json").read_text(encoding="utf-8")
    )
    base = sizes[""]
    lines = [headline(folder / "machine.json"), "", "| installed | MB | beyond the base |", "|---|---|---|"]
    for extra, found in sizes.items():
        name = f"`mipplan[{extra}]`" if extra else "`mipplan`"
        more = sorted(set(found) - set(base), key=lambda each: -found[each][1])
        large = [f"{each} {found[each][1] / 1e6:.0f}" for each in more if found[each][1] >= SMALL_MB * 1e6]
        said = ", ".join(large) or ("" if not more else "small packages")
        lines.append(f"| {name} | {_total(found):.0f} | {said} |")
    lines += ["", "| package | MB | what for |", "|---|---|---|"]
    largest = sorted(base.items(), key=lambda each: -each[1][1])
    for name, (version, size) in largest:
        if size >= SMALL_MB * 1e6:
            lines.append(f"| {name} {version} | {size / 1e6:.0f} | {PURPOSE.get(name, _needed_by(name))} |")
    rest = [size for _, (_, size) in largest if size < SMALL_MB * 1e6]
    lines.append(f"| {len(rest)} others | {sum(rest) / 1e6:.0f} | |")
    (folder / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _total(found: dict[str, tuple[str, int]]) -> float:
    return sum(size for _, size in found.values()) / 1e6


def _needed_by(name: str) -> str:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return "a dependency" if any(each.startswith(name) for each in declared) else "needed by a dependency"
