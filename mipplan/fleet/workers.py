"""Pricing many pipelines at once through joblib, wherever its workers are.

A pipeline's data (pipeline, profiles, trace) travel once: whoever is asked about it keeps what was made of them, and
leaves it in the run's folder for the other workers of the machine. A worker that has neither says so, and is sent the
data. What a pricer learns comes back with each answer and goes out with the next question; all else that a worker
keeps makes it quicker only, so that an answer does not depend on who gives it.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.fleet.columns import Memory, Priced
from mipplan.fleet.pricing import Pricer
from mipplan.fleet.request import Realisation

#: Tokens whose traces a process keeps at hand; what is beyond is made anew when a certificate needs it.
_MOST_TOKENS = 12_000_000
#: Tasks per worker and round, so that a slow one does not leave the others idle for long.
_TASKS_PER_WORKER = 6


@dataclass(frozen=True)
class Question:
    """What is asked about one pipeline.

    Attributes
    ----------
    index : int
    most : int or None
        Only plans of at most this cost are of interest.
    memory : Memory
    wants_all : bool
        Whether all plans within that cost are wanted instead of the cheapest.
    """

    index: int
    most: int | None
    memory: Memory
    wants_all: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer, and what was learnt on the way."""

    index: int
    priced: Priced
    memory: Memory


@dataclass(frozen=True)
class Task:
    """Some questions for one worker.

    Attributes
    ----------
    run : str
        Names the run.
    folder : str
        Where pricers of the run lie, on machines that see it.
    hardware : tuple of str
    prices : int64, shape (H,)
    questions : tuple of Question
    data : mapping of int to Realisation
        Of the pipelines that are asked about for the first time, or that the worker has lost.
    """

    run: str
    folder: str
    hardware: tuple[str, ...]
    prices: NDArray[np.int64]
    questions: tuple[Question, ...]
    data: Mapping[int, Realisation]


def answer(task: Task) -> tuple[list[Reply], list[int]]:
    """Answer a task's questions; also name the pipelines that this worker has no data of."""
    desk = _desk(task.run, task.folder, task.hardware)
    replies, missing = [], []
    for question in task.questions:
        pricer = desk.pricer(question, task.data.get(question.index))
        if pricer is None:
            missing.append(question.index)
            continue
        if question.wants_all and question.most is not None:
            priced = pricer.price_all(task.prices, question.most)
        else:
            priced = pricer.price(task.prices, question.most)
        replies.append(Reply(question.index, priced, pricer.memory))
        desk.tidy(question.index, pricer)
    return replies, missing


class _Desk:
    """The pricers of one run that this process has."""

    def __init__(self, folder: str, hardware: tuple[str, ...]) -> None:
        self._folder = Path(folder)
        self._hardware = hardware
        self._pricers: dict[int, Pricer] = {}
        self._tokens: dict[int, int] = {}

    def pricer(self, question: Question, data: Realisation | None) -> Pricer | None:
        pricer = self._pricers.get(question.index) or self._read(question.index)
        if pricer is None and data is not None:
            pricer = Pricer(data, self._hardware, question.memory)
            self._write(question.index, pricer)
        if pricer is None:
            return None
        pricer.recall(question.memory)
        self._pricers[question.index] = pricer
        return pricer

    def tidy(self, index: int, pricer: Pricer) -> None:
        """Keep the trace at hand as long as there is room for it."""
        tokens = self._tokens.pop(index, 0) or pricer.tokens
        if sum(self._tokens.values()) + tokens <= _MOST_TOKENS:
            self._tokens[index] = tokens
            pricer.forget_exits()
        else:
            pricer.forget_instance()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.pickle"

    def _read(self, index: int) -> Pricer | None:
        try:
            with self._path(index).open("rb") as stream:
                pricer: Pricer = pickle.load(stream)
        except FileNotFoundError:
            return None
        return pricer

    def _write(self, index: int, pricer: Pricer) -> None:
        if not self._folder.is_dir():
            return  # nobody else needs it, or nobody else could find it
        # A folder of this run only: it need not survive a crash, but whoever reads must find a whole file.
        part = self._folder / f"{uuid.uuid4().hex}.part"
        part.write_bytes(pickle.dumps(pricer))
        part.replace(self._path(index))


@lru_cache(maxsize=1)
def _desk(run: str, folder: str, hardware: tuple[str, ...]) -> _Desk:
    del run  # names the desk: folders may be used again
    return _Desk(folder, hardware)


class Office:
    """Puts questions about pipelines to joblib's workers.

    Parameters
    ----------
    realisations : sequence of Realisation
    hardware : tuple of str
    folder : str
        Where workers on this machine leave what they have made.
    parallel : joblib.Parallel
    n_jobs : int or None
        What it was made with.
    """

    def __init__(
        self,
        realisations: Sequence[Realisation],
        hardware: tuple[str, ...],
        folder: str,
        parallel: Any,
        n_jobs: int | None,
    ) -> None:
        self._realisations = realisations
        self._hardware = hardware
        self._folder = folder
        self._parallel = parallel
        self._n_jobs = n_jobs
        self._run = uuid.uuid4().hex
        self._known: set[int] = set()
        self.memories = [Memory()] * len(realisations)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, realisations: Sequence[Realisation], hardware: tuple[str, ...], n_jobs: int | None
    ) -> Iterator[Office]:
        """Open an office; its folder goes when it closes.

        Parameters
        ----------
        realisations, hardware
        n_jobs : int or None
            As for ``joblib.Parallel``; None leaves it to ``joblib.parallel_config``.
        """
        import joblib

        with (
            tempfile.TemporaryDirectory(prefix="mipplan-fleet-", ignore_cleanup_errors=True) as folder,
            joblib.Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="all") as parallel,
        ):
            alone = joblib.effective_n_jobs(parallel.n_jobs) == 1
            yield cls(realisations, hardware, f"{folder}/none" if alone else folder, parallel, n_jobs)

    @property
    def n_jobs(self) -> int | None:
        """Workers asked for; None if that was left to ``joblib.parallel_config``."""
        return self._n_jobs

    def ask(
        self, prices: NDArray[np.int64], most: Mapping[int, int | None], *, wants_all: bool = False
    ) -> dict[int, Priced]:
        """Price pipelines, by index, each with the most that a plan of interest may cost."""
        answers: dict[int, Priced] = {}
        waiting = [Question(index, limit, self.memories[index], wants_all) for index, limit in most.items()]
        lost: set[int] = set()
        while waiting:
            for replies, missing in self._parallel(self._tasks(prices, waiting, lost)):
                for reply in replies:
                    answers[reply.index] = reply.priced
                    self.memories[reply.index] = reply.memory
                    self._known.add(reply.index)
                lost.update(missing)
            waiting = [question for question in waiting if question.index not in answers]
        return {index: answers[index] for index in most}

    @property
    def at_once(self) -> int:
        """How many pipelines to ask about at once where an answer may make the others needless."""
        import joblib

        return 4 * int(joblib.effective_n_jobs(self._parallel.n_jobs))

    def _tasks(
        self, prices: NDArray[np.int64], questions: Sequence[Question], lost: set[int]
    ) -> Iterator[Any]:
        import joblib

        count = min(len(questions), _TASKS_PER_WORKER * joblib.effective_n_jobs(self._parallel.n_jobs))
        for part in range(count):
            asked = tuple(questions[part::count])
            data = {
                question.index: self._realisations[question.index]
                for question in asked
                if question.index not in self._known or question.index in lost
            }
            yield joblib.delayed(answer)(Task(self._run, self._folder, self._hardware, prices, asked, data))
