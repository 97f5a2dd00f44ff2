"""Run every policy on every trace and shipped pipeline, going on where an interrupted run stopped."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from benchmarks.machine import describe
from benchmarks.tuner.contenders import RATES_RPS, measure
from benchmarks.tuner.plots import draw
from benchmarks.tuner.summary import summarise
from benchmarks.tuner.traffic import scenarios

AT_ONCE = 2
QUICK = ("spike", "burstier")
#: The page with plots; the documentation takes in the summary alone.
PAGE = """# Following traffic

![Cost and misses of all policies, trace by trace](planes.png)

![Policies on a spike, over time](spike.png)

{summary}"""


def run(folder: Path, *, quick: bool) -> None:
    """Write ``tuner.csv``, a summary, machine and plots into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts; delete it to start anew.
    """
    if find_spec("numba") is None:
        raise SystemExit("this benchmark needs numba: pip install 'mipplan[bench]'")
    pipelines = list(RATES_RPS)[:1] if quick else list(RATES_RPS)
    chosen = [one for one in scenarios() if not quick or one.name in QUICK]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ("partial-quick.csv" if quick else "partial.csv")
    _measure_missing([(pipeline, one.name) for pipeline in pipelines for one in chosen], partial)
    table = pd.read_csv(partial)
    places = {name: number for number, name in enumerate([*pipelines, *(one.name for one in chosen)])}
    table = table.sort_values(["pipeline", "trace"], key=lambda names: names.map(places), kind="stable")
    table.to_csv(folder / "tuner.csv", index=False, float_format="%.10g")
    partial.unlink()
    (folder / "machine.json").write_text(json.dumps(describe(), indent=2) + "\n")
    summary = summarise(table)
    (folder / "summary.md").write_text(summary)
    (folder / "README.md").write_text(PAGE.format(summary=summary))
    draw(table, folder)
    print(summary)


def _measure_missing(jobs: list[tuple[str, str]], partial: Path) -> None:
    """Append the rows of each pipeline and trace once they are done."""
    done: set[tuple[str, str]] = set()
    if partial.exists():
        done = {(str(row["pipeline"]), str(row["trace"])) for row in pd.read_csv(partial).to_dict("records")}
    left = [job for job in jobs if job not in done]
    # Each process computes on one core, whatever its libraries would like.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))
    with ProcessPoolExecutor(AT_ONCE) as pool:
        futures = {pool.submit(_job, *job): job for job in left}
        for number, future in enumerate(as_completed(futures), len(jobs) - len(left) + 1):
            rows = pd.DataFrame(future.result())
            rows.to_csv(partial, mode="a", header=not partial.exists(), index=False)
            print(f"[{number}/{len(jobs)}] {', '.join(futures[future])}", file=sys.stderr, flush=True)


def _job(pipeline: str, scenario: str) -> list[dict[str, object]]:
    (wanted,) = (one for one in scenarios() if one.name == scenario)
    return measure(pipeline, wanted)
