"""From a choice that just misses the objective to one that keeps it, at little extra cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mipplan.calculus import StageService
from mipplan.options import StageOptions
from mipplan.planner.instance import Instance

Selection = Mapping[str, int]


def repair(
    instance: Instance, options: Mapping[str, StageOptions], refused: Selection, most: int
) -> dict[str, int] | None:
    """Exchange one option after another, each time the one that saves most latency per dollar.

    Parameters
    ----------
    instance : Instance
    options : mapping of str to StageOptions
    refused : mapping of str to int
        Option of each stage; misses the objective.
    most : int
        What the repaired choice may cost (micro-dollars per hour).

    Returns
    -------
    dict of str to int, or None
        A choice that keeps the objective; None if the way to one gets too dear or ends.
    """
    selection = dict(refused)
    while True:
        services = _services(options, selection)
        if instance.keeps_slo(services):
            return selection
        test = instance.quick_test(services)
        excess_ns = test.floor_ns(services) - instance.deadline_ns
        spare = most - sum(int(options[stage].cost[option]) for stage, option in selection.items())
        best: tuple[float, str, int] | None = None
        for stage, option, extra in _steps(options, selection, spare):
            left_ns = (
                test.floor_ns({**services, stage: options[stage].service(option)}) - instance.deadline_ns
            )
            if left_ns < excess_ns:
                # More than what is in excess is worth nothing. (The test, which rounds down, may see no excess.)
                worth = min(excess_ns - left_ns, max(excess_ns, 1)) / extra
                if best is None or worth > best[0]:
                    best = worth, stage, option
        if best is None:
            return None
        selection[best[1]] = best[2]


def _services(options: Mapping[str, StageOptions], selection: Selection) -> dict[str, StageService]:
    return {stage: options[stage].service(option) for stage, option in selection.items()}


def _steps(
    options: Mapping[str, StageOptions], selection: Selection, spare: int
) -> Iterator[tuple[str, int, int]]:
    """Per stage the cheapest dearer options with a smaller T or a greater R, with and without loss in the other.

    Yields stage, option and extra cost.
    """
    for stage, table in options.items():
        chosen = selection[stage]
        extra = table.cost - table.cost[chosen]
        dearer = (extra > 0) & (extra <= spare)
        quicker, faster = table.latency_ns < table.latency_ns[chosen], table.speed > table.speed[chosen]
        no_slower = table.latency_ns <= table.latency_ns[chosen]
        no_weaker = table.speed >= table.speed[chosen]
        found: set[int] = set()
        for wanted in (quicker, faster, quicker & no_weaker, faster & no_slower):
            rows = np.flatnonzero(dearer & wanted)
            if rows.size:
                found.add(int(rows[np.argmin(extra[rows])]))
        for option in sorted(found):
            yield stage, option, int(extra[option])
