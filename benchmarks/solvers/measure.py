"""Run the jobs of one problem: ``python -m benchmarks.solvers.measure NAME`` reads jobs in JSON, prints rows in JSON.

The process builds the problem, imports every solver's package once, and forks for each job.
"""

from __future__ import annotations

import json
import sys

from benchmarks.instances.building import build
from benchmarks.instances.specs import read_frozen
from benchmarks.solvers.jobs import GRACE_S, Job
from benchmarks.solvers.processes import INTERRUPTED, run_limited, terminated_like_interrupted
from benchmarks.solvers.rows import make_row
from benchmarks.solvers.work import load_packages, perform


def main(name: str) -> None:
    """Print a row for each job read from standard input, one a line, as it is done."""
    spec = next(spec for spec in read_frozen() if spec.name == name)
    problem = build(spec)
    load_packages()
    for line in sys.stdin:
        job = Job(**json.loads(line))
        ending = run_limited(
            lambda job=job: perform(job, problem),  # type: ignore[misc]
            time_limit_s=job.time_limit_s + GRACE_S,
            memory_limit_mib=job.memory_limit_mib,
        )
        row = make_row(spec, job, ending, problem.num_binaries, len(problem.paths))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    try:
        with terminated_like_interrupted():
            main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
