"""Cuts from a refused selection: which stages must get better, and by how much at least.

A certificate grows with every T and falls with every R. So if it fails at services (T_v, R_v), it fails wherever
no stage is better, and some stage must have a smaller T or a greater R. The cut is the stronger, the better
the services are that still fail: stages that can be made ideal without success drop out of it, and the others
are moved as far towards ideal as the certificate keeps failing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan.calculus import StageService
from mipplan.options import StageOptions
from mipplan_formulations import Cover

#: Per stage in the cut: (stage, T in ns, speed rank): some stage must beat its pair in T or in speed.
Cut = tuple[tuple[str, int, int], ...]


def strengthen(
    refused: Mapping[str, StageService],
    options: Mapping[str, StageOptions],
    make_test: Callable[[Mapping[str, StageService]], Callable[[Mapping[str, StageService]], bool]],
    order: Iterable[str],
    speed_first: bool,
) -> Cut:
    """Move refused services as far towards ideal as they stay refused.

    Parameters
    ----------
    refused : mapping of str to StageService
        Services whose certificate misses the objective.
    options : mapping of str to StageOptions
        What any plan of interest chooses from, and what is ideal therefore.
    make_test : callable
        Makes, from services that are refused, a test whether better ones surely are; monotone. Where it fails to
        recognise even `refused`, the cut stays at `refused`: valid, only weaker. It is made anew wherever
        one has led to, because it may see farther from there.
    order : iterable of str
        In which the stages are tried; what is found is maximal, but which maximum depends on it.
    speed_first : bool
        Whether a stage's R is raised before its T is lowered.

    Returns
    -------
    Cut
        By stage name; empty if even with all stages ideal the objective is missed.
    """
    services = dict(refused)
    while True:
        cut, moved = _strengthen_once(services, options, make_test(services), order, speed_first)
        if moved == services:
            return cut
        services = moved


def _strengthen_once(
    refused: Mapping[str, StageService],
    options: Mapping[str, StageOptions],
    is_refused: Callable[[Mapping[str, StageService]], bool],
    order: Iterable[str],
    speed_first: bool,
) -> tuple[Cut, dict[str, StageService]]:
    services = dict(refused)
    blamed: list[str] = []
    for stage in order:
        trial = {**services, stage: options[stage].ideal()}
        if is_refused(trial):
            services = trial
        else:
            blamed.append(stage)
    cut: list[tuple[str, int, int]] = []
    for stage in blamed:
        scale = _Scale.of(options[stage])
        services[stage], speed = scale.furthest(
            services[stage],
            lambda service, stage=stage: is_refused({**services, stage: service}),  # type: ignore[misc]
            speed_first,
        )
        cut.append((stage, services[stage].latency_ns, speed))
    return tuple(sorted(cut)), services


@dataclass(frozen=True)
class _Scale:
    """The distinct latencies and rates of a stage's options, from worse to better.

    Attributes
    ----------
    latencies : list of int
        T in ns, falling.
    speeds : list of int
        Speed ranks, rising …
    rates : list of (period_ns, tokens)
        … and the rates they stand for.
    """

    latencies: list[int]
    speeds: list[int]
    rates: list[tuple[int, int]]

    @classmethod
    def of(cls, table: StageOptions) -> _Scale:
        speeds, rows = np.unique(table.speed, return_index=True)
        rates = zip(table.period_ns[rows].tolist(), table.tokens[rows].tolist(), strict=True)
        return cls(np.unique(table.latency_ns)[::-1].tolist(), speeds.tolist(), list(rates))

    def furthest(
        self, start: StageService, holds: Callable[[StageService], bool], speed_first: bool
    ) -> tuple[StageService, int]:
        """Move a refused service as far as it stays refused, first along one axis, then along the other.

        Returns the service and its speed rank.
        """
        step = self.latencies.index(start.latency_ns)
        rank = next(i for i, (p, n) in enumerate(self.rates) if p * start.tokens == start.period_ns * n)
        for along_speed in (speed_first, not speed_first):
            if along_speed:
                candidates = [StageService(self.latencies[step], *rate) for rate in self.rates[rank:]]
                rank += _last_holding(candidates, holds)
            else:
                candidates = [StageService(latency, *self.rates[rank]) for latency in self.latencies[step:]]
                step += _last_holding(candidates, holds)
        return StageService(self.latencies[step], *self.rates[rank]), self.speeds[rank]


def cover_of(cut: Cut, options: Mapping[str, StageOptions]) -> Cover:
    """Write a cut as a cover: at least one of its stages takes an option that beats its pair."""
    index = {stage: position for position, stage in enumerate(options)}
    return Cover(
        tuple(
            (index[stage], (options[stage].latency_ns < latency_ns) | (options[stage].speed > speed))
            for stage, latency_ns, speed in cut
        )
    )


def _last_holding(candidates: Sequence[StageService], holds: Callable[[StageService], bool]) -> int:
    """Index of the last candidate for which `holds`: true for the first, and from some candidate on false."""
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if holds(candidates[middle]):
            low = middle
        else:
            high = middle - 1
    return low
