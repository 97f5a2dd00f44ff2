"""``python -m benchmarks.models fetch|ship|twice|trials|report``: the parts of the benchmark one by one."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.models.fetch import fetch
from benchmarks.models.run import measure_twice, report, ship, try_loads


def main() -> None:
    """Do the part asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    folder = Path(__file__).resolve().parents[1] / "results" / "models"
    parts = {
        "fetch": fetch,
        "ship": partial(ship, folder / "shipped"),
        "twice": partial(measure_twice, folder),
        "trials": partial(try_loads, folder),
        "report": partial(report, folder),
    }
    parser.add_argument("part", choices=parts)
    parts[parser.parse_args().part]()


if __name__ == "__main__":
    main()
