"""What is known of a plan: how much is proven, what stopped the search, cost and latency."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PlanStatus(StrEnum):
    """How much is proven about a plan."""

    OPTIMAL = "optimal"
    """The cheapest certified plan of the option set; proven. Of a refined plan (guarantee ``replay``): the cheapest
    whose replay keeps the objective."""
    FEASIBLE = "feasible"
    """Certified, but a limit was hit before it was proven cheapest: compare cost and lower bound."""
    INFEASIBLE = "infeasible"
    """Proven: no plan of the option set can be certified; `reason` says why."""
    UNKNOWN = "unknown"
    """A limit was hit before any plan was found or excluded."""
    GIVEN = "given"
    """Made from choices by `Plan.from_choices`, or by a baseline's rule; nothing is proven about it."""


class Limit(StrEnum):
    """What stopped a search before it was done."""

    TIME = "time"
    """The time limit."""
    INTERRUPT = "interrupt"
    """Ctrl-C."""


@dataclass(frozen=True)
class Figures:
    """Figures of a plan, whole numbers; None where there is no such figure.

    Attributes
    ----------
    microusd_per_hour : int or None
        Cost.
    lower_bound_microusd_per_hour : int or None
        Proven: no certified plan (of a refined one: none that replays within the objective) costs less.
    bound_ns : int or None
        The latency bound used inside the MILP, a relaxation of the certificate.
    certificate_ns : int or None
        The certified latency quantile on the trace planned for.
    """

    microusd_per_hour: int | None = None
    lower_bound_microusd_per_hour: int | None = None
    bound_ns: int | None = None
    certificate_ns: int | None = None
