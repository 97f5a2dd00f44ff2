"""One question asked again and again with other least accuracies: what is realised and learnt once serves them all."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mipplan.core import Deadline, Fault, InputError, SearchLimits, check_kinds, check_time_limit
from mipplan.options import Cap, check_accuracies
from mipplan.pipeline import AccuracyKind, Pipeline, are_timed, choosing, combinations
from mipplan.planner import Instance, PlanMaker, plan
from mipplan.profiles import MW_PER_W, EnergyTerms, Profiles, Use
from mipplan.result import CertificateKind, Figures, Guarantee, Limit, Objective, Plan, PlanStatus
from mipplan.trace import Trace
from mipplan.variants.combinations import best_combination
from mipplan.variants.ties import told_apart

#: Accuracies of up to this many combinations are listed, so that none in between has to be looked for.
_MOST_LISTED = 20_000


class Asker:
    """Finds the cheapest certified plans of one request with at least some accuracy.

    `settings` are those of `mipplan.plan`, but for `accuracy`, `budget_usd_per_hour` and `time_limit_s`.

    Raises `InputError` listing every bad argument, and if its plans are not found by certificates.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        profiles: Profiles,
        trace: Trace | Sequence[Trace],
        time_limit_s: float | None,
        progress: Callable[[str], None] | None,
        settings: dict[str, Any],
        *,
        needs_accuracy: bool = True,
    ) -> None:
        check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
        taken = sorted({"accuracy", "budget_usd_per_hour"} & settings.keys())
        varied = (Fault(name, "does not go with this question, which varies it") for name in taken)
        InputError.raise_if([*varied, *_uncompared(pipeline, settings)])
        check_time_limit(time_limit_s)
        self.deadline = Deadline.after(time_limit_s, time.monotonic())
        self.limits = SearchLimits(self.deadline, progress or (lambda _: None))
        if needs_accuracy:
            check_accuracies(pipeline, profiles)
        #: The cheapest plan of all.
        self.cheapest = _compared(
            plan(pipeline, profiles, trace, time_limit_s=time_limit_s, progress=progress, **settings)
        )
        self.asked = replace(
            self.cheapest,
            choices={},
            status=PlanStatus.UNKNOWN,
            figures=Figures(lower_bound_microusd_per_hour=0),
            reason=None,
            limit=None,
        )
        self._makers: dict[Pipeline, PlanMaker] = {}
        #: Plans proven the cheapest, with what was asked of them.
        self._known: list[tuple[Objective, Plan]] = []

    def first(self) -> Plan:
        """Return the cheapest plan of known accuracy: a table may not have that of the cheapest of all."""
        rule = self.asked.pipeline.accuracy
        if rule.kind is not AccuracyKind.TABLE or not self.cheapest.choices:
            return self.cheapest
        return self.at_least(min(known for _, known in rule.rows), self.cheapest.microusd_per_hour or 0)

    def at_least(
        self,
        accuracy: float | None,
        proven: int = 0,
        most_mw: int | None = None,
        most_batches: int | None = None,
        *,
        brief: bool = False,
    ) -> Plan:
        """Return the cheapest plan of at least that accuracy, and at most that power beside what is asked for.

        None costs less than what is `proven`. With `most_batches` the batch sizes of all stages are at most that in
        sum. If `brief`, no reason is looked for where there is none.
        """

        def answering(asked: Plan, limits: SearchLimits) -> Callable[[], Plan]:
            maker = self.maker(asked, limits).asking(asked.objective, limits, proven, brief=brief)
            if most_batches is not None:
                maker.instance = _with_batches(maker.instance, most_batches)
            return maker.cheapest

        objective = replace(self.asked.objective, min_accuracy=accuracy)
        if most_mw is not None and most_mw < 0:
            return replace(
                self.asked, status=PlanStatus.INFEASIBLE, figures=Figures(), reason="nothing draws less"
            )
        if most_mw is not None:
            objective = _capped(objective, most_mw)
        # What is cheapest among more plans, and among these still, is cheapest.
        for asked, known in self._known if most_batches is None else ():
            if _is_among(known, objective) and _asks_less(asked, objective):
                return replace(known, objective=objective)
        asking = replace(self.asked, objective=objective)
        try:
            if self.cheapest.limit is Limit.INTERRUPT:
                raise KeyboardInterrupt  # once more: the search for that one took it for a limit
            made = _compared(best_combination(asking, answering, self.limits))
        except KeyboardInterrupt:  # while traffic was analysed: what was asked before is known still
            figures = Figures(lower_bound_microusd_per_hour=proven)
            return replace(asking, figures=figures, limit=Limit.INTERRUPT)
        if made.choices and accuracy is not None and self.next_above(made.accuracy or 0.0) <= accuracy:
            raise AssertionError(
                "a plan is less accurate than asked for, so that who asks for more never ends"
            )
        if made.status is PlanStatus.OPTIMAL and most_batches is None:
            self._known.append((objective, made))
        return made

    def capped(self, most_mw: int) -> Asker:
        """The same of plans that draw at most some power; all that was learnt is shared."""
        made = copy.copy(self)
        proven = self.cheapest.lower_bound_microusd_per_hour or 0
        made.cheapest = self.at_least(None, proven, most_mw, brief=True)
        made.asked = replace(self.asked, objective=_capped(self.asked.objective, most_mw))
        return made

    def maker(self, asked: Plan, limits: SearchLimits) -> PlanMaker:
        """What makes plans for the tokens that the variants make which a pipeline runs."""
        known = self._makers.get(asked.pipeline)
        if known is None:
            energy = asked.energy and replace(asked.energy, max_power_w=None)
            plain = replace(asked, objective=replace(asked.objective, min_accuracy=None, energy=energy))
            known = self._makers[asked.pipeline] = PlanMaker(plain, limits)
        return known

    def next_above(self, accuracy: float) -> float:
        """Return the least accuracy that is told apart from this one, above it."""
        return told_apart(accuracy, len(self.asked.pipeline.stages))

    def accuracies(self) -> list[float] | None:
        """Every accuracy that some combination of options has, ascending; None if there are too many, or no time."""
        pipeline, rule = self.asked.pipeline, self.asked.pipeline.accuracy
        if rule.kind is AccuracyKind.TABLE:
            return sorted({known for _, known in rule.rows})
        found: set[float] = set()
        for runs in combinations(pipeline):
            made = replace(self.asked, pipeline=choosing(pipeline, runs))
            families = self._instance_families(made)
            counted = {
                stage: sorted({accuracy for accuracy in levels if accuracy is not None})
                for stage, levels in families.items()
                if None not in levels
            }
            if self.deadline.is_over or len(found) + math.prod(map(len, counted.values())) > _MOST_LISTED:
                return None
            for picked in itertools.product(*counted.values()):
                value = rule.value(made.pipeline, dict(zip(counted, picked, strict=True)))
                found |= set() if value is None else {value}
        return sorted(found)

    def _instance_families(self, asked: Plan) -> dict[str, list[float | None]]:
        instance = self.maker(asked, self.limits).instance
        return {
            stage: [family.accuracy for family in found.families]
            for stage, found in instance.families.items()
        }


def _uncompared(pipeline: Pipeline, settings: dict[str, Any]) -> Iterator[Fault]:
    """Say which plans are found by replays or sharp certificates, one by one; what cannot be at all `plan` says."""
    message = "plans are compared by classic certificates, or those of fifo queues"
    if settings.get("guarantee") in (Guarantee.REPLAY, Guarantee.RELIABLE):
        yield Fault("guarantee", f"{message}: not by {settings['guarantee']}")
    if (
        settings.get("certificate") in ("auto", CertificateKind.SHARP)
        and settings.get("discipline") != "fifo"
    ):
        yield Fault("certificate", message)
    with suppress(InputError):
        if are_timed(pipeline.laws(settings.get("dispatch"))):
            yield Fault("dispatch", f"{message}: not under timed dispatch, where replays are the certificate")


def _compared(plan: Plan) -> Plan:
    """A plan of which it is not said that a tie is not settled: who compares plans asks for more accurate ones."""
    return replace(plan, reason=None) if plan.status is PlanStatus.OPTIMAL else plan


def _capped(objective: Objective, most_mw: int) -> Objective:
    terms = objective.energy or EnergyTerms()
    return replace(objective, energy=replace(terms, max_power_w=max(0, most_mw) / MW_PER_W))


def _most_mw(objective: Objective) -> float:
    cap = None if objective.energy is None else objective.energy.max_power_mw
    return math.inf if cap is None else cap


def _asks_less(one: Objective, other: Objective) -> bool:
    """Whether one of two objectives, alike but for accuracy and power, allows all plans that the other one does."""
    return (one.min_accuracy or 0.0) <= (other.min_accuracy or 0.0) and _most_mw(one) >= _most_mw(other)


def _is_among(plan: Plan, objective: Objective) -> bool:
    """Whether a plan has the least accuracy, and keeps the cap on power."""
    if objective.min_accuracy is not None and (plan.accuracy or 0.0) < objective.min_accuracy:
        return False
    return (plan.figures.power_mw or 0) <= _most_mw(objective)


def _with_batches(instance: Instance, most: int) -> Instance:
    """The same request, whose plans' batch sizes are at most so much in sum."""
    families = {
        stage: replace(
            found,
            families=tuple(
                replace(family, uses=(*family.uses, Use(family.batch))) for family in found.families
            ),
        )
        for stage, found in instance.families.items()
    }
    return replace(instance, families=families, caps=(*instance.caps, Cap("batch sizes", most)))
