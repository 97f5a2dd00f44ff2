"""Jobs of a benchmark in processes of their own, going on where an interrupted run of the same code stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from benchmarks.provenance import keep_same_code, stamp

#: So many at once: the machine has two cores.
AT_ONCE = 2
#: Each process computes on one core, whatever its libraries would like.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
#: What a job is known by in the rows, in the order of its keys.
Job = TypeVar("Job", bound=tuple[Any, ...])


def begin(folder: Path, *, quick: bool) -> Path:
    """Make a benchmark's folder; return the file that keeps rows while a run lasts. Ends where numba is missing."""
    if find_spec("numba") is None:
        raise SystemExit("this benchmark needs numba: pip install 'mipplan[bench]'")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("partial-quick.csv" if quick else "partial.csv")


def missing_jobs(jobs: Sequence[Job], keys: Sequence[str], partial: Path, benchmark: str) -> list[Job]:
    """Jobs that have no rows of today's code yet; rows of other code are taken out of the file."""
    keep_same_code(partial, benchmark)
    done: set[tuple[Any, ...]] = set()
    if partial.exists():
        done = set(pd.read_csv(partial)[list(keys)].itertuples(index=False, name=None))
    return [job for job in jobs if job not in done]


@contextmanager
def process_pool(at_once: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for jobs. A run that is interrupted ends them and drops what waits; Python would go on to the end."""
    pool = ProcessPoolExecutor(at_once, initializer=_end_when_told)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


def _end_when_told() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def measure_missing(
    jobs: Sequence[Job],
    keys: Sequence[str],
    partial: Path,
    benchmark: str,
    measure: Callable[..., list[dict[str, Any]]],
) -> None:
    """Append the rows of each job that has none, once it is done; `measure` is called with what a job is known by."""
    left, stamped = missing_jobs(jobs, keys, partial, benchmark), stamp(benchmark)
    os.environ.update(ONE_THREAD)
    with process_pool(AT_ONCE) as pool:
        futures = {pool.submit(measure, *job): job for job in left}
        for number, future in enumerate(as_completed(futures), len(jobs) - len(left) + 1):
            append_rows(partial, future.result(), stamped)
            name = ", ".join(map(str, futures[future]))
            print(f"[{number}/{len(jobs)}] {name}", file=sys.stderr, flush=True)


def append_rows(partial: Path, rows: Iterable[dict[str, Any]], stamped: dict[str, Any]) -> None:
    """Append rows, stamped with the code that they are of, to the file that keeps them while a run lasts.

    Cells go to the columns that they are named after: jobs that find nothing have others, or the same in another order.
    """
    table = pd.DataFrame([{**row, **stamped} for row in rows])
    known = list(pd.read_csv(partial, nrows=0).columns) if partial.exists() else []
    columns = [*known, *(name for name in table.columns if name not in known)]
    if known and len(columns) > len(known):
        before = pd.read_csv(partial, dtype=str, keep_default_na=False)
        before.reindex(columns=columns, fill_value="").to_csv(partial, index=False)
    table.reindex(columns=columns).to_csv(partial, mode="a", header=not known, index=False)
