"""The lower bound of a round of prices, by hand: what all pipelines cost at these, less what capacities are worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import mipplan as mp
from mipplan.core import Deadline, Int64, SearchLimits
from mipplan.fleet.master import ColumnGeneration, Pool, Progress
from mipplan.fleet.pricing import Priced
from mipplan.fleet.problem import Column, FleetObjective
from mipplan.profiles import Hardware, LatencyTable

#: Two pipelines: each takes two of a device at 10 of which there are two, or one at 25 of which there is no limit.
#: So the cheapest fleet costs 20 + 25.
OPTIMUM = 45
PLANS = (Column((), (2, 0)), Column((), (0, 1)))


class HandMadeWorkers:
    """Prices both pipelines among their two plans."""

    def price(self, prices: Int64, most: Mapping[int, int | None], _: Deadline) -> dict[int, Priced]:
        """The cheapest plan of each, whatever it may cost."""
        best = min(PLANS, key=lambda column: column.cost(prices))
        return {index: Priced(best.cost(prices), (best,)) for index in most}


def bound_at(dual: int, forgone: list[int] | None = None) -> int | None:
    objective = FleetObjective(
        prices=np.array([10, 25]),
        rows=("scarce",),
        usage=np.array([[1, 0]]),
        capacity=np.array([2]),
        excess=np.array([100]),
        forgone=None if forgone is None else np.array(forgone),
    )
    generation = ColumnGeneration(
        objective,
        Pool.empty(2),
        HandMadeWorkers(),  # type: ignore[arg-type]  # no processes, no planner
        SearchLimits(Deadline.after(60)),
        after_round=lambda _: True,
        start=Progress(np.array([dual])),
    )
    generation.run()
    assert generation.progress.rounds == 1
    return generation.progress.lower_bound


@pytest.mark.parametrize(
    ("dual", "bound"),
    [
        (0, 40),  # two plans at 20, as if there were four devices
        (1, 42),  # two at 22, less 2
        (2, 44),
        (3, 44),  # at 13 a device both do without: two at 25, less 6
        (5, 40),
        (20, 10),
    ],
)
def test_bound_of_one_round_by_hand(dual: int, bound: int) -> None:
    assert bound_at(dual) == bound
    assert bound <= OPTIMUM


def test_whoever_may_be_left_out_costs_no_more_than_that() -> None:
    # Left out at 7 and at 30: 7 + min(22, 30), less 2.
    assert bound_at(1, forgone=[7, 30]) == 7 + 22 - 2


def test_what_capacities_are_worth_may_be_more_than_64_bits_hold() -> None:
    # Both pipelines at 25, less two devices at 2⁶² each.
    assert bound_at(2**62) == 2 * 25 - 2 * 2**62


def test_weights_by_a_factor_admit_the_same_pipelines() -> None:
    """Dual prices are weights: at a thousand times these, devices cost more than 64 bits hold where there are many."""
    flow = mp.Pipeline.from_document({"slo": "100ms", "stages": {"a": {"model": "m"}}})
    sizes = np.array([1, 2, 4, 8])
    times_ms = {"cpu": 5.0 + 5 * sizes, "gpu": 2.0 + sizes}
    tables = [LatencyTable("m", name, sizes, own_ms) for name, own_ms in times_ms.items()]
    profiles = mp.Profiles.from_parts([Hardware("cpu", 0.2), Hardware("gpu", 4.0)], tables)
    traces = [mp.Trace.gamma(50 + 30 * n, cv=1 + 0.3 * n, duration_s=10, seed=n) for n in range(5)]
    for weight in (1.0, 1000.0):
        asked = {str(n): (flow, trace, 0.1 - 0.01 * n, weight) for n, trace in enumerate(traces)}
        found = mp.plan_fleet(asked, profiles, budget=1.5, n_jobs=1).admission
        assert found is not None
        assert (found.weight, found.weight_bound) == (4 * weight, 4 * weight)
