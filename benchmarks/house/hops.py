"""How many files, functions and layers of the package one request goes through, measured with a profiler hook.

``python -m benchmarks.house.hops`` prints a table; with ``--files`` also the files that each call enters. Every call is
made once before it is measured, so that imports and caches are no part of it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import mipplan as mp

ROOT = Path(__file__).resolve().parents[2]
_PROFILES = ROOT / "profiles"


@dataclass(frozen=True)
class Hops:
    """What one call went through.

    Attributes
    ----------
    calls_of : mapping of str to int
        The package's own files that were entered, relative to the checkout, with the calls of their functions; most
        calls first.
    functions : int
        Distinct functions of the package (comprehensions and lambdas count).
    calls : int
        Calls of them.
    depth : int
        Most frames of the package on the stack at once.
    """

    calls_of: dict[str, int]
    functions: int
    calls: int
    depth: int

    @property
    def files(self) -> tuple[str, ...]:
        """Files entered, most calls first."""
        return tuple(self.calls_of)


def measure(call: Callable[[], object]) -> Hops:
    """Make the call under a profiler hook."""
    folders = tuple(f"{Path(module.__file__ or '').parent}/" for module in _packages())
    own: dict[CodeType, bool] = {}
    counts: Counter[CodeType] = Counter()
    depth = deepest = 0

    def hook(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth, deepest
        code = frame.f_code
        if code not in own:
            own[code] = code.co_filename.startswith(folders)
        if not own[code]:
            return
        if event == "call":
            counts[code] += 1
            depth += 1
            deepest = max(deepest, depth)
        elif event == "return":
            depth -= 1

    before = sys.getprofile()
    sys.setprofile(hook)
    try:
        call()
    finally:
        sys.setprofile(before)
    files: Counter[str] = Counter()
    for code, count in counts.items():
        files[_relative(code.co_filename)] += count
    return Hops(dict(files.most_common()), len(counts), counts.total(), deepest)


def _packages() -> tuple[Any, ...]:
    import mipplan_formulations

    return mp, mipplan_formulations


def _relative(name: str) -> str:
    path = Path(name)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else name


def measure_all() -> dict[str, Hops]:
    """Measure planning, replaying, certifying and tuning; a few seconds."""
    profiles = mp.Profiles.read(_PROFILES)
    video, cascade = (
        mp.Pipeline.read(_PROFILES / "pipelines" / f"{name}.yaml") for name in ("video-monitoring", "cascade")
    )
    bursty, steady = (
        mp.Trace.read(_PROFILES / "traces" / f"{name}.csv.gz", end_s=20) for name in ("bursty", "steady")
    )
    plan = mp.plan(video, profiles, bursty)
    hops: dict[str, Hops] = {}
    for name, call in {
        "plan, video-monitoring": lambda: mp.plan(video, profiles, bursty),
        "plan, cascade": lambda: mp.plan(cascade, profiles, steady),
        "replay, numpy engine": lambda: mp.replay(plan, bursty, engine="numpy"),
        "certify": lambda: mp.certify(plan, bursty),
        "Tuner(plan, sample=…)": lambda: mp.Tuner(plan, sample=bursty),
    }.items():
        call()
        hops[name] = measure(call)
    _retuned(mp.Tuner(plan, sample=bursty), bursty)
    return hops | _retuned(mp.Tuner(plan, sample=bursty), bursty)


def _retuned(tuner: mp.Tuner, trace: mp.Trace) -> dict[str, Hops]:
    half = len(trace) // 2
    tuner.observe(trace.arrival_ns[:half])
    first = measure(tuner.retune)
    tuner.observe(trace.arrival_ns[half:])
    return {"retune, first": first, "retune, second": measure(tuner.retune)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", action="store_true", help="list the files that each call enters")
    asked = parser.parse_args()
    hops = measure_all()
    print(f"{'call':24} {'files':>6} {'functions':>10} {'calls':>8} {'depth':>6}")
    for name, hop in hops.items():
        print(f"{name:24} {len(hop.files):6} {hop.functions:10} {hop.calls:8,} {hop.depth:6}")
    if asked.files:
        for name, hop in hops.items():
            print(f"\n{name}")
            print("\n".join(f"  {file}" for file in hop.files))


if __name__ == "__main__":
    main()
