"""Every planner at each of its settings on one pipeline and trace: cost, accuracy and latency of its plans."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

import mipplan as mp
from benchmarks.ipa.workload import SETUPS, traffic
from mipplan.documents import shipped_folder

#: Rates that a rival may be told: the mean, and the peaks of windows of so many seconds.
RATES: dict[str, dict[str, Any]] = {
    "mean": {},
    **{
        f"peak of {width:g} s": {"mode": "peak", "window_s": width}
        for width in (60.0, 30.0, 10.0, 5.0, 2.0, 1.0)
    },
}
#: α of IPA's program, with β = 1: dollars an hour for a whole unit of accuracy, summed over the stages.
ALPHAS = tuple(np.geomspace(0.1, 300.0, 12).round(3).tolist())
#: RIM's replicas, as multiples of those that it was given.
MULTIPLES = (0.5, 1.0, 1.5, 2.0)
#: For each of our plans by replay.
TIME_LIMIT_S = 10.0
OURS, OURS_REPLAYED, OURS_ON_DRAWS = "ours, certified", "ours, replayed", "ours, certified on three draws"
#: Of plans that cost little more than the cheapest of their accuracy, up to these shares: that, and which draws least.
WITHIN, OURS_CHEAPEST, OURS_FRUGAL = (0.01, 0.1), "ours, cheapest", "ours, least power"
#: The CPU draws half of its TDP while it is idle, for IPA measured none.
ENERGY = mp.EnergyTerms()


def measure(pipeline: str, trace: str) -> list[dict[str, Any]]:
    """Rows of all planners, those of ours last."""
    court = Court(pipeline, trace)
    return [*court.ipa(), *court.fa2(), *court.rim(), *court.ours(), *court.frugal()]


def measure_quickly(pipeline: str, trace: str) -> list[dict[str, Any]]:
    """The same with one rate, few weights, and none of our plans by replay."""
    court = Court(pipeline, trace, span_s=60.0)
    return [
        *court.ipa(ALPHAS[::6], ["mean"]),
        *court.fa2(["mean"]),
        *court.rim([1.0], ["mean"]),
        *court.certified(),
        *court.frugal(most=1),
    ]


class Court:
    """Judges plans for a pipeline on a trace by its replay, and by that of another draw of the same traffic."""

    def __init__(self, pipeline: str, trace: str, span_s: float | None = None) -> None:
        self.name, self._setup = pipeline, SETUPS[pipeline]
        self.pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / f"{pipeline}.yaml")
        self._profiles = mp.Profiles.default()
        self._traces = [traffic(trace, draw).slice(end_s=span_s) for draw in (1, 2)]
        self._known: dict[str, tuple[float, float, float]] = {}
        self._head = {"pipeline": pipeline, "trace": trace}

    @cached_property
    def given(self) -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
        """What every planner is given: the first draw."""
        return self.pipeline, self._profiles, self._traces[0]

    def ipa(
        self, alphas: tuple[float, ...] = ALPHAS, rates: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """IPA's program under every weight and rate."""
        for alpha, rate in itertools.product(alphas, rates or RATES):
            weights = mp.ipa.Weights(accuracy=alpha)
            found = mp.ipa.configure(*self.given, weights=weights, **RATES[rate])
            yield self._row("ipa", f"α = {alpha:g}", rate, found.plan)

    def fa2(self, rates: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """FA2 with the variants that IPA gave it, and with every other combination."""
        several = {
            name: stage.models for name, stage in self.pipeline.stages.items() if len(stage.models) > 1
        }
        for models, rate in itertools.product(itertools.product(*several.values()), rates or RATES):
            variants = dict(zip(several, models, strict=True))
            named = {"fa2-low": self._setup.low, "fa2-high": self._setup.high}
            method = next((name for name, own in named.items() if own == variants), "fa2, other variants")
            plan = mp.baselines.fa2(*self.given, variants=variants, **RATES[rate])
            yield self._row(method, ", ".join(models), rate, plan)

    def rim(
        self, multiples: tuple[float, ...] | list[float] = MULTIPLES, rates: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """RIM with the replicas that IPA gave it, and with more and fewer."""
        for multiple, rate in itertools.product(multiples, rates or RATES):
            replicas = {stage: max(1, round(multiple * n)) for stage, n in self._setup.replicas.items()}
            plan = mp.baselines.rim(*self.given, replicas=replicas, **RATES[rate])
            yield self._row("rim", f"replicas × {multiple:g}", rate, plan)

    def ours(self) -> Iterator[dict[str, Any]]:
        """Our front by the certificate, then the one by replays."""
        yield from self.certified()
        others = [traffic(self._head["trace"], draw) for draw in (3, 4)]
        yield from self._front(OURS_ON_DRAWS, [self._traces[0], *others])
        floor = 0.0
        while floor <= 1.0:
            started = time.process_time()
            asked = {"accuracy": floor} if floor else {}
            plan = mp.plan(*self.given, guarantee="replay", time_limit_s=TIME_LIMIT_S, **asked)
            if not plan.choices or plan.accuracy is None:
                return
            yield self._row(OURS_REPLAYED, str(plan.status), "", plan, time.process_time() - started)
            floor = plan.accuracy + 1e-6

    def certified(self) -> Iterator[dict[str, Any]]:
        """Our front by the certificate."""
        yield from self._front(OURS, self._traces[0])

    def frugal(self, most: int = 5) -> Iterator[dict[str, Any]]:
        """The cheapest plan of some accuracies of our front, and of those that cost a little more the least power."""
        front = mp.pareto(*self.given, time_limit_s=120.0).plans
        places = np.linspace(0, len(front) - 1, most).round().astype(int).tolist()
        for place, within in itertools.product(dict.fromkeys(places), WITHIN):
            started, asked = time.process_time(), {"accuracy": front[place].accuracy, "energy": ENERGY}
            menu = mp.menu(*self.given, by="energy", within=within, most=200, time_limit_s=60.0, **asked)
            if menu.plans:
                setting, taken_s = f"place {place}, {within:.0%}", time.process_time() - started
                yield self._row(OURS_CHEAPEST, setting, "", menu.plans[0])
                yield self._row(OURS_FRUGAL, setting, "", menu.plans[-1], taken_s)

    def _front(self, method: str, trace: mp.Trace | list[mp.Trace]) -> Iterator[dict[str, Any]]:
        started = time.process_time()
        front = mp.pareto(*self.given[:2], trace, time_limit_s=120.0)
        taken_s = (time.process_time() - started) / max(1, len(front.plans))
        for plan in front.plans:
            yield self._row(method, "complete" if front.complete else "stopped", "", plan, taken_s)

    def _row(
        self, method: str, setting: str, rate: str, plan: mp.Plan, taken_s: float = 0.0
    ) -> dict[str, Any]:
        row = {**self._head, "method": method, "setting": setting, "rate": rate, "status": str(plan.status)}
        if not plan.choices:
            return {
                **row,
                "usd": None,
                "accuracy": None,
                "p99_s": None,
                "p99_again_s": None,
                "j_per_thousand": None,
                "taken_s": taken_s,
            }
        key = str(plan.choices)
        if key not in self._known:
            judged = mp.Plan.from_choices(
                self.pipeline, self._profiles, plan.choices, slo_s=plan.slo_s, seed=plan.seed, energy=ENERGY
            )
            first, again = (mp.replay(judged, trace) for trace in self._traces)
            assert first.energy is not None
            seen = first.quantile(plan.quantile), again.quantile(plan.quantile), first.energy.j_per_thousand
            self._known[key] = seen
        p99_s, again_s, j_per_thousand = self._known[key]
        figures = {
            "usd": plan.usd_per_hour,
            "accuracy": plan.accuracy,
            "p99_s": p99_s,
            "p99_again_s": again_s,
            "j_per_thousand": j_per_thousand,
        }
        return {**row, **figures, "slo_s": self.pipeline.slo_s, "taken_s": round(taken_s, 3)}
