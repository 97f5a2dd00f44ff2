"""How a plan does on each sample of the traffic: on those it was made for, and in the test on fresh scenarios.

The records, and their parts of a plan file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from mipplan.core import format_duration
from mipplan.documents import StrictEntry

#: Every count of scenarios in a plan file.
#: Of any count in a plan: replicas, a batch cap, scenarios.
MOST_COUNT = 10**9
_COUNT = Field(ge=0, le=MOST_COUNT)
_SHARE = Field(ge=0, le=1)


@dataclass(frozen=True)
class SampleFigure:
    """The certificate of a plan on one of several samples: a trace with a draw of its tokens."""

    name: str
    """Of the trace, with the seed where there are several draws: ``friday, seed 3``."""
    trace: int
    """Which of `Plan.traces`."""
    seed: int
    certificate_ns: int | None
    """Certified latency quantile on this sample; None where nothing is certified."""

    @property
    def text(self) -> str:
        """The sample and its certificate, in words."""
        certified_ns = self.certificate_ns
        return self.name if certified_ns is None else f"{self.name}: {format_duration(certified_ns)}"


def worst_sample(samples: Sequence[SampleFigure]) -> SampleFigure | None:
    """The first of the samples with the greatest certificate; None if there are none."""
    return max(samples, key=lambda sample: sample.certificate_ns or 0, default=None)


class SampleDocument(StrictEntry):
    """The certificate on one of several samples in a plan file."""

    name: str
    trace: int = _COUNT
    seed: int = Field(ge=0)
    certificate_ns: int | None = Field(ge=0, le=2**62)


@dataclass(frozen=True)
class WorstScenario:
    """The fresh scenario with the largest latency quantile, and what it was made of."""

    number: int
    """Among the scenarios of its test, from 0."""
    trace: str
    """Name of the trace that it was resampled from."""
    rate: float
    """What the drift multiplied that trace's rate by."""
    quantile_ns: int
    """The plan's latency quantile there."""
    stage: str | None
    """Where the queries beyond that quantile waited longest; None if they waited nowhere."""

    def text(self, name: str) -> str:
        """Say what it was and what broke there, given the name of the quantile."""
        waits = "nothing waits" if self.stage is None else f"stage {self.stage} waits"
        rate = f"rate {100 * (self.rate - 1):+.0f} %"
        return f"scenario {self.number} ({rate}), {name} {format_duration(self.quantile_ns)}, {waits}"


@dataclass(frozen=True)
class Reliability:
    """Test of a plan on fresh scenarios, which had no part in choosing it.

    What is claimed: the scenarios are independent draws of one stated generator, so the number kept is binomial, and
    `low` to `high` holds the share of *all* its scenarios that the plan keeps. How well the generator describes
    tomorrow is not part of the claim.
    """

    confidence: float
    """The share of scenarios that was asked for."""
    scenarios: int = 0
    """Fresh scenarios that the plan was tested on; 0 if it was not tested."""
    kept: int = 0
    """Of these, the scenarios in which it kept the objective."""
    low: float = 0.0
    high: float = 1.0
    """Exact (Clopper–Pearson) interval of the share of all scenarios kept: with probability 95 % every interval that
    the tests of one search gave holds its plan's share."""
    fastest_rps: float = 0.0
    """Largest mean rate among these fresh scenarios, in queries per second: of faster traffic the test says nothing."""
    tests: int = 0
    """Plans tested in this search, this one included; each on scenarios of its own."""
    chosen_on: int = 0
    """Scenarios that the plan was chosen on, and keeps, the given traces included."""
    left_out: int = 0
    """Scenarios that were drawn to choose on and left out, since no plan that was tried keeps them."""
    drift: float = 0.0
    """Standard deviation of the logarithm of a scenario's rate."""
    blocks: tuple[float, ...] = ()
    """Mean length of the resampled blocks, in queries, of every trace given."""
    noise: bool = False
    """Whether service times were drawn, at stages whose profile has a P99."""
    worst: WorstScenario | None = None

    @property
    def share(self) -> float | None:
        """Share of the fresh scenarios kept; None if there were none."""
        return self.kept / self.scenarios if self.scenarios else None

    @property
    def interval(self) -> str:
        """From `low` to `high` in percent, rounded outwards: ``85–100 %``."""
        return f"{math.floor(100 * self.low)}–{math.ceil(100 * self.high)} %"

    @property
    def passed(self) -> bool:
        """Whether the plan kept at least the share asked for."""
        least = round(self.confidence * self.scenarios, 6)  # 55 of 100 are enough for 0.55
        return bool(self.scenarios) and self.kept >= least

    def text(self, name: str) -> str:
        """Say how the test went, in a line, given the name of the quantile."""
        if not self.scenarios:
            return f"not tested (asked for: {100 * self.confidence:g} % of scenarios)"
        share, interval = 100 * self.kept / self.scenarios, f"95 % interval {self.interval}"
        verdict = "" if self.passed else f", fewer than the {100 * self.confidence:g} % asked for"
        worst = "" if self.worst is None else f"; worst: {self.worst.text(name)}"
        return f"kept in {self.kept} of {self.scenarios} fresh scenarios ({share:.0f} %; {interval}){verdict}{worst}"


class WorstDocument(StrictEntry):
    """The worst scenario in a plan file."""

    number: int = _COUNT
    trace: str
    rate: float = Field(gt=0, allow_inf_nan=False)
    quantile_ns: int = Field(ge=0, le=2**62)
    stage: str | None


class ReliabilityDocument(StrictEntry):
    """The test on fresh scenarios in a plan file."""

    confidence: float = Field(gt=0, lt=1)
    scenarios: int = _COUNT
    kept: int = _COUNT
    low: float = _SHARE
    high: float = _SHARE
    fastest_rps: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # Files of before have none.
    tests: int = _COUNT
    chosen_on: int = _COUNT
    left_out: int = _COUNT
    drift: float = Field(ge=0, allow_inf_nan=False)
    blocks: list[float]
    noise: bool
    worst: WorstDocument | None

    def reliability(self) -> Reliability:
        """Return what it says."""
        held = self.model_dump() | {"blocks": tuple(self.blocks)}
        worst = None if self.worst is None else WorstScenario(**self.worst.model_dump())
        return Reliability(**held | {"worst": worst})
