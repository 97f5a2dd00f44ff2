"""What rules for a rate have in common: as few replicas as keep up, one offer per stage by dynamic programming."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mipplan.baselines.problem import BaselineProblem, size_family
from mipplan.core import Int64, format_duration
from mipplan.options import Configuration, Family, Option


class Offer(NamedTuple):
    """An option of a stage, as a rule sees it."""

    option: Option
    duration_ns: int  # What it takes of the objective, on every path through the stage.
    costs: tuple[
        int, ...
    ]  # What is to be least in sum over the stages, the most important first; as many everywhere.


def sized(families: Iterable[Family], tokens_per_ns: Fraction) -> list[Option]:
    """Give every family of a stage as few replicas as serve that rate; those that cannot are left out."""
    options = [size_family(family, tokens_per_ns) for family in families]
    return [option for option in options if option is not None]


def why_no_choice(problem: BaselineProblem, offers: Mapping[str, Sequence[Offer]], what: str) -> str:
    """Why no choice keeps the objective even if devices abound; empty if one does. `what` names the durations."""
    short = [stage for stage, offered in offers.items() if not offered]
    if short:
        return f"no allowed number of replicas keeps up with the rate at {', '.join(short)}"
    total_ns, path = problem.longest_path(_least_ns(offers))
    if total_ns <= problem.deadline_ns:
        return ""
    return (
        f"{what} along {' → '.join(path)} take {format_duration(total_ns)}, more than the "
        f"objective of {format_duration(problem.deadline_ns)}"
    )


def best_choice(problem: BaselineProblem, offers: Mapping[str, Sequence[Offer]]) -> Configuration | None:
    """Find the choice of least costs, of offers none of which is empty; None if limits and objective leave none."""
    pipeline, order = problem.pipeline, problem.pipeline.topological_order
    least_ns = _least_ns(offers)
    from_begin_ns = problem.paths.up_from(least_ns)
    limits = np.array(list(problem.limits.values()), dtype=np.int64)
    kinds = len(next(iter(offers.values()))[0].costs)
    # Choices for the stages so far, side by side: what they are, and all that matters about them to later ones (costs,
    # devices taken of each limited type, and when each of these may begin). A merge has one figure, however many
    # branches lead there: with the end of each branch, wide pipelines would keep nearly every choice.
    chosen: list[tuple[Option, ...]] = [()]
    costs, used = np.zeros((1, kinds), dtype=np.int64), np.zeros((1, limits.size), dtype=np.int64)
    begins_ns: dict[str, Int64] = {}
    for stage in order:
        offered = offers[stage]
        before, added = (grid.ravel() for grid in np.indices((len(chosen), len(offered))))
        taken = [
            [n if family.hardware == name else 0 for name in problem.limits] for (family, n), *_ in offered
        ]
        duration_ns = np.array([offer.duration_ns for offer in offered], dtype=np.int64)
        own_costs = np.array([offer.costs for offer in offered], dtype=np.int64)
        costs, used = costs[before] + own_costs[added], used[before] + np.array(taken, dtype=np.int64)[added]
        begins_ns = {name: begin_ns[before] for name, begin_ns in begins_ns.items()}
        end_ns = begins_ns.pop(stage, np.int64(0)) + duration_ns[added]
        in_time = end_ns + (from_begin_ns[stage] - least_ns[stage]) <= problem.deadline_ns
        for edge in pipeline.outgoing(stage):
            at_ns = end_ns + edge.delay_ns
            begins_ns[edge.child] = np.maximum(begins_ns.get(edge.child, at_ns), at_ns)
        rows = np.flatnonzero(in_time & (used <= limits).all(axis=1))
        rows = rows[_undominated(np.column_stack((costs, *begins_ns.values(), used))[rows])]
        chosen = [(*chosen[before[row]], offered[added[row]].option) for row in rows.tolist()]
        costs, used = costs[rows], used[rows]
        begins_ns = {name: begin_ns[rows] for name, begin_ns in begins_ns.items()}
    if not chosen:
        return None
    best = dict(zip(order, chosen[np.lexsort(costs.T[::-1])[0]], strict=True))
    return Configuration({stage: best[stage] for stage in offers})


def _least_ns(offers: Mapping[str, Sequence[Offer]]) -> dict[str, int]:
    return {stage: min(offer.duration_ns for offer in offered) for stage, offered in offers.items()}


def _undominated(burdens: Int64) -> list[int]:
    """Rows that no other beats or equals in every column, in the order of the first, then the second and so on."""
    kept: list[int] = []
    for row in np.lexsort(burdens.T[::-1]).tolist():
        if not (burdens[kept] <= burdens[row]).all(axis=1).any():
            kept.append(row)
    return kept
