"""A menu of near-optimal plans: all that cost little more than the cheapest and differ in a stated way.

Numbers of replicas alone make thousands of near-optimal plans, which nobody wants to read. So plans are told apart by a
*pattern*: the hardware of every stage, or its variant, or both. Of each pattern the menu holds the cheapest certified
plan; by accuracy or energy, every plan that is more accurate, or draws less, than all that are cheaper. Patterns come
one after another, the cheapest first, each by a search that excludes those before (a cover: some stage must differ).
When such a search proves that nothing is left within the share, the menu is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mipplan.core import (
    Bool,
    Deadline,
    Fault,
    Faults,
    Printable,
    SearchLimits,
    Summary,
    check_one_of,
    is_number,
    is_whole,
    shown,
    usd_text,
)
from mipplan.options import StageOptions, undominated_per_hardware
from mipplan.pipeline import Pipeline, check_accuracy
from mipplan.planner import PlanMaker, PlanSearch, SearchMethod
from mipplan.profiles import EnergyTerms, Profiles
from mipplan.result import Choice, Figures, Limit, Plan, PlanStatus, choice_text
from mipplan.trace import Trace
from mipplan.variants.asking import Asker
from mipplan.variants.combinations import each_combination
from mipplan_formulations import Cover

if TYPE_CHECKING:
    import pandas as pd

#: By what plans of a menu differ.
WAYS: Final = ("accuracy", "energy", "hardware", "variants", "both")
#: What of a choice makes the pattern.
_PATTERNS: Final[Mapping[str, Callable[[Choice], tuple[str | None, ...]]]] = {
    "hardware": lambda choice: (choice.hardware,),
    "variants": lambda choice: (choice.variant,),
    "both": lambda choice: (choice.variant, choice.hardware),
}


@dataclass(frozen=True, eq=False, repr=False)
class PlanMenu(Printable):
    """Near-optimal plans, the cheapest first.

    Attributes
    ----------
    plans : tuple of Plan
        Each certified, each the cheapest of its kind; the first is the cheapest of all.
    by : str
        In what they differ: ``accuracy``, ``energy``, ``hardware``, ``variants`` or ``both``.
    within : float
        The share by which they may cost more than the cheapest.
    complete : bool
        Whether there are no others; else `limit`, or the number asked for, ended the search.
    """

    plans: tuple[Plan, ...]
    by: str
    within: float
    complete: bool
    reason: str | None = None
    limit: Limit | None = None

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per plan: cost, accuracy, power and certificate, and the choice of every stage in words."""
        import pandas as pd

        names = ("usd_per_hour", "accuracy", *(("power_w",) if self.by == "energy" else ()), "certificate_s")
        return pd.DataFrame(
            {name: getattr(plan, name) for name in names}
            | {s: choice_text(c) for s, c in plan.choices.items()}
            for plan in self.plans
        )

    def _summary(self) -> Summary:
        state = "complete: there are no others" if self.complete else "there may be others"
        named = any(choice.variant for plan in self.plans for choice in plan.choices.values())
        powered = self.by == "energy"
        return Summary(
            f"Menu of {len(self.plans)} plans within {self.within:.3g} of the cheapest, by {self.by}",
            figures=(("proof", state), ("reason", self.reason)),
            headings=(
                ">$/h",
                *((">accuracy",) if named else ()),
                *((">W at most",) if powered else ()),
                ">certificate",
                "plan",
            ),
            rows=(
                (
                    usd_text(plan.usd_per_hour),
                    *(("–" if plan.accuracy is None else f"{plan.accuracy:.4g}",) if named else ()),
                    *((f"{plan.power_w or 0:.6g}",) if powered else ()),
                    f"{(plan.certificate_s or 0) * 1e3:.4g} ms",
                    ", ".join(
                        f"{s}: {c.replicas} {c.variant or ''} {c.hardware}" for s, c in plan.choices.items()
                    ),
                )
                for plan in self.plans
            ),
            count=len(self.plans),
            what="plans",
        )

    def _line(self) -> str:
        return f" {len(self.plans)} plans by {self.by}, {'complete' if self.complete else 'not complete'}"


def menu(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    within: float = 0.05,
    by: str = "both",
    most: int = 20,
    accuracy: float | None = None,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> PlanMenu:
    """Find the certified plans that cost little more than the cheapest and differ in a stated way.

    Parameters
    ----------
    pipeline, profiles, trace
        As for `mipplan.plan`.
    within : float
        Plans may cost this share more than the cheapest, from 0 to 10.
    by : {"both", "hardware", "variants", "accuracy", "energy"}
        What makes plans different: hardware or variant of some stage, either, more accuracy, or less power
        (`Plan.power_w`).
    most : int
        The search ends after so many plans; at most 1,000.
    accuracy : float, optional
        The least accuracy of all of them.
    time_limit_s, progress
        As for `mipplan.pareto`.
    **settings
        As for `mipplan.plan`, but for `budget_usd_per_hour`.

    Returns
    -------
    PlanMenu

    Raises
    ------
    InputError
        Listing every bad argument.
    """
    check_menu(by, within, most, accuracy)
    if by == "energy":
        settings = {**settings, "energy": settings.get("energy") or EnergyTerms()}
    asker = Asker(
        pipeline,
        profiles,
        trace,
        time_limit_s,
        progress,
        settings,
        needs_accuracy=by == "accuracy" or accuracy is not None,
    )
    known = asker.first() if by == "accuracy" else asker.cheapest
    first = known if accuracy is None else asker.at_least(accuracy)
    if not first.choices:
        return PlanMenu((), by, within, first.status is PlanStatus.INFEASIBLE, first.reason, first.limit)
    # Of the decimal as it was written: 1.15 times 100,000 is less than 115,000 in floating point.
    budget = int((first.microusd_per_hour or 0) * (1 + Fraction(str(within))))
    found = _Found(by, within, most, budget, first)
    if by == "accuracy":
        return _one_after_another(found, asker.deadline, partial(_more_accurate, asker))
    if by == "energy":
        return _one_after_another(found, asker.deadline, partial(_drawing_less, asker, accuracy))
    asked = replace(asker.asked, objective=replace(asker.asked.objective, min_accuracy=accuracy))
    for combination in each_combination(asked):
        if found.limit is Limit.INTERRUPT or asker.deadline.is_over:
            found.complete, found.limit = False, found.limit or Limit.TIME
            break
        one, before = combination.asked, len(found.plans)
        try:
            maker = asker.maker(one, asker.limits).asking(one.objective, asker.limits)
            _add_patterns(found, maker, one, asker.limits)
        except KeyboardInterrupt:  # while traffic was analysed
            found.complete, found.limit = False, Limit.INTERRUPT
        found.plans[before:] = [combination.restored(plan, asked) for plan in found.plans[before:]]
    found.plans = found.plans or [first]  # what stops the search for others leaves the cheapest
    return found.menu()


def check_menu(by: object, within: object, most: object, accuracy: object = None) -> None:
    """Refuse what no menu is made by; raises `InputError` with every fault."""
    faults = Faults()
    faults.take(lambda: check_one_of("by", by, WAYS, repr))
    faults.take(lambda: None if accuracy is None else check_accuracy(accuracy))
    if not is_number(within) or not 0 <= within <= 10:
        faults.add(Fault("within", f"expected a share from 0 to 10, found {shown(within)}"))
    if not is_whole(most) or not 1 <= most <= 1000:
        faults.add(Fault("most", f"expected a whole number from 1 to 1,000, found {shown(most)}"))
    faults.check()


class _Found:
    """The plans of a menu, as they are found."""

    def __init__(self, by: str, within: float, most: int, budget: int, first: Plan) -> None:
        self.by, self.within, self.most, self.budget, self.first = by, within, most, budget, first
        self.plans: list[Plan] = []
        self.complete, self.limit = True, first.limit

    def menu(self) -> PlanMenu:
        # Combinations that make different tokens are searched one by one, and may lead to the same pattern.
        best: dict[object, Plan] = {}
        for plan in sorted(self.plans, key=lambda plan: plan.microusd_per_hour or 0):
            pattern = _PATTERNS.get(self.by)
            further = plan.figures.power_mw if self.by == "energy" else plan.accuracy
            kind = further if pattern is None else tuple(map(pattern, plan.choices.values()))
            best.setdefault(kind, plan)
        plans = list(best.values())
        complete = self.complete and len(plans) <= self.most and self.first.status is PlanStatus.OPTIMAL
        ended = "the search was stopped" if self.limit else f"ended after {self.most} plans"
        reason, plans = None if complete else ended, plans[: self.most]
        return PlanMenu(tuple(plans), self.by, self.within, complete, reason, self.limit)


def _one_after_another(
    found: _Found, deadline: Deadline, following: Callable[[Plan], Plan | None]
) -> PlanMenu:
    """Every plan within the budget that has more of what is wanted than all cheaper ones."""
    last = found.first
    while last.choices and (last.microusd_per_hour or 0) <= found.budget:
        if found.plans and found.plans[-1].microusd_per_hour == last.microusd_per_hour:
            found.plans.pop()
        found.plans.append(last)
        goes_on = last.status is PlanStatus.OPTIMAL and len(found.plans) <= found.most
        is_late = goes_on and deadline.is_over
        further = following(last) if goes_on and not is_late else None
        if further is None:
            found.complete, found.limit = goes_on and not is_late, Limit.TIME if is_late else last.limit
            return found.menu()
        last = further
    dearer = (last.lower_bound_microusd_per_hour or 0) > found.budget
    found.complete, found.limit = last.status is PlanStatus.INFEASIBLE or dearer, last.limit
    return found.menu()


def _more_accurate(asker: Asker, plan: Plan) -> Plan | None:
    """The cheapest that is more accurate; None if nothing can be."""
    floor = asker.next_above(plan.accuracy or 0.0)
    return None if floor > 1 else asker.at_least(floor, plan.microusd_per_hour or 0)


def _drawing_less(asker: Asker, accuracy: float | None, plan: Plan) -> Plan:
    """The cheapest that draws less, with this least accuracy."""
    return asker.at_least(accuracy, plan.microusd_per_hour or 0, (plan.figures.power_mw or 0) - 1)


def _add_patterns(found: _Found, maker: PlanMaker, asked: Plan, limits: SearchLimits) -> None:
    """Add the cheapest plan of every pattern within the budget, one search after another."""
    instance, pattern = maker.instance, _PATTERNS[found.by]
    if not instance.has_options:
        return
    options = instance.affordable(found.budget, undominated_per_hardware)
    if not all(table.count for table in options.values()):
        return
    method = SearchMethod.of(asked, limits)
    others: list[Cover] = []
    for _ in range(found.most + 1):
        space = instance.space(options, others)
        outcome = PlanSearch(instance, space, method, budget=found.budget).run()
        found.complete &= outcome.finished
        found.limit = found.limit or outcome.limit
        if outcome.best is None:
            return
        made = space.configuration(outcome.best.choice)
        bound_ns = instance.oracle.paths.bound_ns(made.services)
        bounds = bound_ns, outcome.best.certificate_ns
        figures = Figures(outcome.best.cost, None, *bounds, (), **made.power_mw)
        found.plans.append(_plan_of(asked, figures, made.choices, found))
        others.append(
            Cover(
                tuple(
                    (place, _differs(table, pattern, made.choices[stage]))
                    for place, (stage, table) in enumerate(options.items())
                )
            )
        )
        if not outcome.finished:
            return
    found.complete = False


def _differs(table: StageOptions, pattern: Callable[[Choice], tuple[str | None, ...]], own: Choice) -> Bool:
    """Which options of a stage have another pattern."""
    families = [Choice(f.hardware, f.batch, 1, f.variant) for f in table.families.families]
    other = np.array([pattern(choice) != pattern(own) for choice in families], dtype=bool)
    marked: Bool = other[table.family]
    return marked


def _plan_of(asked: Plan, figures: Figures, choices: Mapping[str, Choice], found: _Found) -> Plan:
    least = found.first.lower_bound_microusd_per_hour
    is_first = figures.microusd_per_hour == least
    return replace(
        asked,
        choices=choices,
        status=PlanStatus.OPTIMAL if is_first else PlanStatus.FEASIBLE,
        figures=replace(figures, lower_bound_microusd_per_hour=least),
        reason=None if is_first else f"within {found.within:.3g} of the cheapest plan, from which it differs",
    )
