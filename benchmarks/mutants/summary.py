"""The score of each subject: how many mutants were drawn, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, headline
from benchmarks.mutants.listing import SEED, Mutant
from benchmarks.mutants.record import Verdicts, reasons
from benchmarks.mutants.subjects import SUBJECTS

#: The share of each subject's faults that tests are to notice.
AIM = 0.95
TITLE = """| code | files | mutants | drawn | killed | timed out | equivalent | survived | score |
|---|---|---|---|---|---|---|---|---|"""


def judge_subject(name: str, listed: int, drawn: Sequence[Mutant], verdicts: Verdicts) -> dict[str, Any]:
    """Count the verdicts of one subject, and name every mutant that no test noticed."""
    rows = [(mutant, verdicts.of(name, mutant)) for mutant in drawn]
    counts = dict.fromkeys(("killed", "timed out", "survived"), 0)
    survivors = []
    for mutant, row in rows:
        if row is None:
            continue
        counts[row.outcome] += 1
        if row.outcome == "survived":
            before, after = mutant.change
            survivors.append(
                {
                    "at": f"{mutant.file}:{mutant.line}",
                    "in": mutant.scope,
                    "operator": mutant.operator,
                    "before": before,
                    "after": after,
                    "reason": reasons().get(mutant.key),
                }
            )
    return {
        "files": list(SUBJECTS[name].files),
        "mutants": listed,
        "drawn": len(drawn),
        "not judged": sum(row is None for _, row in rows),
        **counts,
        "equivalent": sum(each["reason"] is not None for each in survivors),
        "survivors": survivors,
    }


def score(counts: Mapping[str, Any]) -> float:
    """Share of the mutants that are faults and were noticed."""
    noticed = counts["killed"] + counts["timed out"]
    return float(noticed / max(1, noticed + counts["survived"] - counts["equivalent"]))


def explain(folder: Path) -> None:
    """Say anew which of the survivors are no faults; nothing is judged or counted again."""
    path = folder / "mutants.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for counts in document["subjects"].values():
        for each in counts["survivors"]:
            file = each["at"].rsplit(":", 1)[0]
            each["reason"] = reasons().get((file, each["in"], each["before"], each["after"]))
        counts["equivalent"] = sum(each["reason"] is not None for each in counts["survivors"])
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write(folder: Path, judged: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what was counted as ``mutants.json``; subjects that are not given stay as they are in it."""
    path = folder / "mutants.json"
    before = json.loads(path.read_text(encoding="utf-8"))["subjects"] if path.exists() else {}
    subjects = {name: {**before, **judged}[name] for name in SUBJECTS if name in {**before, **judged}}
    document = {"seed": SEED, "subjects": subjects}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "machine.json").write_text(json.dumps(describe("mutants"), indent=2) + "\n", encoding="utf-8")


def tell(folder: Path) -> str:
    """The table of scores, and every mutant that no test noticed."""
    subjects = json.loads((folder / "mutants.json").read_text(encoding="utf-8"))["subjects"]
    lines = [headline(folder / "machine.json"), "", TITLE]
    for name, counts in subjects.items():
        numbers = [counts[key] for key in ("mutants", "drawn", "killed", "timed out", "equivalent")]
        left = counts["survived"] - counts["equivalent"]
        cells = [name, len(counts["files"]), *numbers, left, f"{100 * score(counts):.1f} %"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    missing = {name: counts["not judged"] for name, counts in subjects.items() if counts["not judged"]}
    if missing:
        lines += ["", f"Not judged yet: {', '.join(f'{n} of {name}' for name, n in missing.items())}."]
    below = [f"{name} ({100 * score(c):.1f} %)" for name, c in subjects.items() if score(c) < AIM]
    outcome = f"missed for {', '.join(below)}" if below else "kept by each"
    lines += ["", f"Aim: at least {AIM:.0%} of the faults of each are noticed: {outcome}."]
    lines += ["", "Not noticed, and a fault:", ""]
    lines += [line for counts in subjects.values() for line in _survivors(counts, False)] or ["- none"]
    lines += ["", "Not noticed, and no fault:", ""]
    lines += [line for counts in subjects.values() for line in _survivors(counts, True)] or ["- none"]
    return "\n".join(lines) + "\n"


def _survivors(counts: Mapping[str, Any], explained: bool) -> list[str]:
    """One line per mutant: where, what and, if there is one, why it is no fault."""
    return [
        f"- `{each['at']}` {each['in']}: `{_line(each['before'])}` → `{_line(each['after'])}`"
        + (f". {each['reason']}" if explained else "")
        for each in counts["survivors"]
        if (each["reason"] is not None) == explained
    ]


def _line(text: str) -> str:
    return " ⏎ ".join(text.splitlines())
