"""Options of all stages side by side, the judge of choices among them, and who bore witness against others before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import StageService
from mipplan.core import Float64, Int64
from mipplan.options import StageOptions
from mipplan.planner.instance import Instance
from mipplan.planner.witnesses import QueryCuts

#: So many groups of witnesses are remembered.
_REMEMBERED = 12


class Hearing:
    """Hears choices of options, which are numbered from 0, those of all stages one after the other (*rows*).

    Parameters
    ----------
    instance : Instance
    options : mapping of str to StageOptions
        None empty.
    number : mapping of str to int64 arrays
        What each of a stage's options is called in selections.
    is_allowed : callable
        Whether a selection keeps everything but the objective.
    witnesses : sequence of QueryCuts
        Known from elsewhere, of the same instance and the same order of stages.

    Attributes
    ----------
    stage : int64, shape (N,)
        Stage of every option, by its place.
    first : int64, shape (stages,)
        Where each stage's options start.
    latency, period, cost : float64, shape (N,)
        T and 1/R in ns, micro-dollars per hour.
    witnesses : list of QueryCuts
        Who refused last comes first.
    """

    def __init__(
        self,
        instance: Instance,
        options: Mapping[str, StageOptions],
        number: Mapping[str, Int64],
        is_allowed: Callable[[Mapping[str, int]], bool],
        witnesses: Sequence[QueryCuts] = (),
    ) -> None:
        self._instance = instance
        self._options = options
        self._number = number
        self._is_allowed = is_allowed
        tables = list(options.values())
        counts = [table.count for table in tables]
        self.stage = np.repeat(np.arange(len(tables)), counts)
        self.first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        # Ranks, since floats do not tell all rates apart.
        self._speed = np.concatenate([table.speed for table in tables])
        self._latency_ns = np.concatenate([table.latency_ns for table in tables])
        self.latency = self._latency_ns.astype(np.float64)
        self.period = np.concatenate([table.period_ns / table.tokens for table in tables])
        self.cost = np.concatenate([table.cost for table in tables]).astype(np.float64)
        self.witnesses = list(witnesses)

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self._options)

    def rows_of(self, selection: Mapping[str, int]) -> Int64:
        """Return what a selection's options are called here, −1 where one is not among these; shape (stages,)."""
        return np.array(
            [
                first + found[0]
                if (found := np.flatnonzero(self._number[name] == selection[name])).size
                else -1
                for first, name in zip(self.first.tolist(), self._options, strict=True)
            ]
        )

    def selection_of(self, choice: Int64) -> dict[str, int]:
        """Return a choice, shape (stages,), as a selection."""
        chosen = zip(self._number.items(), (choice - self.first).tolist(), strict=True)
        return {name: int(number[option]) for (name, number), option in chosen}

    def is_allowed(self, choice: Int64) -> bool:
        """Whether a choice keeps everything but the objective."""
        return self._is_allowed(self.selection_of(choice))

    def keeps_slo(self, choice: Int64) -> bool:
        """Put one choice before the judge; if it misses the objective, remember who bore witness."""
        chosen = zip(self._options.items(), (choice - self.first).tolist(), strict=True)
        services = {name: table.service(option) for (name, table), option in chosen}
        if self._instance.keeps_slo(services):
            return True
        self._learn(services)
        return False

    def is_hopeless(self, rows: Int64) -> bool:
        """Ask the judge, quickly, about the best of all stages together; if it refuses, remember who bore witness."""
        services = self._best_services(rows)
        if not self._instance.surely_misses_slo(services):
            return False
        self._learn(services)
        return True

    def is_known_refused(self, latency: Float64, period: Float64, asked: int) -> bool:
        """Whether some of the first witnesses refuse services, shape (stages,); they move to the front."""
        for place, witnesses in enumerate(self.witnesses[:asked]):
            if witnesses.refuse(witnesses.excess_ns(latency, period)):
                self.witnesses.insert(0, self.witnesses.pop(place))
                return True
        return False

    def not_refused(self, choices: Int64, asked: int | None = None) -> NDArray[np.int64]:
        """Places of the choices, shape (k, stages), that none of the first witnesses refuses, ascending."""
        left = np.arange(len(choices))
        for witnesses in self.witnesses[:asked]:
            if not left.size:
                break
            rows = choices[left]
            left = left[~witnesses.refuse_many(self.latency[rows], self.period[rows])]
        return left

    def are_better(self, choices: Int64, refused: Int64) -> NDArray[np.bool_]:
        """Which choices, shape (k, stages), have a smaller T or a greater R at some stage than one that was refused."""
        quicker = self._latency_ns[choices] < self._latency_ns[refused]
        faster = self._speed[choices] > self._speed[refused]
        better: NDArray[np.bool_] = np.any(quicker | faster, axis=1)
        return better

    def _best_services(self, rows: Int64) -> dict[str, StageService]:
        starts = np.searchsorted(self.stage[rows], np.arange(self.stages))
        services = {}
        for own, first, (name, table) in zip(
            np.split(rows, starts[1:]), self.first, self._options.items(), strict=True
        ):
            options = own - first
            fastest = options[np.argmax(table.speed[options])]
            latency_ns = int(table.latency_ns[options].min())
            services[name] = StageService(
                latency_ns, int(table.period_ns[fastest]), int(table.tokens[fastest])
            )
        return services

    def _learn(self, services: Mapping[str, StageService]) -> None:
        found = self._instance.witnesses(services, tuple(self._options))
        if found is not None:
            self.witnesses = [found, *self.witnesses[: _REMEMBERED - 1]]
