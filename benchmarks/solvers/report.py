"""The report of a run: judged rows, best known values, summary, page and plots."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.instances.best_known import RECORDS, read_records, write_records
from benchmarks.instances.specs import read_frozen
from benchmarks.machine import publish
from benchmarks.solvers.plots import draw
from benchmarks.solvers.summary import summarise
from benchmarks.solvers.verdicts import find_contradictions, judge, update_records

ROWS = "solvers.csv"
#: The page with plots; the documentation takes in the summary alone.
PAGE = """# Formulations and solvers

![Performance profiles of all pairs of formulation and solver on the suite](profiles.png)

![How far linear relaxations are below the optimum](bounds.png)

![Growth of time with stages, modes and paths](growth.png)

{summary}"""


def write_report(table: pd.DataFrame, folder: Path, records_path: Path = RECORDS) -> list[str]:
    """Write everything but the machine's description into `folder`; return what contradicts each other.

    Parameters
    ----------
    table : DataFrame
        Rows as measured.
    folder : Path
    records_path : Path
        Best known values, updated in place.
    """
    judged = judge(table)
    contradictions = find_contradictions(judged)
    known = read_records(records_path)
    frozen = read_frozen()
    updated = {**known, **update_records(known, judged)}
    names = [spec.name for spec in frozen if spec.name in updated]
    records = {name: updated[name] for name in names}
    write_records(records, records_path)
    judged.drop(columns="selection").to_csv(folder / ROWS, index=False, float_format="%.10g")
    report(folder, records_path)
    optima = {name: r.cost for name, r in records.items() if r.status == "optimal" and r.cost is not None}
    draw(judged, optima, folder)
    return contradictions


def report(folder: Path, records_path: Path = RECORDS) -> pd.DataFrame:
    """Write the summary of the judged rows in `folder`, and the page with plots; return the rows."""
    judged = pd.read_csv(folder / ROWS, dtype={"fingerprint": str, "solver_version": str, "message": str})
    run = {
        name: known for name, known in read_records(records_path).items() if name in set(judged["instance"])
    }
    publish(folder, summarise(judged, run, find_contradictions(judged), frozen=len(read_frozen())), PAGE)
    return judged
