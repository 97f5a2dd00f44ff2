"""What to do where not all pipelines fit: admit the set of greatest weight, or relax the objectives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from mipplan.fleet.generation import Pool, fresh_pool
from mipplan.fleet.objective import WEIGHT_UNIT, weight_objective
from mipplan.fleet.request import Fleet
from mipplan.fleet.solving import Settled, Settling, settle_cost
from mipplan.fleet.workers import Office

#: Objectives are relaxed to within this share of what is needed.
_PRECISION = 0.01
#: Larger factors are not looked for.
_MOST_FACTOR = 1000.0
#: From one factor that is too small to the next, at most.
_STRIDE = 1.5
#: A set to admit whose weight is within this share of the bound is good enough.
_WEIGHT_GAP = 1e-3


@dataclass(frozen=True)
class Admitted:
    """A set of pipelines that fits.

    Attributes
    ----------
    kept : tuple of int
        Their places in the fleet.
    weight_bound : int
        No set that fits weighs more (in the weights' unit).
    settled : Settled
        The cheapest plans for these pipelines.
    pool : Pool
        Their known plans.
    """

    kept: tuple[int, ...]
    weight_bound: int
    settled: Settled
    pool: Pool


@dataclass(frozen=True)
class Eased:
    """Objectives with which all pipelines fit.

    Attributes
    ----------
    factor, too_small : float
        With every objective multiplied by the first they fit; multiplied by the second they do not.
    proven : bool
        Whether the latter is proven.
    fleet : Fleet
    settled : Settled
    pool : Pool
    """

    factor: float
    too_small: float
    proven: bool
    fleet: Fleet
    settled: Settled
    pool: Pool


def admit(
    fleet: Fleet, pool: Pool, office: Office, gap: float, ends_at: float, report: Callable[[str], None]
) -> Admitted | None:
    """Find the set of greatest weight that fits limits and budget, then its cheapest plans; None if out of time."""
    settled = Settling(
        weight_objective(fleet),
        pool,
        office,
        _WEIGHT_GAP,
        ends_at,
        report,
        "weight left out",
        1000.0 * WEIGHT_UNIT,
        lambda *_: None,
    ).run()
    if settled.interrupted:
        raise KeyboardInterrupt
    if settled.chosen is None or settled.lower_bound is None:
        return None
    kept = tuple(index for index, column in enumerate(settled.chosen.columns) if column is not None)
    total = sum(member.weight for member in fleet.members)
    bound = total - max(0, math.ceil(settled.lower_bound / WEIGHT_UNIT))
    subset = fleet.subset(kept)
    known = Pool([list(pool.columns[index]) for index in kept])
    if not kept:
        return Admitted(kept, bound, settled, known)
    with Office.open(subset.realisations, subset.hardware, office.n_jobs) as smaller:
        cheapest = settle_cost(
            subset, known, smaller, gap, max(ends_at, time.monotonic() + 1.0), report, lambda *_: None
        )
    if cheapest.chosen is None or (fleet.budget is not None and cheapest.chosen.cost > fleet.budget):
        return None
    return Admitted(kept, bound, cheapest, known)


def ease(
    fleet: Fleet, n_jobs: int | None, gap: float, ends_at: float, report: Callable[[str], None]
) -> tuple[Eased | None, bool]:
    """Find the least factor by which to multiply all objectives so that all pipelines fit, to one per cent.

    A factor is too small if that is proven, or if no fleet was found (`Eased.proven` is then False).

    Returns
    -------
    eased, useless
        None if no fleet was found with any factor, in the time there is; and whether it is proven that none helps.
    """
    # Any fleet will do while looking; with a budget it must be a cheap one.
    enough = 1.0 if fleet.budget is None else gap
    low, proven, high = 1.0, True, _MOST_FACTOR
    best: Eased | None = None
    factor = high  # if objectives are not the reason at all, this tells
    while time.monotonic() < ends_at:
        report(f"with objectives times {factor:.4g}")
        found = _with(fleet, factor, n_jobs, enough, ends_at, report)
        if found.settled.interrupted:
            raise KeyboardInterrupt
        if found.settled.chosen is not None:
            best, high = found, factor
        else:
            low, proven = factor, found.settled.infeasible
        if best is None or high <= low * (1.0 + _PRECISION):
            break
        # Mostly little is needed: upwards in small steps, and halving between the last two.
        factor = min(low * _STRIDE, math.sqrt(low * high))
    if best is None:
        return None, proven and low >= _MOST_FACTOR
    if enough != gap:
        better = _with(fleet, best.factor, n_jobs, gap, ends_at, report)
        best = better if better.settled.chosen is not None else best
    return Eased(best.factor, low, proven, best.fleet, best.settled, best.pool), False


def _with(
    fleet: Fleet,
    factor: float,
    n_jobs: int | None,
    gap: float,
    ends_at: float,
    report: Callable[[str], None],
) -> Eased:
    relaxed = fleet.relaxed(factor)
    pool = fresh_pool(len(fleet.members))
    with Office.open(relaxed.realisations, relaxed.hardware, n_jobs) as office:
        settled = settle_cost(relaxed, pool, office, gap, ends_at, report, lambda *_: None)
    return Eased(factor, factor, True, relaxed, within_budget(settled, fleet.budget), pool)


def within_budget(settled: Settled, budget: int | None) -> Settled:
    """Return the same, but for what a budget rules out."""
    if budget is None:
        return settled
    too_dear = settled.chosen is not None and settled.chosen.cost > budget
    impossible = settled.lower_bound is not None and settled.lower_bound > budget
    return replace(
        settled,
        chosen=None if too_dear else settled.chosen,
        infeasible=settled.infeasible or impossible,
    )
