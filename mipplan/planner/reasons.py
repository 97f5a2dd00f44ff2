"""Why there is no plan, with figures that were computed for this request, and what would work instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import NS_PER_MS, NS_PER_S, format_duration
from mipplan.options import StageFamilies
from mipplan.planner.feasibility import AnyPlan, Feasibility
from mipplan.planner.instance import Instance
from mipplan.planner.request import Request
from mipplan.result import step_text

#: The highest rate that works is found in whole percents of the trace's: what is named was tried, not rounded.
_WHOLE = 100


@dataclass(frozen=True)
class Diagnosis:
    """Explains an infeasible request.

    Attributes
    ----------
    request : Request
    instance : Instance
        The request realised.
    feasibility : Feasibility
    """

    request: Request
    instance: Instance
    feasibility: Feasibility

    def reason(self) -> str:
        """Everything that could be found out in the time there is, most useful first."""
        parts = [*_blocked_stages(self.instance.families, self._demand_rps())]
        if not parts:
            parts.append(f"no configuration can be certified to keep {self.request.objective}")
            parts += self._smallest_objective()
        parts += self._binding_limits()
        parts += self._highest_rate()
        return ". ".join(parts)

    def _demand_rps(self) -> dict[str, float]:
        return {stage: float(demand * NS_PER_S) for stage, demand in self.instance.demand.items()}

    def _smallest_objective(self) -> list[str]:
        smallest = self.feasibility.smallest_deadline(self.instance)
        if smallest is None:
            return []
        certificate_ns = smallest.plan.certificate_ns
        path = " → ".join(
            step_text(step) for step in self.instance.oracle.critical_path(smallest.plan.services())
        )
        kind = "fastest reachable" if smallest.proven else "fastest certificate found in time"
        noun = " certificate" if smallest.proven else ""
        asked = math.ceil((certificate_ns + self.request.margin_ns) / NS_PER_MS)
        return [
            f"The {kind}{noun} is {format_duration(certificate_ns)} (critical path: {path})",
            f"Ask for at least {asked}ms, or add faster hardware or smaller batches on that path",
        ]

    def _binding_limits(self) -> list[str]:
        """Limits any one of which, if it were lifted alone, would let a plan be certified."""
        candidates: dict[str, Instance] = {
            f"the limit of {limit} on {name}": self.request.without_limit(self.instance, name)
            for name, limit in self.instance.limits.items()
        }
        candidates["the stages' replica limits"] = self.request.without_limit(self.instance, None)
        binding = [
            name for name, relaxed in candidates.items() if self.feasibility.find(relaxed)[0] is not None
        ]
        if not binding:
            return []
        verb = "bind" if len(binding) > 1 or binding[0].endswith("s") else "binds"
        return [f"What {verb}: {'; '.join(binding)} (with any one of these lifted it would work)"]

    def _highest_rate(self) -> list[str]:
        """Largest share of the traffic for which a plan can be certified, by bisection.

        The tokens are those of the trace at every rate, and a plan found at one rate is tried first at the next.
        """
        low, high = 0, _WHOLE
        known: AnyPlan | None = None
        while high - low > 1:
            middle = (low + high) // 2
            plan, outcome = self.feasibility.find(self.request.instance(middle / _WHOLE), known)
            if plan is not None:
                low, known = middle, plan
            elif outcome.finished:
                high = middle
            else:
                break
        if low == 0:
            return []
        rate_rps = low / _WHOLE * self.request.trace.rate_rps
        return [f"At {low}% of the traffic ({rate_rps:.4g} queries/s) it would work"]


def _blocked_stages(families: Mapping[str, StageFamilies], demand_rps: Mapping[str, float]) -> list[str]:
    """Name every stage that nothing can carry, and why each of its options fell out."""
    return [
        f"no hardware can carry stage {stage!r} at {demand_rps[stage]:.4g} tokens/s: "
        + ("; ".join(found.rejected) or "no hardware is admitted")
        for stage, found in families.items()
        if not found.families
    ]
