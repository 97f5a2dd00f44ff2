"""Whether a rebuilt house is slower: processor times of today's checkout against another one, in turns.

``python -m benchmarks.house.speed OTHER --rounds 5`` runs `cases` in a process of its own in this checkout and in
OTHER, a checkout of an earlier commit, one after the other, and writes medians and ratios to
``benchmarks/results/house/speed.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.house.hops import ROOT
from benchmarks.machine import describe
from benchmarks.provenance import commit_of

CASES = Path(__file__).with_name("cases.py")
RESULT = ROOT / "benchmarks" / "results" / "house" / "speed.json"


def main() -> None:
    """Run both checkouts in turns and write what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    for number in range(asked.rounds):
        for name, root in (("before", asked.other.resolve()), ("now", ROOT)):
            print(f"round {number + 1} of {asked.rounds}: {name}", file=sys.stderr)
            runs[name].append(measured_in(root))
    rows = {}
    for call in runs["now"][0]:
        before, now = (statistics.median(run[call] for run in runs[name]) for name in ("before", "now"))
        rows[call] = {"before_s": round(before, 4), "now_s": round(now, 4), "ratio": round(now / before, 3)}
        print(f"{call:34} {before:9.4f} s {now:9.4f} s {now / before:7.3f}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "commits": {"before": commit_of(asked.other), "now": commit_of()},
        "rounds": asked.rounds,
        "machine": describe("house"),
        "processor_time": rows,
    }
    RESULT.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def measured_in(root: Path) -> dict[str, float]:
    """Run the cases with the packages of a checkout."""
    path = os.pathsep.join(str(folder) for folder in (root, root / "formulations"))
    done = subprocess.run(
        [sys.executable, str(CASES)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
