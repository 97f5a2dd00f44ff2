"""What a result was measured on: commit, code, machine and versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.provenance import code_parts, commit_of, is_dirty, key_of_parts

PACKAGES = (
    "mipplan",
    "numpy",
    "scipy",
    "joblib",
    "highspy",
    "pulp",
    "ortools",
    "networkx",
    "numba",
    "simpy",
    "ciw",
)
#: What is said of results from before commits were recorded.
UNKNOWN = "commit unknown (before commits were recorded)"


def describe(benchmark: str) -> dict[str, Any]:
    """Commit, key of the code measured, day, processor, cores, memory and versions, as they go into every result."""
    parts = code_parts(benchmark)
    return {
        "commit": commit_of(),
        "dirty": is_dirty(),
        "code": key_of_parts(parts),
        "code_parts": parts,
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def record(path: Path, benchmark: str) -> None:
    """Write the description of what a benchmark was measured on."""
    path.write_text(json.dumps(describe(benchmark), indent=2) + "\n", encoding="utf-8")


def headline(path: Path) -> str:
    """Say on one line what `record` has written, or that nothing was: summaries begin with it."""
    machine = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    words = [processor_and_cores(machine)] if "processor" in machine else []
    return f"*Measured on {', '.join([commit_words(machine), *words])}.*"


def publish_quietly(folder: Path, told: str) -> str:
    """Write ``summary.md``, which begins with what it was measured on, and return it."""
    summary = f"{headline(folder / 'machine.json')}\n\n{told}"
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    return summary


def publish(folder: Path, told: str, page: str | None = None) -> None:
    """Write ``summary.md`` and ``README.md``, the page with plots, and print the summary."""
    summary = publish_quietly(folder, told)
    if page is not None:
        (folder / "README.md").write_text(page.format(summary=summary), encoding="utf-8")
    print(summary)


def commit_words(machine: dict[str, Any]) -> str:
    """Commit and day, with what has to be said about them."""
    if "commit" not in machine:
        return UNKNOWN
    commit, day = machine["commit"], f"({machine['measured']})" if "measured" in machine else ""
    if commit is None:
        return f"code outside a checkout {day}".strip()
    changes = "with uncommitted changes" if machine.get("dirty") else ""
    return " ".join(word for word in (f"commit {commit[:7]}", changes, day) if word)


def processor_and_cores(machine: dict[str, Any]) -> str:
    """The machine in a few words."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}"
    )


def processor() -> str:
    """Model of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    """None where it is not installed: not every benchmark needs all of them."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
