"""Run the benchmark: every way of re-solving is given the same models, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.machine import publish, record
from benchmarks.resolve.instances import CASES, Case, make_traffic, make_tuner
from benchmarks.resolve.peers import PEERS
from benchmarks.resolve.plots import draw
from benchmarks.resolve.summary import summarise
from mipplan.solvers import IncrementalLp
from mipplan.tuner import joint, scaling_solver
from mipplan_formulations import LinearModel

#: Steps until everything is loaded; not measured.
WARM = 5
WHOLE = "mipplan retune"
ROWS = "resolve.csv"
#: Objectives that differ by more than this, relative, are not those of one problem.
AGREED = 1e-5


def run(folder: Path, *, quick: bool) -> None:
    """Measure every case and way and write ``resolve.csv``, a summary, machine and plot into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, case in enumerate(CASES):
        if quick and number > 1:
            break
        objectives: dict[str, list[float]] = {}
        for way in (WHOLE, *PEERS):
            measured = _in_own_process(number, way, WARM + 15 if quick else case.steps)
            objectives[way] = measured.pop("objectives")
            rows.append({"case": case.name, "way": way, **measured})
            shown = f"{measured['median_ms']:.3f} ms, P99 {measured['p99_ms']:.3f} ms"
            print(f"{case.name}, {way}: {shown}", file=sys.stderr, flush=True)
        _check_agreement(case, objectives)
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.6g")
    record(folder / "machine.json", "resolve")
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and return them."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table))
    return table


def measure(case: Case, way: str) -> dict[str, Any]:
    """Time one way in this process: every step by itself."""
    models, seconds, rebuilt, shares = [], [], 0, []
    tuner, traffic = make_tuner(case), make_traffic(case)
    collected = tuner if way == WHOLE else None
    if way != WHOLE:
        models = collect_models(case)
    objectives: list[float] = []
    if collected is not None:
        for step in traffic:
            started = time.perf_counter()
            decided = collected.retune(traffic=step)
            seconds.append(time.perf_counter() - started)
            first = next(iter(decided.values()))
            rebuilt += not first.reused
            shares.append(first.share)
    else:
        solve = PEERS[way]()
        for model in models:
            started = time.perf_counter()
            objectives.append(solve(model))
            seconds.append(time.perf_counter() - started)
    ms = 1e3 * np.array(seconds[WARM:])
    return {
        "solves": len(ms),
        "median_ms": float(np.median(ms)),
        "p90_ms": float(np.quantile(ms, 0.9)),
        "p99_ms": float(np.quantile(ms, 0.99)),
        "most_ms": float(ms.max()),
        "models_built": rebuilt if way == WHOLE else None,
        "steps_short_of_devices": sum(share < 1 for share in shares) if way == WHOLE else None,
        "objectives": objectives,
    }


def collect_models(case: Case) -> list[LinearModel]:
    """All relaxations of a case, in order: of steps, too, that nothing binds, which mipplan answers without any."""
    models: list[LinearModel] = []

    class Collecting(IncrementalLp):
        def solve(self, model: LinearModel) -> Any:
            models.append(model)
            return super().solve(model)

    class Relaxing(joint.Scaler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.is_plain = False

    with patch.object(scaling_solver, "IncrementalLp", Collecting), patch.object(joint, "Scaler", Relaxing):
        tuner = make_tuner(case)
        for step in make_traffic(case):
            tuner.retune(traffic=step)
    shape = models[0].matrix.shape
    # A pipeline solved by itself has a model of its own; kept ways keep one.
    alike = [model for model in models if model.matrix.shape == shape]
    if len(alike) <= WARM:
        raise RuntimeError(f"{case.name}: only {len(alike)} relaxations in {case.steps} steps")
    return alike


def _check_agreement(case: Case, objectives: dict[str, list[float]]) -> None:
    ways = [way for way in objectives if way != WHOLE]
    for way in ways[1:]:
        pairs = zip(objectives[ways[0]], objectives[way], strict=True)
        for number, (ours, theirs) in enumerate(pairs):
            if ours != theirs and not abs(ours - theirs) <= AGREED * abs(ours):
                raise RuntimeError(f"{case.name}, model {number}: {ways[0]} {ours}, {way} {theirs}")


def _in_own_process(number: int, way: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.resolve.run", str(number), way, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


if __name__ == "__main__":
    chosen = replace(CASES[int(sys.argv[1])], steps=int(sys.argv[3]))
    print(json.dumps(measure(chosen, sys.argv[2])))
