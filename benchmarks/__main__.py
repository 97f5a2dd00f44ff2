"""``python -m benchmarks [NAME …] [--quick]``: run benchmarks, write their results and how old all are."""

from __future__ import annotations

import argparse
import signal
from importlib import import_module
from pathlib import Path

from benchmarks.reproduce import reproduce
from benchmarks.status import write_status

BENCHMARKS = {
    "motivation": "benchmarks.motivation.run",
    "planning": "benchmarks.planning.run",
    "replay": "benchmarks.replay.run",
    "compare": "benchmarks.compare.run",
    "reliability": "benchmarks.reliability.run",
    "solvers": "benchmarks.solvers.run",
    "resolve": "benchmarks.resolve.run",
    "tuner": "benchmarks.tuner.run",
    "race": "benchmarks.race.run",
    "race_days": "benchmarks.race_days.run",
    "frontier": "benchmarks.frontier.run",
    "fleet": "benchmarks.fleet.run",
    "ipa": "benchmarks.ipa.run",
    "environment": "benchmarks.environment.run",
    "truth": "benchmarks.truth.run",
    "faults": "benchmarks.faults.run",
    "ocr": "benchmarks.ocr.run",
    "follow": "benchmarks.follow.run",
    "house": "benchmarks.house.run",
    "models": "benchmarks.models.run",
}
RESULTS = Path(__file__).parent / "results"
#: Runs nothing: says which results are of today's code, as every run does at its end.
STATUS = "status"
#: Measures samples again of what takes long, to see whether today's code finds the same.
REPRODUCE = "reproduce"


def main() -> None:
    """Run the benchmarks asked for, all by default."""
    end_as_by_ctrl_c()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}; all by default; or {STATUS}, {REPRODUCE}",
    )
    parser.add_argument("--quick", action="store_true", help="a small part, to see that everything runs")
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure nothing, write the summaries of the rows that are there anew",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in (*BENCHMARKS, STATUS, REPRODUCE)]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    try:
        arguments.results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --results: {error}")
    unmeasured = []
    for name in arguments.names or BENCHMARKS:
        if name == REPRODUCE:
            reproduce(arguments.results)
        if name not in BENCHMARKS:
            continue
        benchmark, folder = import_module(BENCHMARKS[name]), arguments.results / name
        if arguments.report:
            try:
                benchmark.report(folder)
            except FileNotFoundError as error:
                unmeasured.append(f"{name}: there is no {error.filename}; run it first")
        else:
            benchmark.run(folder, quick=arguments.quick)
    print(write_status(arguments.results))
    if unmeasured:
        raise SystemExit("\n".join(unmeasured))


def end_as_by_ctrl_c() -> None:
    """Take SIGTERM for Ctrl-C, so that servers that were started are ended, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


if __name__ == "__main__":
    main()
