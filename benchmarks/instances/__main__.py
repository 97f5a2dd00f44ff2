"""``python -m benchmarks.instances export FOLDER``: write the problems as files. ``check FOLDER FILE``: judge plans."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.compare import shared_data
from benchmarks.instances.best_known import read_records, write_records
from benchmarks.instances.library import export, judge_claims, take_over
from benchmarks.instances.specs import read_frozen


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; 1 if a claimed plan is not allowed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instances", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export", help="write the problems, linear models and best known values")
    exporting.add_argument("folder", type=Path)
    exporting.add_argument("--no-models", action="store_true", help="problems and best known values only")
    exporting.add_argument("--only", default="", help="problems with this in their names only")
    checking = commands.add_parser("check", help="judge the plans in a CSV file")
    checking.add_argument("folder", type=Path, help="where the library was exported to")
    checking.add_argument("file", type=Path, help="columns: name, selection")
    checking.add_argument(
        "--record", action="store_true", help="take better values over into best_known.json"
    )
    asked = parser.parse_args(arguments)
    if asked.command == "export":
        specs = [spec for spec in read_frozen() if asked.only in spec.name]
        if not specs:
            parser.error(f"argument --only: no problem has {asked.only!r} in its name")
        here = [spec for spec in specs if shared_data.is_present() or not spec.needs_shared_data]
        for spec in specs:
            if spec not in here:
                print(f"{spec.name}: left out, the public data are not beside the checkout", file=sys.stderr)
        export(asked.folder, here, read_records(), models=not asked.no_models)
        return 0
    try:
        claims = list(judge_claims(asked.folder, asked.file))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for claim in claims:
        print(f"{claim.name}: {'-' if claim.cost is None else claim.cost}: {claim.verdict}")
    if asked.record:
        write_records(take_over(read_records(), claims))
    allowed = ("better", "equal", "worse")
    return 0 if all(claim.verdict.split(":")[0] in allowed for claim in claims) else 1


if __name__ == "__main__":
    raise SystemExit(main())
