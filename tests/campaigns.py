"""How many cases a randomised test runs, and what a long run leaves behind.

`MIPPLAN_DEEP=1` (``make deep``) turns the quick pass of a campaign into a long one, which records what it saw
in ``benchmarks/results/campaigns``.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "campaigns"


def is_deep() -> bool:
    """Whether long campaigns are asked for."""
    return os.environ.get("MIPPLAN_DEEP", "") not in ("", "0")


def campaign_size(quick: int, deep: int) -> int:
    """Return the number of cases to run."""
    return deep if is_deep() else quick


def write_summary(name: str, summary: dict[str, Any]) -> None:
    """Record a deep campaign as ``<name>.json``, with the code and machine it ran on; a quick one leaves nothing."""
    if not is_deep():
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"campaign": name, **summary, "machine": _machine()}, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


@cache
def _machine() -> dict[str, Any]:
    """Told once per process: the code does not change while tests run."""
    return describe("campaigns")
