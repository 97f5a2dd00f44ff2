"""Hold the package to the recorded answers, or record them anew.

``python tests/golden/regenerate.py [PATTERN …]`` runs all cases, or those whose names hold a pattern, and prints what
differs from the files under ``answers``; with ``--write`` it overwrites them. Look at every difference before keeping
it: these files are there to show that an answer changed, be it in one digit or one word.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.pop("CI", None)  # CI tries a part of each answer

from golden.answering import CASES, answer, recorded, versions
from golden.cases import NEW_FIELDS
from golden.layout import ANSWERS
from golden.normalising import differences


def main() -> int:
    """Run the cases asked for; exit code 1 if some differ and are not written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="parts of names of cases")
    parser.add_argument("--write", action="store_true", help="overwrite recorded answers")
    asked = parser.parse_args()
    names = [name for name in CASES if not asked.patterns or any(part in name for part in asked.patterns)]
    changed = sum([_differs(name, write=asked.write) for name in names])
    if asked.write and not asked.patterns:
        _remove_left_over()
        (ANSWERS / "versions.json").write_text(laid_out(versions()), encoding="utf-8")
    print(f"{len(names)} cases, {changed} of them {'written' if asked.write else 'differ'}")
    return 1 if changed and not asked.write else 0


def _differs(name: str, *, write: bool) -> bool:
    found = answer(name)
    path = ANSWERS / f"{name}.json"
    before = recorded(name) if path.exists() else None
    if before == found and json.dumps(before) == json.dumps(found):
        return False
    print(name)
    for line in list(differences(before, found, NEW_FIELDS))[:10]:
        print(f"  {line}")
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(laid_out(found), encoding="utf-8")
    return True


def laid_out(document: Any) -> str:
    """JSON that can be compared by eye, without a line for every number."""
    return _text(document, "") + "\n"


def _text(value: Any, indent: str) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(short) <= 110 or not isinstance(value, dict | list):
        return short
    deeper = indent + " "
    if isinstance(value, dict):
        rows = [
            f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_text(part, deeper)}"
            for key, part in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + _text(part, deeper) for part in value) + f"\n{indent}]"


def _remove_left_over() -> None:
    for path in ANSWERS.rglob("*.json"):
        if str(path.relative_to(ANSWERS).with_suffix("")) not in {"versions", *CASES}:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main())
