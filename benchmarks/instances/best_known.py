"""Best known values of the frozen problems, with the plans that attain them and who has proven what.

``best_known.json`` is written by the solver benchmark; a test re-costs every plan in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RECORDS = Path(__file__).with_name("best_known.json")


@dataclass(frozen=True)
class Record:
    """What is known of a problem.

    Attributes
    ----------
    fingerprint : str
    status : str
        ``optimal``, ``open`` (a plan, not proven best), ``infeasible`` (proven) or ``unknown`` (no plan, no proof).
    cost : int or None
        Of the cheapest plan known.
    lower_bound : int or None
        The best proven.
    selection : tuple of int
        A plan of that cost; empty if there is none.
    proven_by : tuple of str
        Pairs of formulation and solver that have proven the status, in alphabetical order.
    """

    fingerprint: str
    status: str
    cost: int | None
    lower_bound: int | None
    selection: tuple[int, ...]
    proven_by: tuple[str, ...]


def read_records(path: Path = RECORDS) -> dict[str, Record]:
    """Read what is known, by name of the problem; nothing if there is no file yet."""
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Record(
            entry["fingerprint"],
            entry["status"],
            entry["cost"],
            entry["lower_bound"],
            tuple(entry["selection"]),
            tuple(entry["proven_by"]),
        )
        for name, entry in entries.items()
    }


def write_records(records: Mapping[str, Record], path: Path = RECORDS) -> None:
    """Write them, one a line."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(asdict(record))}" for name, record in records.items()
    )
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
