"""Measure how far requests walk, and draw a plan's life: no timings, so any machine will do."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.house.hops import ROOT, measure_all
from benchmarks.house.picture import draw
from benchmarks.machine import record

PICTURE = ROOT / "docs" / "images" / "plan-life.svg"


def run(folder: Path, *, quick: bool) -> None:
    """Write ``hops.json`` into `folder`; unless it is a quick run, also the picture in the documentation."""
    folder.mkdir(parents=True, exist_ok=True)
    hops = measure_all()
    rows = {
        call: {
            "files": len(found.files),
            "functions": found.functions,
            "calls": found.calls,
            "depth": found.depth,
        }
        for call, found in hops.items()
    }
    (folder / "hops.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    record(folder / "machine.json", "house")
    draw(hops["plan, video-monitoring"], folder / "plan-life.svg" if quick else PICTURE)


def report(_: Path) -> None:
    """Nothing to write: there is no summary of the hops."""
