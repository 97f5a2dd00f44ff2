"""``python -m benchmarks.mutants [SUBJECT …] [--mutants N]``: see whether tests notice when the code is wrong.

Goes on where it was stopped: a verdict counts until the file that was mutated changes, or the test that noticed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.mutants import summary
from benchmarks.mutants.listing import Mutant, draw, list_mutants
from benchmarks.mutants.record import Verdicts
from benchmarks.mutants.subjects import SUBJECTS

RESULTS = Path(__file__).resolve().parents[1] / "results" / "mutants"


def main() -> None:
    """Judge the mutants of the subjects asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument(
        "subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all by default"
    )
    parser.add_argument(
        "--mutants", type=int, metavar="N", help="draw N of each subject (default: its own number)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="judge so many at once (default: 1)"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="judge nothing, only say anew which survivors are no faults, and write the page",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.subjects if name not in SUBJECTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    # Shells start what runs in the background with Ctrl-C ignored, and it is how one stops this.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    folder: Path = arguments.results
    if arguments.report:
        _tell(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    code = 0
    drawn, listed = {}, {}
    for name in arguments.subjects or SUBJECTS:
        mutants = list_mutants(SUBJECTS[name].files)
        listed[name] = len(mutants)
        drawn[name] = draw(mutants, arguments.mutants or SUBJECTS[name].mutants)
        code = _judge_apart(name, drawn[name], folder, arguments.workers)
        if code != 0:
            break
    verdicts = Verdicts(folder / "verdicts.csv")
    if code == 0 and arguments.mutants is None:
        verdicts.settle(drawn)
    judged = {name: summary.judge_subject(name, listed[name], drawn[name], verdicts) for name in drawn}
    summary.write(folder, judged)
    _tell(folder)
    if code != 0:
        print("stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(code)


def _tell(folder: Path) -> None:
    """Say which survivors are no faults, and write the page."""
    summary.explain(folder)
    text = summary.tell(folder)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    print(text)


def _judge_apart(name: str, drawn: list[Mutant], folder: Path, workers: int) -> int:
    """Judge a subject in processes of its own, because what they import must not be there for the next."""
    verdicts = Verdicts(folder / "verdicts.csv")
    left = [mutant for mutant in drawn if verdicts.of(name, mutant) is None]
    if not left:
        return 0
    context = multiprocessing.get_context("fork")
    done = context.Value("i", len(drawn) - len(left))
    code = 0
    # The first by itself finds out how the tests do without a mutation, if nobody knows yet.
    for parts in ([[]], [left[worker::workers] for worker in range(workers)]):
        processes = [
            context.Process(target=_judge, args=(name, part, folder, done, len(drawn))) for part in parts
        ]
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join()
        except KeyboardInterrupt:
            for process in processes:
                process.terminate()
                process.join()
            return 130
        code = max((process.exitcode or 0 for process in processes), key=abs)
        if code != 0:
            break
    return code


def _judge(name: str, mutants: list[Mutant], folder: Path, done: Any, count: int) -> None:
    """Judge some mutants one after the other, each as soon as it is judged written down and told."""
    from benchmarks.mutants.judging import Judge

    try:
        verdicts = Verdicts(folder / "verdicts.csv")
        judge = Judge(SUBJECTS[name], folder / f"partial-{name}.json")
        for mutant in mutants:
            found = judge.judge(mutant.file, mutant.scope, mutant.source or "")
            verdicts.add(name, mutant, found.outcome, found.test, found.cpu_s)
            with done.get_lock():
                done.value += 1
                said = f"[{name} {done.value}/{count}] {found.outcome:9} {found.cpu_s:5.1f} s"
            print(f"{said} {mutant.file}:{mutant.line} {mutant.operator}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
