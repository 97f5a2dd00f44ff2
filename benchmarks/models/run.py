"""Measure the models twice on a quiet machine, and try whether a loaded one is noticed.

What is shipped in ``profiles/`` was measured by `ship`, on a processor of its own.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.machine import processor, publish, record
from benchmarks.models.fetch import fetch, path_of
from benchmarks.models.summary import REPEATED, TRIALS, summarise
from mipplan.profiling import read_samples

#: One core of the machine; its price is that of a whole core of the instance named in ``profiles/hardware.yaml``.
HARDWARE, USD_PER_HOUR = "epyc_core", 0.0564525
#: A core of whatever machine this is.
CORE = "core"
#: Of `mipplan profile`, for each batch size.
_DEFAULT_LIMIT_S = 60.0
#: Batch sizes that other load disturbed are measured again, as `mipplan profile` asks for: so often in all.
_ATTEMPTS = 4
#: Seconds of a trial: two blocks of runs.
_TRIAL_S = 1.0
_TRIALS_OF_EACH = 10
#: At most this many runs of a batch size: all of them are in the record that is kept.
_MOST_RUNS = 10_000


class Job(NamedTuple):
    """What is measured, and for how long each batch size is where it is shipped."""

    name: str
    subject: str  # Of `fetch.SOURCES`, or a function of a module here.
    inputs: str
    batches: Sequence[int]
    time_limit_s: float


JOBS = (
    Job("ocr-decode", "ocr:decode", "ocr:page_files", (1, 2, 4), 6),
    Job("ppocr-detect", "ppocr-detect", "ocr:page_tensors", (1, 2, 4), 20),
    Job("ocr-crop", "ocr:crop", "ocr:page_maps", (1, 2, 4), 6),
    Job("ppocr-classify", "ppocr-classify", "ocr:turn_tensors", (1, 4, 16), 6),
    Job("ppocr-recognise", "ppocr-recognise", "ocr:line_tensors", (1, 4, 8), 12),
    Job("ocr-read", "ocr:read_text", "ocr:readings", (1, 4, 16), 6),
    Job("silero-vad", "silero-vad", "voice:windows", (1, 4, 16, 64), 6),
    Job("silero-vad-10s", "voice:detect", "voice:sounds", (1, 4, 16), 12),
)
#: Measured a second time: the models, and what runs one window after window; not the work around them.
AGAIN = tuple(job for job in JOBS if not job.name.startswith("ocr-"))
#: Shipped only: the CPU's part of profiles by model size, hardware and batch.
SIZES = (
    Job("resnet-18", "resnet-18", "", (1, 2, 4), 6),
    Job("resnet-50", "resnet-50", "", (1, 2, 4), 8),
    Job("resnet-152", "resnet-152", "", (1, 2, 4), 9),
)


def run(folder: Path, *, quick: bool) -> None:
    """Measure twice, and try loads, one after the other; a tenth of the time with `quick`."""
    fetch()
    measure_twice(folder, 0.1 if quick else 1.0)
    try_loads(folder, 1 if quick else _TRIALS_OF_EACH)
    report(folder)


def ship(folder: Path) -> None:
    """Measure what ``profiles/`` ships, into `folder`; only on the processor that it says it is of."""
    if "EPYC" not in processor():
        raise SystemExit(f"profiles are shipped of {HARDWARE}, and this is {processor()}")
    shutil.rmtree(folder, ignore_errors=True)
    for job in (*JOBS, *SIZES):
        _measure(job, folder, HARDWARE, job.time_limit_s)


def measure_twice(folder: Path, share: float = 1.0) -> None:
    """Measure every model, and right after that once more, as a user would: by the default limits."""
    with tempfile.TemporaryDirectory() as work:
        both = [Path(work) / time_of for time_of in ("first", "second")]
        for job, out in itertools.product(AGAIN, both):
            _measure(job, out, CORE, _DEFAULT_LIMIT_S * share)
        folder.mkdir(parents=True, exist_ok=True)
        _compare(both).to_csv(folder / REPEATED, index=False, float_format="%.6g")
    record(folder / "machine.json", "models")


def _measure(job: Job, out: Path, hardware: str, time_limit_s: float) -> None:
    is_function = ":" in job.subject
    for attempt in range(_ATTEMPTS):
        found = mp.measure(
            f"benchmarks.models.{job.subject}" if is_function else os.path.relpath(path_of(job.subject)),
            name=job.name,
            inputs=f"benchmarks.models.{job.inputs}" if job.inputs else None,
            hardware=hardware,
            usd_per_hour=USD_PER_HOUR,
            batches=job.batches,
            threads=1,
            out=out,
            time_limit_s=max(1.0, time_limit_s),
            params=mp.profiling.MeasuringParams(most_runs=_MOST_RUNS),
            # What an attempt could measure is kept.
            again=not attempt,
        )
        print(found, flush=True)
        if not found.failures:
            return


def report(folder: Path) -> None:
    """Write the summary of what was measured."""
    publish(folder, summarise(folder))


def _compare(folders: Sequence[Path]) -> pd.DataFrame:
    """One row per model and batch size: quantiles of both measurements."""
    both = [read_samples(folder) for folder in folders]
    rows = []
    for job in AGAIN:
        for batch in job.batches:
            row: dict[str, object] = {"model": job.name, "batch": batch}
            for time_of, samples in zip(("first", "second"), both, strict=True):
                found = samples.get((job.name, CORE), {}).get(batch)
                row[f"{time_of}_runs"] = 0 if found is None else found.size
                for quantile in (0.5, 0.99):
                    value = np.nan if found is None else np.quantile(found, quantile, method="higher")
                    row[f"{time_of}_p{100 * quantile:.0f}_ms"] = value
            rows.append(row)
    return pd.DataFrame(rows)


# --- does it notice other load? --------------------------------------------------------------------------------------


def try_loads(folder: Path, each: int = _TRIALS_OF_EACH) -> None:
    """Measure for a second again and again, idle and under loads, in random order; write what was said of it."""
    from benchmarks.models import voice

    sounds = voice.sounds(1)
    loads = [load for load in LOADS for _ in range(each)]
    trials = [*loads, *(["none"] * len(loads))]
    random.Random(5).shuffle(trials)
    voice.detect(sounds)
    rows = []
    for number, load in enumerate(trials, 1):
        with _loaded(load):
            found = mp.measure(
                lambda _batch: voice.detect(sounds), hardware="any", batches=[1], time_limit_s=_TRIAL_S
            )
        row = {"trial": number, "load": load, "runs": 0, "disturbed": 0, "said": found.failures.get(1, "")}
        for one in found.batches.values():
            left_out = json.dumps(one.disturbances, sort_keys=True)
            runs = one.latency_ns.size + one.warm_up + one.disturbed
            row |= {"runs": runs, "disturbed": one.disturbed, "said": left_out}
        rows.append(row)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / TRIALS, index=False)
    record(folder / "machine.json", "models")


def _spin() -> None:
    while True:
        pass


def _spin_now_and_then() -> None:
    """Busy half of the time, a twentieth of a second each."""
    while True:
        ends = time.monotonic() + 0.05
        while time.monotonic() < ends:
            pass
        time.sleep(0.05)


def _copy() -> None:
    """Move memory beyond all caches."""
    source = np.ones(2**25)
    target = np.empty_like(source)
    while True:
        np.copyto(target, source)


#: Processes that load the machine.
LOADS = {
    "one process": [_spin],
    "a process per core": [_spin] * (os.cpu_count() or 1),
    "memory": [_copy],
    "half of the time": [_spin_now_and_then],
}


@contextmanager
def _loaded(load: str) -> Iterator[None]:
    processes = [multiprocessing.Process(target=work, daemon=True) for work in LOADS.get(load, ())]
    for process in processes:
        process.start()
    # Memory has to be there before it can be copied; and what a trial before has left behind is to be over.
    time.sleep(0.3)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()
