"""``python -m benchmarks.solvers FOLDER``: write the report of the rows that an interrupted run has left there."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.solvers.run import report_so_far

if __name__ == "__main__":
    report_so_far(Path(sys.argv[1]))
