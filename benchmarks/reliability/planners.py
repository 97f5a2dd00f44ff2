"""Who plans, each at every setting of its own grid; limits are in processor time, whatever else the machine does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mipplan as mp
from benchmarks.compare.planners import CERTIFIED, DISCIPLINE, GREEDY, GREEDY_LIMIT_S, REFINED
from benchmarks.reliability.traffic import Case
from mipplan import baselines

OURS = "ours"
CONFIDENCES = (0.9, 0.95, 0.99)
#: Of processor time.
CERTIFIED_LIMIT_S, REFINED_LIMIT_S = 5.0, 2.0
#: The higher the confidence, the more scenarios: 20 + 29, 40 + 59 and 200 + 299.
OURS_LIMIT_S: Mapping[float, float] = {0.9: 15.0, 0.95: 20.0, 0.99: 40.0}


@dataclass(frozen=True)
class Setting:
    """One point of a planner's grid: what it plans for instead of the objective and the traffic that it is given.

    Attributes
    ----------
    planner : str
    of_slo : float
        Share of the objective to plan for; above 1 it plans for a longer one, as a certificate can afford.
    headroom : float
        Multiple of the sample's traffic to plan for.
    confidence : float or None
        Of ours.
    """

    planner: str
    of_slo: float = 1.0
    headroom: float = 1.0
    confidence: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is kept back."""
        return self.of_slo == self.headroom == 1.0 and self.confidence is None

    @property
    def text(self) -> str:
        """How tables call it."""
        if self.confidence is not None:
            return f"confidence {self.confidence:g}"
        parts = [f"objective × {self.of_slo:g}"] if self.of_slo != 1.0 else []
        parts += [f"headroom {self.headroom:g}"] if self.headroom != 1.0 else []
        return ", ".join(parts) or "as it is"


def _grid(
    planner: str, shares: tuple[float, ...], headrooms: tuple[float, ...], *both: tuple[float, float]
) -> list[Setting]:
    return [
        Setting(planner),
        *(Setting(planner, of_slo=share) for share in shares),
        *(Setting(planner, headroom=headroom) for headroom in headrooms),
        *(Setting(planner, share, headroom) for share, headroom in both),
    ]


#: Greedy and refined plans miss tomorrow, so something is kept back; certificates are far above the replay, so more is
#: allowed.
SETTINGS: tuple[Setting, ...] = (
    *_grid(GREEDY, (0.95, 0.9, 0.85, 0.8, 0.7), (1.05, 1.1, 1.25, 1.5), (0.9, 1.1)),
    *_grid(REFINED, (0.95, 0.9, 0.8), (1.1, 1.25), (0.9, 1.1)),
    *_grid(CERTIFIED, (2.5, 2.0, 1.5, 1.25), (1.1, 1.25), (1.5, 1.25)),
    *(Setting(OURS, confidence=confidence) for confidence in CONFIDENCES),
)


def _greedy(case: Case, sample: mp.Trace, slo_s: float, setting: Setting) -> mp.Plan:  # noqa: ARG001
    return baselines.inferline(case.pipeline, case.profiles, sample, slo_s=slo_s, time_limit_s=GREEDY_LIMIT_S)


def _certified(case: Case, sample: mp.Trace, slo_s: float, setting: Setting) -> mp.Plan:  # noqa: ARG001
    return mp.plan(case.pipeline, case.profiles, sample, slo_s=slo_s, time_limit_s=CERTIFIED_LIMIT_S)


def _refined(case: Case, sample: mp.Trace, slo_s: float, setting: Setting) -> mp.Plan:
    """Refine the certified plan of the same setting; its time counts for both."""
    start = _certified(case, sample, slo_s, setting)
    return mp.refine(start, sample, discipline=DISCIPLINE, time_limit_s=REFINED_LIMIT_S)


def _ours(case: Case, sample: mp.Trace, slo_s: float, setting: Setting) -> mp.Plan:
    if setting.confidence is None:
        raise AssertionError("ours is asked for with a confidence")
    return mp.plan(
        case.pipeline,
        case.profiles,
        sample,
        slo_s=slo_s,
        guarantee="reliable",
        confidence=setting.confidence,
        discipline=DISCIPLINE,
        time_limit_s=OURS_LIMIT_S[setting.confidence],
    )


_PLANNERS: Mapping[str, Callable[[Case, mp.Trace, float, Setting], mp.Plan]] = {
    GREEDY: _greedy,
    REFINED: _refined,
    CERTIFIED: _certified,
    OURS: _ours,
}


def make_plan(case: Case, setting: Setting) -> mp.Plan:
    """Have a planner plan at a setting; it sees the sample and nothing else."""
    sample = case.sample if setting.headroom == 1.0 else case.sample.scale(setting.headroom)
    return _PLANNERS[setting.planner](case, sample, setting.of_slo * case.slo_s, setting)
