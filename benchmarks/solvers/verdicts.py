"""Whether all results can be true together: claimed optima, bounds and proofs are held against the plans found."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmarks.instances.best_known import Record

#: Costs are whole numbers; bounds of floating-point solvers are rounded up only if they exceed one by more.
_HALF = 0.5
#: A sum of nearly equal floats may be off by so much, relatively.
_ROUNDING = 1e-9
DECIDED = ("optimal", "infeasible")
WITH_PLAN = ("optimal", "feasible")


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ``wrong`` as termination, and a message, where they contradict a plan that is allowed.

    A plan in a row has been re-costed when it was made; where that failed the row is wrong already. Any plan of a
    problem then refutes a proof that there is none, a bound above its cost, and an optimum that is dearer (by more than
    the gap that was asked for).
    """
    judged = table.copy()
    judged["message"] = judged["message"].astype(object)
    costs = best_costs(table)
    for index, row in table.iterrows():
        cost = costs.get(row["instance"])
        if cost is not None and row["termination"] != "wrong":
            reason = _contradiction(row, cost)
            if reason:
                judged.loc[index, ["termination", "message"]] = ["wrong", reason]  # type: ignore[index]
    return judged


def best_costs(table: pd.DataFrame) -> dict[str, int]:
    """Cost of the cheapest allowed plan of each problem that has one."""
    with_plan = table[(table["kind"] == "solve") & table["termination"].isin(WITH_PLAN)]
    return {str(name): int(cost) for name, cost in with_plan.groupby("instance")["objective"].min().items()}


def find_contradictions(judged: pd.DataFrame) -> list[str]:
    """One line per wrong row."""
    wrong = judged[judged["termination"] == "wrong"]
    return [
        f"{row.instance}: {row.kind} {row.formulation} / {row.solver}, seed {row.seed}: {row.message}"
        for row in wrong.itertuples()
    ]


def update_records(records: Mapping[str, Record], judged: pd.DataFrame) -> dict[str, Record]:
    """Best known values by these rows, and by earlier records of the same problems."""
    updated = {}
    for name, rows in judged[judged["kind"] != "load"].groupby("instance", sort=False):
        known = records.get(str(name))
        if known is not None and known.fingerprint != rows["fingerprint"].iloc[0]:
            known = None
        updated[str(name)] = _record(rows, known)
    return updated


def _contradiction(row: pd.Series, cost: int) -> str:
    if row["termination"] == "infeasible":
        return f"said to be infeasible; there is a plan of {cost}"
    allowed = _HALF + _ROUNDING * cost
    if row["lower_bound"] > cost + allowed:
        return f"bound {row['lower_bound']:.10g}; there is a plan of {cost}"
    if row["kind"] == "solve" and row["termination"] == "optimal":
        claimed = row["objective"] * (1 - row["gap"])
        if claimed > cost + allowed:
            return f"said to be optimal at {row['objective']:.10g}; there is a plan of {cost}"
    return ""


def _record(rows: pd.DataFrame, known: Record | None) -> Record:
    sound = rows[rows["termination"] != "wrong"]
    solved = sound[sound["kind"] == "solve"]
    cost, selection = (known.cost, known.selection) if known is not None else (None, ())
    with_plan = solved[solved["termination"].isin(WITH_PLAN)]
    if len(with_plan) and (cost is None or with_plan["objective"].min() < cost):
        best = with_plan.loc[with_plan["objective"].idxmin()]
        cost, selection = int(best["objective"]), tuple(map(int, best["selection"].split()))
    exact = solved[solved["gap"] == 0]
    decided = exact[exact["termination"].isin(DECIDED)]
    proofs = set(decided["formulation"] + " / " + decided["solver"])
    if known is not None and known.status in DECIDED and known.cost == cost:
        proofs |= set(known.proven_by)
    bounds = sound["lower_bound"].dropna()
    bound = max(bounds.max() if len(bounds) else 0.0, (known.lower_bound or 0) if known is not None else 0)
    if cost is None:
        status = "infeasible" if proofs else "unknown"
    else:
        status = "optimal" if proofs or bound > cost - 1 + _ROUNDING * cost else "open"
    lower = cost if status == "optimal" else None if status == "infeasible" else int(bound)
    return Record(str(rows["fingerprint"].iloc[0]), status, cost, lower, selection, tuple(sorted(proofs)))
