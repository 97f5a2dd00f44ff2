"""How many cases a randomised test runs, and what a long run leaves behind.

`MIPPLAN_DEEP=1` (``make deep``) turns the quick pass of a campaign into a long one, which records what it saw
in ``benchmarks/results/campaigns``.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "campaigns"


def is_deep() -> bool:
    """Whether long campaigns are asked for."""
    return os.environ.get("MIPPLAN_DEEP", "") not in ("", "0")


def campaign_size(quick: int, deep: int) -> int:
    """Return the number of cases to run."""
    return deep if is_deep() else quick


def write_summary(name: str, summary: dict[str, Any]) -> None:
    """Record a deep campaign as ``<name>.json``, with the versions it ran on; a quick one leaves nothing."""
    if not is_deep():
        return
    versions = {"python": platform.python_version(), "numpy": version("numpy")}
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"campaign": name, **summary, "versions": versions}, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
