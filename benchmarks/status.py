"""Which results are of today's code: ``python -m benchmarks status`` prints it and writes ``results/status.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.deep_record import commits_of_campaigns
from benchmarks.machine import commit_words
from benchmarks.provenance import ROOT, STAMP, code_parts
from benchmarks.reproduce import SAMPLES, WRITTEN, tell_reproduced

#: Result: the benchmark whose subject it is of, and the file that says what it was measured on.
RESULTS = {
    "motivation": ("motivation", "motivation/machine.json"),
    "planning": ("planning", "planning/machine.json"),
    "replay": ("replay", "replay/machine.json"),
    "limits.json": ("limits", "limits.json"),
    "compare": ("compare", "compare/machine.json"),
    "compare/ties.md": ("ties", "compare/ties.json"),
    "compare/shipped.md": ("shipped", "compare/shipped.json"),
    "reliability": ("reliability", "reliability/machine.json"),
    "solvers": ("solvers", "solvers/machine.json"),
    "resolve": ("resolve", "resolve/machine.json"),
    "tuner": ("tuner", "tuner/machine.json"),
    "tuner/day.json": ("tuner", "tuner/day.json"),
    "race": ("race", "race/machine.json"),
    "race_days": ("race_days", "race_days/machine.json"),
    "frontier": ("frontier", "frontier/machine.json"),
    "fleet": ("fleet", "fleet/machine.json"),
    "ipa": ("ipa", "ipa/machine.json"),
    "environment": ("environment", "environment/machine.json"),
    "truth": ("truth", "truth/machine.json"),
    "faults": ("faults", "faults/machine.json"),
    "ocr": ("ocr", "ocr/machine.json"),
    "follow": ("follow", "follow/machine.json"),
    "follow/beginnings.md": ("follow", "follow/beginnings.json"),
    "house/hops.json": ("house", "house/machine.json"),
    "house/speed.json": ("house", "house/speed.json"),
    "models": ("models", "models/machine.json"),
    "mutants": ("mutants", "mutants/machine.json"),
    "deep": ("campaigns", "deep/machine.json"),
}
#: Of these, a campaign need not reach all.
ROOMS = {"mipplan", "tests"}


def write_status(results: Path) -> str:
    """Write ``status.md`` into a folder of results, and return it."""
    text = tell_status(results)
    (results / "status.md").write_text(text, encoding="utf-8")
    return text


def tell_status(results: Path) -> str:
    """One row per result that is there: its commit, and whether the code it measured is today's."""
    lines = ["| result | measured on | is that today's code? |", "|---|---|---|"]
    for name, (benchmark, file) in RESULTS.items():
        if (results / name).exists():
            machine = read_machine(results / file)
            said = _say(changed_parts(machine, benchmark)) + _not_passed(machine)
            if name in SAMPLES and said != "yes":
                said += tell_reproduced(results / name / WRITTEN, benchmark)
            lines.append(
                f"| `{name}` | {commit_words(machine)}{_other_rows(results / name, machine)} | {said} |"
            )
    still_counting = cache(lambda: commits_of_campaigns(results / "deep", ROOT))
    for files, machine in _campaigns(results / "campaigns"):
        changed = changed_parts(machine, "campaigns")
        # Maybe only such rooms and tests have changed as have nothing to do with these.
        as_before = changed and set(changed) <= ROOMS and (machine["commit"] or "")[:12] in still_counting()
        said = f"yes, and of {_named(changed)} all that they reach" if as_before else _say(changed)
        lines.append(f"| `campaigns/`, {files} files | {commit_words(machine)} | {said} |")
    return "\n".join(lines) + "\n"


def read_machine(path: Path) -> dict[str, Any]:
    """Read what a result was measured on; nothing if nobody has written it down."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    commits = {"commit": document["commits"]["now"]} if "commits" in document else {}
    return commits | document.get("machine", document)


def changed_parts(machine: dict[str, Any], benchmark: str) -> list[str] | None:
    """Name what has changed since of the code measured; None where no key was recorded."""
    before, now = machine.get("code_parts"), code_parts(benchmark)
    if before is None:
        return None
    return [part for part in sorted({*before, *now}) if before.get(part) != now.get(part)]


def _say(changed: list[str] | None) -> str:
    """Say whether the code measured is today's, and if not, what of it has changed since."""
    if changed is None:
        return "not known: no key was recorded"
    return f"no: changed since in {_named(changed)}" if changed else "yes"


def _named(parts: list[str] | None) -> str:
    return ", ".join(f"`{part}`" for part in parts or ())


def _not_passed(machine: dict[str, Any]) -> str:
    """Say how much of a long run of the tests is still to come, or failed."""
    files, passed = machine.get("test_files", 0), machine.get("test_files_passed", 0)
    return f", but {files - passed} of {files} files of tests have not passed yet" if passed < files else ""


def _other_rows(folder: Path, machine: dict[str, Any]) -> str:
    """Say which rows are of other code than the result: somebody put them together by hand."""
    said = ""
    for path in sorted(folder.glob("*.csv")):
        rows = pd.read_csv(path, dtype=str, usecols=lambda column: column in STAMP)
        if set(STAMP) <= set(rows):
            other = rows[rows["code"] != machine.get("code")]
            commits = ", ".join(commit[:7] for commit in other["commit"].unique())
            said += f"; {len(other):,} of {len(rows):,} rows on {commits}" if commits else ""
    return said


def _campaigns(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Campaigns by the code that they ran on."""
    machines = [read_machine(path) for path in sorted(folder.glob("*.json"))]
    kinds = [
        {key: each[key] for key in ("commit", "dirty", "measured", "code_parts") if key in each}
        for each in machines
    ]
    for kind in {json.dumps(kind): kind for kind in kinds}.values():
        yield kinds.count(kind), kind
