"""Pricing where all stages of a pipeline are timed: its plans are found by replays, not by what stages serve.

Each price is a refinement of its own (`mipplan.refinement`), whose lower bound counts where its time is up. What is
kept from price to price are the plans found, of which the cheapest is where the next one begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NO_DEADLINE, Deadline, Int64, SearchLimits
from mipplan.fleet.pricing.certified import Priced
from mipplan.fleet.pricing.tables import PricingState
from mipplan.fleet.problem import Column, ReplayedMember
from mipplan.profiles import Profiles
from mipplan.refinement import OPTIMAL, Refining
from mipplan.result import Choice, Figures, Limit, Plan, PlanStatus
from mipplan.tokens import Sample

#: Prices above this, in micro-dollars per hour, are scaled down: weights make prices that no profile may have.
_MOST = 10**11
#: Of the time left, what one price may take.
_SHARE = 0.2


@dataclass(eq=False)
class ReplayedPricing:
    """One timed pipeline, ready to be priced. Devices are counted in the order of `hardware`."""

    member: ReplayedMember
    hardware: tuple[str, ...]
    state: PricingState = field(default_factory=PricingState)
    deadline: Deadline = NO_DEADLINE

    def __post_init__(self) -> None:
        self.tokens = 0
        self._known: list[Column] = []

    def price(self, prices: Int64, most: int | None) -> Priced:
        """Find the cheapest plan under prices of one device of each type, shape (H,), not negative.

        Only plans that cost at most `most` are of interest. Raises `LimitReachedError` if there is no time at all.
        """
        self.deadline.check()
        scale = max(1, math.ceil(int(prices.max()) / _MOST))
        asked = np.maximum(prices // scale, 1)
        # What is free has a price here, too: by so much a plan may cost more here than it does.
        added = self.member.most_replicas if bool((prices < scale).any()) else 0
        below = None if most is None else most // scale + added + 1
        found = self._search(asked, below)
        if found.limit is Limit.INTERRUPT:
            raise KeyboardInterrupt
        if found.status is PlanStatus.INFEASIBLE:
            return Priced(0, feasible=False)
        least = max(0, (found.lower_bound_microusd_per_hour or 0) - added) * scale
        if most is not None:
            least = min(least, most + 1)
        if not found.choices:
            return Priced(least)
        column = self._column(found.choices)
        if column not in self._known:
            self._known.append(column)
        return Priced(min(least, column.cost(prices)), (column,))

    def price_all(self, prices: Int64, most: int) -> Priced:  # noqa: ARG002  # as every pricing
        """All plans within a cost are never listed: each would take a search."""
        return Priced(0, complete=False)

    def _search(self, prices: Int64, below: int | None) -> Plan:
        """Refine under these prices; the plan is infeasible only if there is none whatever the prices are."""
        member = self.member
        start = min(self._known, key=lambda column: column.cost(prices), default=None)
        choices: Mapping[str, Choice] = {}
        if start is not None and (below is None or start.cost(prices) < below):
            choices = dict(zip(member.asked.pipeline.stages, start.choices, strict=True))
        by_name, held = dict(zip(self.hardware, prices.tolist(), strict=True)), member.asked.profiles
        devices = [
            replace(device, usd_per_hour=by_name[name] / MICRODOLLARS_PER_DOLLAR)
            for name, device in held.hardware.items()
        ]
        profiles = Profiles.from_parts(devices, held.tables.values())
        asked = replace(member.asked, profiles=profiles, choices=choices, figures=Figures())
        limits = SearchLimits(self.deadline.share(_SHARE))
        search = _Search(asked, [Sample(member.trace, asked.seed)], asked.discipline, "auto", limits)
        search.below = below
        return search.run()

    def _column(self, choices: Mapping[str, Choice]) -> Column:
        used = dict.fromkeys(self.hardware, 0)
        for choice in choices.values():
            used[choice.hardware] += choice.replicas
        ordered = tuple(choices[stage] for stage in self.member.asked.pipeline.stages)
        return Column(ordered, tuple(used.values()))

    def forget_instance(self) -> None:
        """Nothing is at hand between prices."""

    forget_exits = forget_instance

    def recall(self, state: PricingState) -> None:
        """Take on what was learnt elsewhere: nothing is."""
        self.state = state


class _Search(Refining):
    """A refinement for plans that cost less than something, without what people read of its plan."""

    below: int | None = None

    def _budget(self) -> int:
        own = super()._budget()
        return own if self.below is None else min(own, self.below)

    def _advised(self, made: Plan) -> Plan:
        return made

    def _concluded(self, proof: str | None, why: str | None = None) -> Plan:
        nothing = proof == OPTIMAL and not self._choices and (self.below is None or why is not None)
        return replace(
            self.base,
            choices=self._choices,
            status=PlanStatus.INFEASIBLE if nothing else PlanStatus.UNKNOWN,
            reason=why,
            figures=Figures(lower_bound_microusd_per_hour=self._lower_bound),
            limit=None if proof == OPTIMAL else self._stopped,
        )
