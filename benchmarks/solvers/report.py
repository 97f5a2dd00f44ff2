"""The report of a run: judged rows, best known values, summary, page and plots."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.instances.best_known import RECORDS, read_records, write_records
from benchmarks.instances.specs import read_frozen
from benchmarks.solvers.plots import draw
from benchmarks.solvers.summary import summarise
from benchmarks.solvers.verdicts import find_contradictions, judge, update_records

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
    judged.drop(columns="selection").to_csv(folder / "solvers.csv", index=False, float_format="%.10g")
    run = {name: record for name, record in records.items() if name in set(judged["instance"])}
    summary = summarise(judged, run, contradictions, frozen=len(frozen))
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    (folder / "README.md").write_text(PAGE.format(summary=summary), encoding="utf-8")
    optima = {name: r.cost for name, r in run.items() if r.status == "optimal" and r.cost is not None}
    draw(judged, optima, folder)
    print(summary)
    return contradictions
