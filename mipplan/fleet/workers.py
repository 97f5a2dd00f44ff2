"""Pricing many pipelines at once through joblib, wherever its workers are.

A pipeline's data (pipeline, profiles, trace) travel once: the worker that is asked about it keeps what was made of
them, and leaves it in the run's folder for the other workers of the machine. A worker that has neither says so, and
is sent the data. What pricing learns comes back with each answer and goes out with the next request; all else that a
worker keeps makes it quicker only, so that an answer does not depend on which worker gives it.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mipplan.core import NO_DEADLINE, Deadline, Int64, end_with, lost_workers_told
from mipplan.fleet.pricing import Priced, Pricing, PricingState, pricing_of
from mipplan.fleet.problem import Fleet, Realisation, ReplayedMember


@dataclass(frozen=True)
class WorkerParams:
    """What workers keep, and how work is cut up for them."""

    #: At most this many tokens' traces are kept by a process, because of memory; the others are drawn again.
    most_tokens: int = 12_000_000
    #: At most this many tasks per worker and round, so that a slow one does not leave the others idle for long.
    tasks_per_worker: int = 6
    #: Every round of pricing may take so long, even beyond the time limit: it is the first one that answers anything.
    least_s: float = 0.3


@dataclass(frozen=True)
class PricingRequest:
    """A pipeline (one of its alternatives) to price; `most` is what a plan of interest costs at most."""

    index: int
    most: int | None
    state: PricingState
    wants_all: bool = False  # all plans within that cost instead of the cheapest


@dataclass(frozen=True)
class PricingTask:
    """Some requests for one worker."""

    folder: str  # of the run: where what other workers of the machine made lies, if they can see it
    hardware: tuple[str, ...]
    prices: Int64
    requests: tuple[PricingRequest, ...]
    data: Mapping[int, Realisation | ReplayedMember]  # of pipelines that are new, or that the worker has lost
    asking: int  # The process that waits for it.
    left_s: float = math.inf  # Seconds to answer in: workers have clocks of their own.
    params: WorkerParams = WorkerParams()


def answer(task: PricingTask) -> tuple[list[tuple[int, Priced, PricingState]], list[int]]:
    """Answer a task's requests, with what was learnt; also name the pipelines that this worker has no data of.

    Raises `LimitReachedError` if that takes longer than there is time.
    """
    end_with(task.asking)
    worker = worker_of(task.folder, task.hardware, task.params)
    deadline = Deadline(time.monotonic() + task.left_s)
    replies, missing = [], []
    for request in task.requests:
        deadline.check()
        problem = worker.problem(request, task.data.get(request.index), deadline)
        if problem is None:
            missing.append(request.index)
            continue
        if request.wants_all and request.most is not None:
            priced = problem.price_all(task.prices, request.most)
        else:
            priced = problem.price(task.prices, request.most)
        replies.append((request.index, priced, problem.state))
        worker.tidy(request.index, problem)
    return replies, missing


class _Worker:
    """The pricing problems of one run that this process has."""

    def __init__(self, folder: str, hardware: tuple[str, ...], params: WorkerParams) -> None:
        self._folder, self._hardware, self._params = Path(folder), hardware, params
        self._problems: dict[int, Pricing] = {}
        self._tokens: dict[int, int] = {}

    def problem(
        self, request: PricingRequest, data: Realisation | ReplayedMember | None, deadline: Deadline
    ) -> Pricing | None:
        problem = self._problems.get(request.index) or self._read(request.index)
        if problem is None and data is not None:
            problem = pricing_of(data, self._hardware, request.state, deadline)
            self._write(request.index, problem)
        if problem is not None:
            problem.deadline = deadline
            problem.recall(request.state)
            self._problems[request.index] = problem
        return problem

    def tidy(self, index: int, problem: Pricing) -> None:
        """Keep the trace at hand as long as there is room for it."""
        tokens = self._tokens.pop(index, 0) or problem.tokens
        if sum(self._tokens.values()) + tokens <= self._params.most_tokens:
            self._tokens[index] = tokens
            problem.forget_exits()
        else:
            problem.forget_instance()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.pickle"

    def _read(self, index: int) -> Pricing | None:
        try:
            with self._path(index).open("rb") as stream:
                problem: Pricing = pickle.load(stream)
        except FileNotFoundError:
            return None
        return problem

    def _write(self, index: int, problem: Pricing) -> None:
        if not self._folder.is_dir():
            return  # nobody else needs it, or nobody else could find it
        # A folder of this run only: it need not survive a crash, but whoever reads must find a whole file.
        part = self._folder / f"{uuid.uuid4().hex}.part"
        part.write_bytes(pickle.dumps(problem))
        part.replace(self._path(index))


@lru_cache(maxsize=1)
def worker_of(folder: str, hardware: tuple[str, ...], params: WorkerParams) -> _Worker:
    """Return what this process keeps of a run, which its folder tells from others."""
    return _Worker(folder, hardware, params)


@dataclass(eq=False)
class WorkerPool:
    """Has pipelines priced by joblib's workers; made by `open`."""

    fleet: Fleet
    folder: str
    parallel: Any
    count: int  # of workers
    params: WorkerParams

    def __post_init__(self) -> None:
        self._known: set[int] = set()
        #: What was learnt about each alternative of a pipeline.
        self.states = [PricingState()] * len(self.fleet.realisations)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, fleet: Fleet, n_jobs: int | None, params: WorkerParams = WorkerParams()
    ) -> Iterator[WorkerPool]:
        """Start workers (as many as ``joblib.Parallel`` makes of `n_jobs`); their folder goes with them.

        Raises `SolverError` if one is ended from outside.
        """
        import joblib

        with (
            lost_workers_told(),
            tempfile.TemporaryDirectory(prefix="mipplan-fleet-", ignore_cleanup_errors=True) as folder,
            joblib.Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="all") as parallel,
        ):
            count = int(joblib.effective_n_jobs(parallel.n_jobs))
            yield cls(fleet, f"{folder}/none" if count == 1 else folder, parallel, count, params)

    def price(
        self,
        prices: Int64,
        most: Mapping[int, int | None],
        deadline: Deadline = NO_DEADLINE,
        *,
        wants_all: bool = False,
    ) -> dict[int, Priced]:
        """Price pipelines, by index, each with the most that a plan of interest may cost.

        Raises `LimitReachedError` if the deadline passes before that is done; a moment there is always.
        """
        until = Deadline(max(deadline.at, time.monotonic() + self.params.least_s))
        answers: dict[int, Priced] = {}
        places = {index: self.fleet.places[index] for index in most}
        waiting = [
            PricingRequest(place, limit, self.states[place], wants_all)
            for index, limit in most.items()
            for place in places[index]
        ]
        unknown = {request.index for request in waiting} - self._known
        while waiting:
            tasks = self._tasks(prices, waiting, unknown, until.left_s())
            for replies, missing in self.parallel(tasks):
                for index, priced, state in replies:
                    answers[index], self.states[index] = priced, state
                    self._known.add(index)
                unknown.update(missing)
            waiting = [request for request in waiting if request.index not in answers]
        return {
            index: Priced.of_any([answers[place] for place in own], wants_all=wants_all)
            for index, own in places.items()
        }

    def _tasks(
        self, prices: Int64, requests: Sequence[PricingRequest], unknown: set[int], left_s: float
    ) -> Iterator[Any]:
        """Cut requests up; data are sent of pipelines that no worker was sent yet, or that one has lost."""
        import joblib

        count = min(len(requests), self.params.tasks_per_worker * self.count)
        for part in range(count):
            asked = tuple(requests[part::count])
            sent = [request.index for request in asked if request.index in unknown]
            data = {index: self.fleet.realisations[index] for index in sent}
            yield joblib.delayed(answer)(
                PricingTask(
                    self.folder, self.fleet.hardware, prices, asked, data, os.getpid(), left_s, self.params
                )
            )
