"""Profiles as pandas tables: hardware types by name, and a row for every measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mipplan.core import Fault, Faults, InputError, counted, listed, shown
from mipplan.profiles.tables import OPTIONAL_COLUMNS

_HARDWARE = ("usd_per_hour", "memory_gib", "limit", "source", "idle_w", "tdp_w", "power_source")
_KEYS = ("model", "hardware")
_MEASURED = ("batch", "latency_ms", *OPTIONAL_COLUMNS)
_TABLE = (*_KEYS, *_MEASURED, "latency", "source")


def document_of_frames(hardware: object, tables: object) -> dict[str, Any]:
    """Return the document that two tables stand for; raises `InputError` listing what is no such table."""
    faults = Faults()
    devices = faults.take(lambda: _checked("hardware", hardware, ("usd_per_hour",), _HARDWARE))
    rows = faults.take(lambda: _checked("tables", tables, (*_KEYS, "batch", "latency_ms"), _TABLE))
    faults.check()
    names, keys = devices.value.index, rows.value[list(_KEYS)].isna().any(axis=1)
    twice = names[names.duplicated()].unique()
    faults.add(*(Fault(f"hardware: {name}", "is given more than once") for name in twice))
    if keys.any():
        faults.add(Fault("tables", f"{counted(int(keys.sum()), 'row')} without model or hardware"))
    faults.check()
    entries = {
        str(name): {"source": ""}
        | {key: _whole(value) for key, value in entry.items() if not _is_missing(value)}
        for name, entry in devices.value.to_dict("index").items()
    }
    grouped = []
    for (model, name), rows_of in rows.value.groupby(list(_KEYS), sort=False, observed=True):
        # Rows come in any order, as in a file.
        group = rows_of.sort_values("batch", kind="stable", key=lambda sizes: pd.to_numeric(sizes, "coerce"))
        columns: dict[str, Any] = {"model": str(model), "hardware": str(name)}
        for column in _MEASURED:
            if column in group and not group[column].isna().all():
                columns[column] = [
                    _whole(value) if column == "batch" else value for value in group[column].tolist()
                ]
        if "latency" in group and not group["latency"].isna().all():  # one for all of a table
            chosen = group["latency"].unique().tolist()
            columns["latency"] = chosen[0] if len(chosen) == 1 else chosen
        sources = group["source"].fillna("").astype(str).tolist() if "source" in group else []
        grouped.append({**columns, "source": sources})
    return {"hardware": entries, "tables": grouped}


def frames_of_document(document: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return hardware types, by name, and measurements."""
    hardware = pd.DataFrame.from_dict(document["hardware"], orient="index").rename_axis("hardware")
    rows = [
        {
            key: value if isinstance(value, str) else value[row]
            for key, value in table.items()
            if isinstance(value, str) or value
        }
        for table in document["tables"]
        for row in range(len(table["batch"]))
    ]
    return hardware, pd.DataFrame(rows, columns=None if rows else [*_KEYS, "batch", "latency_ms"])


def _checked(name: str, table: object, needed: tuple[str, ...], known: tuple[str, ...]) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise InputError.one(name, f"expected a pandas DataFrame, found {shown(table)}")
    given = [str(column) for column in table.columns]
    faults = [Fault(f"{name}: {column}", "the column is missing") for column in needed if column not in given]
    twice = sorted({column for column in given if given.count(column) > 1})
    faults += [Fault(f"{name}: {column}", "there are several columns of this name") for column in twice]
    faults += [
        Fault(f"{name}: {column}", f"is no column of it; known are {listed(known)}")
        for column in given
        if column not in known
    ]
    InputError.raise_if(faults)
    return table


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _whole(value: Any) -> Any:
    """Return a whole number that pandas holds as a float, beside missing ones, as what it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
