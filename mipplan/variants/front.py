"""Cost against accuracy and power: whole fronts, the most accuracy for a budget, and the best of both by weights.

The front is found by its breakpoints (the ε-constraint method): the cheapest plan of all, then the cheapest that is
more accurate than the one before, until there is none. Each is proven by itself, so every one is exact, and between two
of them there is nothing: what is more accurate than the one costs at least as much as the next. Where time is up, what
was proven of the cost of the next one holds for all that are more accurate.

References
----------
Y. Y. Haimes, L. S. Lasdon, D. A. Wismer, "On a bicriterion formulation of the problems of integrated system
identification and system optimization", IEEE Trans. Systems, Man, and Cybernetics 1 (1971),
doi:10.1109/TSMC.1971.4308298.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    Fault,
    InputError,
    Printable,
    Summary,
    check_budget,
    check_one_of,
    drawn,
    is_finite,
    shown,
    usd_text,
)
from mipplan.pipeline import Pipeline
from mipplan.profiles import EnergyTerms, Profiles
from mipplan.result import Limit, Plan, PlanStatus
from mipplan.trace import Trace
from mipplan.variants.asking import Asker

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: What plans of a front are compared by beside cost.
AXES = {"accuracy": "accuracy", "energy": "power", "both": "accuracy and power"}
_STOPPED = "the search was stopped before the front was complete"


@dataclass(frozen=True, eq=False, repr=False)
class Front(Printable):
    """Plans none of which another one beats in all that they are compared by.

    Attributes
    ----------
    plans : tuple of Plan
        From the cheapest on; empty if there is no plan at all.
    complete : bool
        Whether there are no others: every breakpoint is here, each proven the cheapest of its accuracy.
    reason : str or None
        Why there is no plan, or what ended the search.
    beyond_usd_per_hour : float or None
        Where it is not complete: no plan that is more accurate than the last one, or draws less than all of them, costs
        less than this; None where nothing is known.
    by : {"accuracy", "energy", "both"}
        What they are compared by beside cost: accuracy, the mean power that is guaranteed, or both.
    """

    plans: tuple[Plan, ...]
    complete: bool
    reason: str | None = None
    limit: Limit | None = None
    beyond_usd_per_hour: float | None = None
    by: str = "accuracy"

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Dollars per hour and accuracy of every plan; by energy, dollars per hour and watts."""
        values = ((plan.power_w if self.by == "energy" else plan.accuracy) or 0.0 for plan in self.plans)
        return tuple(
            (plan.usd_per_hour or 0.0, value) for plan, value in zip(self.plans, values, strict=True)
        )

    def best_by(self, accuracy: float, cost: float) -> Plan:
        """Return the plan with the greatest accuracy·A − cost·C, A its accuracy and C its dollars per hour.

        The best of all plans if the front is complete, since the best by any weights is on it (IPA's objective).

        Raises
        ------
        InputError
            If a weight is negative or not finite, or there is no plan.
        """
        weights = {"accuracy": accuracy, "cost": cost}
        InputError.raise_if(
            Fault(name, f"expected a finite weight of at least 0, found {shown(weight)}")
            for name, weight in weights.items()
            if not is_finite(weight) or weight < 0
        )
        if not self.plans:
            raise InputError.one("front", f"holds no plan: {self.reason}")
        return max(self.plans, key=lambda p: accuracy * (p.accuracy or 0.0) - cost * (p.usd_per_hour or 0.0))

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per plan: ``usd_per_hour``, ``accuracy``, ``certificate_s``, ``status``, variants by stage.

        And ``power_w``, where plans are compared by it.
        """
        import pandas as pd

        rows = [
            {
                "usd_per_hour": plan.usd_per_hour,
                "accuracy": plan.accuracy,
                **({} if self.by == "accuracy" else {"power_w": plan.power_w}),
                "certificate_s": plan.certificate_s,
                "status": str(plan.status),
                **{stage: choice.variant for stage, choice in plan.choices.items() if choice.variant},
            }
            for plan in self.plans
        ]
        return pd.DataFrame.from_records(rows)

    def plot(self, title: str = "") -> Figure:
        """Draw cost against accuracy; see `mipplan.plots.draw_front`."""
        figure: Figure = drawn("draw_front", self, title=title)
        return figure

    def _summary(self) -> Summary:
        last = self.beyond_usd_per_hour
        state = "complete" if self.complete else "not complete"
        further = "draws less" if self.by == "energy" else "is more accurate"
        beyond = None if last is None else f"whatever {further} costs at least {usd_text(last)} $/h"
        power = () if self.by == "accuracy" else (">W at most",)
        stages = (
            [stage for stage, choice in self.plans[0].choices.items() if choice.variant] if self.plans else []
        )
        return Summary(
            f"Front of cost and {AXES[self.by]}: {len(self.plans)} plans, {state}",
            figures=(("beyond", beyond), ("reason", self.reason)),
            headings=(">$/h", ">accuracy", *power, *stages),
            rows=(
                (
                    usd_text(plan.usd_per_hour),
                    "–" if plan.accuracy is None else f"{plan.accuracy:.4g}",
                    *(f"{plan.power_w:.6g}" for _ in power),
                    *(plan.choices[stage].variant or "" for stage in stages),
                )
                for plan in self.plans
            ),
            count=len(self.plans),
            what="plans",
        )

    def _line(self) -> str:
        return f" {len(self.plans)} plans, {'complete' if self.complete else 'not complete'}"


def pareto(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    by: str = "accuracy",
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Front:
    """Find every certified plan that no other one beats in cost and accuracy, in cost and power, or in all three.

    Parameters
    ----------
    pipeline : Pipeline
        With variants, and a rule for their accuracy, unless it is by energy.
    profiles, trace
        As for `mipplan.plan`.
    by : {"accuracy", "energy", "both"}
        What plans are compared by beside cost; by energy, it is their guaranteed mean power (`Plan.power_w`).
    time_limit_s : float or None
        Wall-clock limit of the whole front; what was found by then is returned, from the cheap end.
    progress : callable, optional
        Called with one line of text as the work proceeds.
    **settings
        As for `mipplan.plan`, but for `accuracy` and `budget_usd_per_hour`.

    Returns
    -------
    Front

    Raises
    ------
    InputError
        Listing every bad argument; accuracies that are missing or outside (0, 1].

    Notes
    -----
    Accuracies that differ by less than 2(n + 3) billionths, with n stages, count as one; power is in whole milliwatts.
    """
    check_one_of("by", by, AXES, repr)
    if by != "accuracy":
        settings = {**settings, "energy": settings.get("energy") or EnergyTerms()}
    asker = Asker(pipeline, profiles, trace, time_limit_s, progress, settings, needs_accuracy=by != "energy")
    if by == "energy":
        return _by_power(asker)
    if by == "both":
        return _by_all(asker)
    return _by_accuracy(asker)


def _by_accuracy(asker: Asker, most_mw: int | None = None) -> Front:
    """The breakpoints of cost over accuracy, of plans that draw at most some power, if any is named."""
    if most_mw is not None:
        asker = asker.capped(most_mw)
    last = asker.first()
    found = [last]
    if not last.choices:
        return Front((), last.status is PlanStatus.INFEASIBLE, last.reason, last.limit)
    while last.status is PlanStatus.OPTIMAL:
        floor = asker.next_above(last.accuracy or 0.0)
        if floor > 1 or asker.deadline.is_over:
            break
        proven = last.microusd_per_hour or 0
        last = asker.at_least(floor, proven, brief=True)
        if not last.choices:
            break
        if last.status is not PlanStatus.OPTIMAL:
            break
        # Of equal cost the more accurate one stays.
        if last.microusd_per_hour == proven:
            found.pop()
        found.append(last)
    complete = last.status is PlanStatus.INFEASIBLE or (
        last.status is PlanStatus.OPTIMAL and asker.next_above(last.accuracy or 0.0) > 1
    )
    proven = max((plan.lower_bound_microusd_per_hour or 0 for plan in [*found, last]), default=0)
    return Front(
        tuple(map(_at_its_own, found)),
        complete,
        None if complete else _STOPPED,
        None if complete else last.limit or Limit.TIME,
        None if complete else proven / MICRODOLLARS_PER_DOLLAR,
    )


def _by_power(asker: Asker) -> Front:
    """The breakpoints of cost over power: each plan draws less than the one before; of equal cost the last stays."""
    last, found = asker.cheapest, list[Plan]()
    proven = last.lower_bound_microusd_per_hour or 0
    while last.choices and last.status is PlanStatus.OPTIMAL:
        if found and found[-1].microusd_per_hour == last.microusd_per_hour:
            found.pop()
        found.append(last)
        if asker.deadline.is_over:
            break
        proven = last.microusd_per_hour or 0
        last = asker.at_least(None, proven, (last.figures.power_mw or 0) - 1, brief=True)
    if not found and last.choices:
        found = [last]
    complete = last.status is PlanStatus.INFEASIBLE
    proven = max(proven, last.lower_bound_microusd_per_hour or 0)
    own = (replace(p.objective.energy or EnergyTerms(), max_power_w=p.power_w) for p in found)
    stated = (replace(p, objective=replace(p.objective, energy=e)) for p, e in zip(found, own, strict=True))
    return Front(
        tuple(stated),
        complete,
        (last.reason if not found else None) if complete else _STOPPED,
        None if complete else last.limit or Limit.TIME,
        None if complete else proven / MICRODOLLARS_PER_DOLLAR,
        "energy",
    )


def _by_all(asker: Asker) -> Front:
    """All three: a front of cost and accuracy under one cap on power after another, each just below what is left.

    Whatever no plan beats is on the first of these whose cap is so tight that all of it draws no more.
    """
    found: list[Plan] = []
    front = _by_accuracy(asker)
    while front.plans:
        found += front.plans
        if not front.complete or asker.deadline.is_over:
            break
        cap = max(plan.figures.power_mw or 0 for plan in front.plans) - 1
        front = _by_accuracy(asker, cap)
    if not found:
        return replace(front, by="both")
    complete = front.complete and not front.plans
    kept = [plan for plan in found if not any(_beats(other, plan) for other in found)]
    unlike = {(p.microusd_per_hour, p.accuracy, p.figures.power_mw): p for p in reversed(kept)}
    plans = sorted(unlike.values(), key=lambda plan: (plan.microusd_per_hour or 0, -(plan.accuracy or 0.0)))
    reason, limit = (None, None) if complete else (_STOPPED, front.limit or Limit.TIME)
    return Front(tuple(plans), complete, reason, limit, None, "both")


def _beats(one: Plan, other: Plan) -> bool:
    """Whether a plan is no worse than another one in cost, accuracy and power, and better in one of them."""
    own, its = (
        (p.microusd_per_hour or 0, -(p.accuracy or 0.0), p.figures.power_mw or 0) for p in (one, other)
    )
    return own != its and all(a <= b for a, b in zip(own, its, strict=True))


def _at_its_own(plan: Plan) -> Plan:
    """Return a plan as what it is proven to be: the cheapest that is at least as accurate as itself."""
    return replace(plan, objective=replace(plan.objective, min_accuracy=plan.accuracy))


def most_accurate(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    budget_usd_per_hour: float,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Plan:
    """Find the most accurate certified plan within a budget; of equally accurate ones the cheapest.

    Parameters
    ----------
    budget_usd_per_hour : float
        Most dollars per hour.
    pipeline, profiles, trace, time_limit_s, progress, **settings
        As for `pareto`.

    Returns
    -------
    Plan
        ``optimal`` if no certified plan within the budget is more accurate, and none as accurate is cheaper;
        ``feasible`` if that is not proven; ``infeasible``, with the reason, if none is within the budget.

    Raises
    ------
    InputError
        Listing every bad argument.

    Notes
    -----
    The cheapest plan of some accuracy costs the more the greater it is: so the greatest that the budget pays for is
    found by bisection, over all that combinations of variants have where these can be listed.
    """
    budget = check_budget(budget_usd_per_hour)
    if budget is None:
        raise InputError.one("budget_usd_per_hour", "expected the most dollars per hour that a plan may cost")
    asker = Asker(pipeline, profiles, trace, time_limit_s, progress, settings)
    best = asker.first()
    if not best.choices:
        return best
    if (best.microusd_per_hour or 0) > budget:
        least = (best.lower_bound_microusd_per_hour or 0) / MICRODOLLARS_PER_DOLLAR
        dear = f"no plan costs at most {budget_usd_per_hour:.10g} $/h: the cheapest costs at least {least:.10g} $/h"
        is_proven = (best.lower_bound_microusd_per_hour or 0) > budget
        return replace(
            best,
            choices={},
            status=PlanStatus.INFEASIBLE if is_proven else PlanStatus.UNKNOWN,
            reason=dear if is_proven else "the search was stopped before a plan within the budget was found",
            figures=replace(best.figures, microusd_per_hour=None, certificate_ns=None, bound_ns=None),
        )
    listed, limit = None, best.limit
    try:
        listed = None if limit is Limit.INTERRUPT else asker.accuracies()
    except KeyboardInterrupt:
        limit = Limit.INTERRUPT
    low, high = best.accuracy or 0.0, 1.0 if listed is None else listed[-1]
    exact = True  # Whether every accuracy above `high` is proven to be too dear, or not to be had.
    while limit is not Limit.INTERRUPT and asker.next_above(low) <= high and not asker.deadline.is_over:
        if listed is None:
            floor = max(asker.next_above(low), (low + high) / 2)
        else:
            first = bisect.bisect_left(listed, asker.next_above(low))
            floor = listed[(first + bisect.bisect_right(listed, high)) // 2]
            floor = max(floor, asker.next_above(low))
        made = asker.at_least(floor)
        limit = limit or made.limit
        if made.choices and (made.microusd_per_hour or 0) <= budget:
            best, low = made, made.accuracy or 0.0
            continue
        is_dear = (made.lower_bound_microusd_per_hour or 0) > budget
        exact = exact and (is_dear or made.status in (PlanStatus.OPTIMAL, PlanStatus.INFEASIBLE))
        high = floor - (asker.next_above(0.0))
        if listed is not None:
            place = bisect.bisect_left(listed, floor) - 1
            high = listed[place] if place >= 0 else low
    done = exact and best.status == PlanStatus.OPTIMAL and asker.next_above(low) > high
    return replace(
        _at_its_own(best),
        status=PlanStatus.OPTIMAL if done else PlanStatus.FEASIBLE,
        reason=None if done else "the search was stopped before the most accurate plan was proven",
        limit=None if done else limit or Limit.TIME,
    )
