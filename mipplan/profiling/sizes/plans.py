"""Measures what could change a plan: batch sizes are chosen by planning with the least that they could take."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mipplan.core import MICRODOLLARS_PER_DOLLAR, InputError, Report, listed
from mipplan.documents import files_in, is_there
from mipplan.profiles import Hardware, Profiles, read_hardware
from mipplan.profiling.measuring import BatchMeasurement
from mipplan.profiling.sizes.choosing import EnoughSizes, NextSize
from mipplan.profiling.sizes.gaps import KnownLatency, known_latency
from mipplan.profiling.sizes.question import LEAST_MS, OpenGap, PlanQuestion, Row, Rows
from mipplan.result import Plan, PlanStatus


@dataclass(frozen=True)
class PlanSizes:
    """Measures what could change the plan, and stops when nothing could.

    After each size two plans are made: with what is measured, and with the optimistic table. If they cost the same, no
    further size can make the plan cheaper (the theorem above). Otherwise the optimistic plan uses a size that was not
    measured, and one of the gap that it lies in comes next.
    """

    question: PlanQuestion
    latency: str  # Which latency the table is to hold.
    report: Report = lambda _: None

    @classmethod
    def of(
        cls,
        about: object,
        trace: object,
        profiles: Profiles | None,
        model: str,
        hardware: str,
        usd_per_hour: float | None,
        max_batch: int | None,
        root: Path | None,
        latency: str,
        report: Report,
    ) -> PlanSizes:
        """Pose the question for a profile folder that is measured into.

        The price is that of the folder, else the plan's, else as given; without profiles those of the folder count.

        Raises `InputError` as `PlanQuestion.of`, or if there is no price.
        """
        file = None if root is None else root / "hardware.yaml"
        prices = {} if file is None or not is_there(file) else {one.name: one for one in read_hardware(file)}
        known = about.profiles if isinstance(about, Plan) else profiles
        if known is None and root is not None and files_in(root / "models", ".csv"):
            known = profiles = Profiles.read(root)
        if root is not None and usd_per_hour is not None and hardware not in prices:
            prices[hardware] = Hardware(hardware, usd_per_hour)  # the folder is about to hold it
        device = prices.get(hardware) or (None if known is None else known.hardware.get(hardware))
        if device is None and usd_per_hour is None:
            message = f"say what one {hardware} costs in $/h: it decides which plan is the cheapest"
            raise InputError.one("usd_per_hour", message)
        device = device or Hardware(hardware, usd_per_hour or 0.0)
        return cls(PlanQuestion.of(about, trace, profiles, model, device, max_batch), latency, report)

    def next(
        self, found: Mapping[int, BatchMeasurement], failed: Mapping[int, float]
    ) -> NextSize | EnoughSizes:
        """Plan with the least that is possible; measure what that plan would like to use."""
        rows = self._rows(found, lambda one: one.value)
        gaps = list(self.question.open_gaps(rows, failed))
        first = min(min(sizes) for sizes in self.question.candidates.values())
        if rows and first < min(rows) and first not in failed:
            return NextSize(first, f"the smallest that {self._stages()} may use", 1)
        if not rows and failed:  # such as a model that takes batches of 8 and nothing else
            larger = [size for gap in gaps for size in gap.inside if size >= 2 * max(failed)]
            return NextSize(min(larger), "those before failed", 1) if larger else EnoughSizes("")
        self.report("planning with what is known so far, to see which size could change the plan")
        today = self.question.plan(rows)
        best = self.question.plan(self.question.optimistic(rows, gaps)) if gaps else today
        least, cost = best.lower_bound_microusd_per_hour, today.microusd_per_hour
        if best.status is PlanStatus.INFEASIBLE:
            return EnoughSizes(
                f"no batch size of {self.question.model} on {self.question.hardware.name} can make a plan: even if "
                "those not measured took as little as possible, none would keep the objective"
            )
        if cost is not None and least is not None and cost <= least:
            return EnoughSizes(self._verdict(today, bool(gaps), found, failed))
        if not gaps:
            return EnoughSizes("all sizes are measured, and there is no plan that is proven the cheapest")
        gap = max(self._used(best, gaps) or gaps, key=lambda gap: self._spread(gap, rows))
        price = f"{best.usd_per_hour:.4g} $/h" if best.usd_per_hour is not None else "an unknown price"
        instead = "none so far" if today.usd_per_hour is None else f"{today.usd_per_hour:.4g} $/h"
        why = f"{gap} could give a plan for {price} (now {instead})"
        return NextSize(gap.next, why, gap.left)

    def _used(self, plan: Plan, gaps: Collection[OpenGap]) -> list[OpenGap]:
        """Those gaps that a plan takes a batch size from."""
        name, choices = self.question.hardware.name, plan.choices
        own = {stage: choice.batch for stage, choice in choices.items() if choice.hardware == name}
        return [gap for gap in gaps if own.get(gap.stage) in gap.inside]

    def _spread(self, gap: OpenGap, rows: Rows) -> float:
        """How much the latency in a gap is open, as a factor."""
        if gap.low is None or gap.high is None:
            return math.inf
        ends = (rows[gap.low].latency_ms, rows[gap.high].latency_ms)
        return max(ends) / min(ends)

    def _rows(
        self, found: Mapping[int, BatchMeasurement], end: Callable[[KnownLatency], float]
    ) -> dict[int, Row]:
        """The table as it will be written, or with other ends of the intervals."""
        return {
            batch: Row(max(round(end(known_latency(one, self.latency)), 6), LEAST_MS), one.memory_gib)
            for batch, one in found.items()
        }

    def _verdict(
        self, today: Plan, are_open: bool, found: Mapping[int, BatchMeasurement], failed: Collection[int]
    ) -> str:
        chosen = ", ".join(
            f"{stage}: {choice.replicas} × {choice.hardware}, batch {choice.batch}"
            for stage, choice in today.choices.items()
            if stage in self.question.candidates
        )
        told = f"no further batch size can make the plan cheaper than {today.usd_per_hour:.4g} $/h ({chosen})"
        if not found:
            return f"{told}: even if {self.question.model} took no time on {self.question.hardware.name}"
        if are_open:
            told += ", if each takes no less time than the faster of its measured neighbours"
        larger = [batch for batch in failed if batch > max(found)]
        if larger:
            told += f", and batches larger than {min(larger)}, which failed, would fail too"
        return f"{told}; {self._noise(found)}"

    def _noise(self, found: Mapping[int, BatchMeasurement]) -> str:
        """Say whether the intervals of what was measured leave the plan open."""
        low = self.question.plan(self._rows(found, lambda one: one.low))
        high = self.question.plan(self._rows(found, lambda one: one.high))
        least = low.lower_bound_microusd_per_hour
        cheapest = "an unknown price" if least is None else f"{least / MICRODOLLARS_PER_DOLLAR:.4g} $/h"
        if high.microusd_per_hour is None:
            return (
                f"within the intervals of the latencies it costs from {cheapest} to no plan at all: measure them "
                "longer or more precisely"
            )
        if least is not None and high.microusd_per_hour <= least:
            return "nor do the intervals of the latencies leave its cost open"
        return (
            f"within the intervals of the latencies it costs from {cheapest} to {high.usd_per_hour:.4g} $/h: measure "
            "them longer or more precisely"
        )

    def _stages(self) -> str:
        return listed(list(self.question.candidates))
